"""Revoked API keys: every process hears of it through Kafka; a time limit holds where it does not."""

import json
import threading
import time
import uuid

from confluent_kafka.admin import NewPartitions

from lib.util import SLOWNESS, wait_until
from lib.verify import execute

LONG = 600000


def new_key(env):
    """(key_id, key) of another secret key of the account."""
    lines = env.run("keys", "create", "--account", env.account_id).splitlines()
    made = dict(line.split("=", 1) for line in lines)
    return made["key_id"], made["api_key"]


def status(api, key):
    return api.request("GET", "/v1/campaigns?limit=1", key=key).status


def test_revoked_in_all_processes(make_env):
    """Nothing but the event ends what the caches hold: their lives are long."""
    env = make_env(settings={"KEY_CACHE_MS": LONG, "KEY_CACHE_LIVE_MS": LONG, "GROUPS_ENABLED": "none"})
    services = [env.start(ready=False) for _ in range(3)]
    for service in services:
        service.wait_ready()
    for service in services:
        service.wait_keys_stay()
    apis = [env.api(s) for s in services]
    key_id, key = new_key(env)
    assert [status(api, key) for api in apis] == [200] * 3
    begin = time.monotonic()
    refused = {}

    def watch(number):
        while time.monotonic() - begin < 20 * SLOWNESS:
            if status(apis[number], key) == 401:
                refused[number] = time.monotonic()
                return

    threads = [threading.Thread(target=watch, args=(n,)) for n in range(3)]
    env.run("keys", "revoke", key_id)
    committed = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3, f"refused by {sorted(refused)} of the processes 0, 1, 2"
    staleness = [round((refused[n] - committed) * 1000) for n in range(3)]
    print(f"revoked, then refused after {staleness} ms")
    assert max(staleness) < 5000 * SLOWNESS, staleness
    assert all(s.metric("tidings_cache_invalidations_total", type="api_key.revoked") >= 1 for s in services)
    assert all(status(api, "secret") == 200 for api in apis)
    # A second time there is nothing to say, and nothing is said.
    env.run("keys", "revoke", key_id)
    assert env.query("select count(*)::int, min(data) from events where type = 16") == [(1, f'{{"key_id":"{key_id}"}}')]


def test_a_lookup_in_flight_does_not_revive(make_env, make_proxy):
    """The answer of a lookup is held up until after the revocation was heard of. Who asked gets it; the next one is refused."""
    # Nobody but the lookup asks anything for a while: it is seen as what the connection has last done.
    env = make_env(settings={"KEY_CACHE_MS": LONG, "KEY_CACHE_LIVE_MS": LONG, "GROUPS_ENABLED": "none", "SAGA_POLL_MS": LONG})
    proxy = make_proxy(env.postgres.port)
    held = env.start(DATABASE_URL=env.postgres.url_for(env.database, proxy.port), READ_CONNECTIONS=1, DB_STALL_MS=60000)
    other = env.start()
    for service in (held, other):
        service.wait_keys_stay()
    wait_until(lambda: other.metric("tidings_relays") == 2, 20, "each knows of the other")
    api = env.api(held)
    key_id, key = new_key(env)
    answers = []
    proxy.hang("to_client")
    thread = threading.Thread(target=lambda: answers.append(status(api, key)))
    thread.start()
    executed = """select count(*) from pg_stat_activity where datname = current_database() and query like '%%read_api_key(decode%%'
                  and state = 'idle' and query_start > now() - interval '1 hour' and pid <> pg_backend_pid()"""
    wait_until(lambda: env.value(executed) >= 1, 20, "the lookup has read the key")
    env.run("keys", "revoke", key_id)
    # The shard's relay may be the one that hangs: then the other one takes it over first.
    wait_until(lambda: held.metric("tidings_cache_invalidations_total") >= 1, 30, "the revocation is heard of")
    assert answers == []
    proxy.heal()
    thread.join()
    assert answers == [200]
    assert status(api, key) == 401


def test_without_kafka_the_time_limit_holds(make_env, own_kafka):
    env = make_env(settings={"KEY_CACHE_MS": 300, "KEY_CACHE_LIVE_MS": LONG, "GROUPS_ENABLED": "none"}, kafka=own_kafka)
    service = env.start()
    service.wait_keys_stay()
    api = env.api()
    (first_id, first), (second_id, second) = new_key(env), new_key(env)
    assert status(api, first) == status(api, second) == 200
    own_kafka.pause()
    wait_until(lambda: service.metric("tidings_cache_invalidations_live") == 0, 20, "it is noticed that nothing is heard of")
    env.run("keys", "revoke", first_id)
    wait_until(lambda: status(api, first) == 401, 5, "the key is refused")
    # What happened meanwhile is heard of, or was forgotten, when it is back.
    assert status(api, second) == 200
    env.run("keys", "revoke", second_id)
    own_kafka.resume()
    wait_until(lambda: status(api, second) == 401, 20, "the other key is refused")
    service.wait_keys_stay()
    assert status(api, second) == 401


def test_partitions_that_come_later_are_heard(make_env):
    env = make_env(settings={"KEY_CACHE_MS": LONG, "KEY_CACHE_LIVE_MS": LONG, "GROUPS_ENABLED": "none"})
    service = env.start().wait_keys_stay()
    api = env.api()
    key_id, key = new_key(env)
    assert status(api, key) == 200
    env.kafka.admin.create_partitions([NewPartitions(env.topic, 20)])[env.topic].result(20)
    env.former_partitions = [10]
    execute(env, "update api_keys set revoked_at = now() where id = %s", key_id)  # nobody is told of it
    assert status(api, key) == 200
    event = {"id": str(uuid.uuid4()), "type": "api_key.revoked", "account_id": env.account_id, "campaign_id": None,
             "data": {"key_id": key_id}, "timestamp": "2026-01-01T12:00:00Z", "version": 1}
    env.produce(json.dumps(event, separators=(",", ":")).encode(), env.account_id.encode(), partition=15)
    wait_until(lambda: service.metric("tidings_cache_invalidations_total") == 1, 20, "the new partition is read")
    assert status(api, key) == 401
