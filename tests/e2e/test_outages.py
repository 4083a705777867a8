"""Bounds while a part is away, under load: memory, the time of answers, the loop; and how soon work goes on.

TIDINGS_OUTAGE_SECONDS says for how long a part is away (20). Run with -s to see the figures."""

import os
import time

import pytest

from lib.load import Load, assert_all_mailed, assert_users, campaigns_of, longest_silence, p99
from lib.util import SANITIZER, SLOWNESS, wait_until

OUTAGE_S = float(os.environ.get("TIDINGS_OUTAGE_SECONDS", 20))
RSS_MAX = 150e6  # of the release; a sanitizer needs several times as much
P99_MAX = 1.0 * SLOWNESS
LATE_MAX = 0.02  # of the loop's timers may come later than LATE_S
LATE_S = 0.1

pytestmark = pytest.mark.timeout((180 + 4 * OUTAGE_S) * SLOWNESS)


class Outage:
    """Watches a service for OUTAGE_S under a load."""

    def __init__(self, service, load):
        self.service, self.load = service, load
        self.rss = 0
        self.begin = time.monotonic()
        self.end = self.begin + OUTAGE_S
        self._before = service.metrics()
        while time.monotonic() < self.end:
            self._look()
            time.sleep(0.5)

    def _look(self):
        self.rss = max(self.rss, self.service.rss_bytes())

    def recovered(self, what, since, condition, seconds):
        """Waits for it, looking at memory meanwhile."""
        wait_until(lambda: (self._look(), condition())[1], seconds, lambda: f"{what}; {self.service.ready()}", 0.1)
        print(f"\n    {what} after {time.monotonic() - since:.1f} s")

    def _late(self):
        """Of the loop's timers since the beginning, the share that came late."""
        now = self.service.metrics()
        name = "tidings_loop_lag_seconds"
        bucket = next(k for k in now if k.startswith(f"{name}_bucket") and f'le="{LATE_S}' in k)
        total, good = (now[k] - self._before[k] for k in (f"{name}_count", bucket))
        return (total - good) / total

    def check(self, kinds, others=frozenset()):
        """Answers were of `kinds` and came at once, but for those of `others`."""
        samples = [s for s in self.load.between(self.begin, self.end) if s.kind not in others]
        late = self._late()
        print(f"    {len(samples)} answers while it was away, p99 {p99(samples) * 1e3:.0f} ms, the slowest"
              f" {max(s.seconds for s in samples):.2f} s; {late:.2%} of the loop's timers over {LATE_S} s late; at most"
              f" {self.rss / 1e6:.0f} MB")
        assert {s.kind for s in samples} == kinds, self.load.statuses
        assert p99(samples) < P99_MAX
        assert late < LATE_MAX * SLOWNESS
        assert SANITIZER or self.rss < RSS_MAX


def lag(service):
    return service.metric("tidings_relay_lag_events")


def test_kafka_away(make_env, own_kafka):
    """Sign-ups go on as if nothing were. Their events wait in Postgres, not in memory."""
    env = make_env(kafka=own_kafka, settings={"MAIL_TRANSPORT": "discard"})
    service = env.start()
    api = env.api()
    with Load(api, campaigns_of(api)) as load:
        load.wait_acknowledged(200)
        own_kafka.kill9()
        outage = Outage(service, load)
        back = time.monotonic()
        own_kafka.start()
        print(f"\n    the broker has started after {time.monotonic() - back:.1f} s")
        acknowledged = service.metric("tidings_relay_acknowledged_total")
        outage.recovered("the relay goes on", back,
                         lambda: service.metric("tidings_relay_acknowledged_total") > acknowledged, 30)
        load.stop()
        outage.recovered("all that waited is in Kafka", back, lambda: lag(service) == 0, 60 + OUTAGE_S)
    outage.check({201})
    assert len(outage.load.between(outage.begin, outage.end)) > 10 * OUTAGE_S / SLOWNESS, "it was a load"
    assert_users(env, load)
    assert_all_mailed(env, 60 + OUTAGE_S)


def test_postgres_away(make_env, own_postgres):
    """Each answer is a 503, at once, with nothing done; then sign-ups go on by themselves. Only what was in flight when it went
    waits for its outcome, at most for HTTP_ANSWER_TIMEOUT_MS."""
    env = make_env(postgres=own_postgres, settings={"MAIL_TRANSPORT": "discard", "HTTP_ANSWER_TIMEOUT_MS": 3000})
    service = env.start()
    api = env.api()
    with Load(api, campaigns_of(api)) as load:
        load.wait_acknowledged(200)
        own_postgres.stop("immediate")
        service.wait_not_ready()
        outage = Outage(service, load)
        back = time.monotonic()
        own_postgres.start()
        print(f"\n    Postgres has started after {time.monotonic() - back:.1f} s")
        load.wait_acknowledged(1, 30)
        print(f"    sign-ups after {time.monotonic() - back:.1f} s")
        outage.recovered("ready", back, lambda: service.ready()[0] == 200, 30)
        load.wait_acknowledged(200, 30)
    outage.check({(503, "database-unavailable")}, {(503, "outcome-unknown")})
    unknown = [s.seconds for s in load.samples if s.kind == (503, "outcome-unknown")]
    assert len(unknown) <= 16 and all(seconds < 3 + 2 * SLOWNESS for seconds in unknown), unknown
    assert_users(env, load)
    assert_all_mailed(env, 60)


def test_reads_wait_for_a_lock(make_env):
    """Somebody keeps a table locked. Reads are given up on both sides: sessions of those before do not wait on."""
    env = make_env(settings={"GROUPS_ENABLED": "none", "DB_STALL_MS": 1000, "READ_CONNECTIONS": 2})
    env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]

    def sessions():
        return env.value("select count(*) from pg_stat_activity where datname = current_database()"
                         " and application_name like 'tidings-read-%'".replace("%", "%%"))

    most, answers = 0, set()
    with env.db() as db, db.transaction():
        db.execute("lock table campaigns")
        end = time.monotonic() + 8
        while time.monotonic() < end:
            answers.add(api.get_campaign(campaign, expect=None).status)
            most = max(most, sessions())
    assert answers == {503}
    assert most <= 4
    wait_until(lambda: api.get_campaign(campaign, expect=None).status == 200, 10, "reads go on")
    assert sessions() == 2


def test_mail_server_hangs(make_env, smtp):
    """It takes connections and says nothing after a mail. Sign-ups go on; mails wait in Kafka, and go when it is back."""
    env = make_env(settings={"MAIL_TRANSPORT": "smtp", "SMTP_URL": smtp.url})
    service = env.start()
    api = env.api()
    smtp.hang()
    with Load(api, campaigns_of(api), 4) as load:
        load.wait_acknowledged(20)
        outage = Outage(service, load)
    outage.check({201})
    back = time.monotonic()
    smtp.heal()
    mailed = len(smtp.mails)
    outage.recovered("mails go out", back, lambda: len(smtp.mails) > mailed, 60)
    assert_users(env, load)
