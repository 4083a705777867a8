"""The relay's catch-up from Postgres, page after page, also when it is killed in the middle of it. The checker, after each test,
sees that versions first show in order and that repeats have the same bytes."""

import concurrent.futures

import pytest

from lib.util import wait_until

SIGN_UPS = 3500  # of one campaign, so of one shard: several pages, the next one read while one is sent


def sign_up_many(env, api, count):
    """Returns the number of events in the end, all of them in Kafka."""
    campaign = api.create_campaign()["campaign_id"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for answer in pool.map(lambda i: api.signup(campaign, f"u{i}@example.com"), range(count)):
            assert answer.status == 201
    wait_until(lambda: caught_up(env), 30, "all is in Kafka")
    return env.value("select max(seq) from events")


def caught_up(env):
    return env.value("select (select max(seq) from relay_cursors) = (select max(seq) from events)")


@pytest.mark.settings(GROUPS_ENABLED="none")
def test_catch_up_page_after_page(env, service, api):
    events = sign_up_many(env, api, SIGN_UPS)
    service.stop()
    first = [r.value for r in env.records()]
    assert len(first) == events
    env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
    service.start(ready=False, RELAY_SAVE_MS=10)
    wait_until(lambda: len(env.records()) > events, 20, "the first ones show again")
    service.kill9()
    service.start()
    wait_until(lambda: caught_up(env), 30, "the cursor is at the end again")
    assert service.metric("tidings_relay_events_total", source="memory") == 0
    again = [r.value for r in env.records()][events:]
    assert len(again) >= events and set(again) == set(first)


@pytest.mark.settings(GROUPS_ENABLED="none", RELAY_WINDOW_BYTES=65536)
def test_catch_up_through_a_small_window(env, service, api):
    """Far fewer events fit than a page has: nothing is skipped, nothing is sent twice."""
    events = sign_up_many(env, api, 1000)
    service.stop()
    env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
    service.start()
    wait_until(lambda: caught_up(env), 30, "the cursor is at the end again")
    again = [r.value for r in env.records()][events:]
    assert len(again) == events == len(set(again))
