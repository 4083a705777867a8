"""Consumer groups whose handler misbehaves (tests/handlers/naughty.c), whose members come and go, whose Postgres connection goes
in the middle of it, and records that a newer version wrote: a clear outcome each, nothing lost, nothing twice."""

import json
import pathlib
import signal
import threading
import time
import uuid

import pytest
from confluent_kafka import Consumer

from lib import service as processes
from lib.kafka import hash_class
from lib.util import SLOWNESS, wait_until

BINARY = pathlib.Path(processes.BINARY).parent / "tidings_naughty"
GROUP = "naughty-workers"
SETTINGS = {"MAIL_TRANSPORT": "discard", "RETRY_BASE_MS": 20, "RETRY_MAX_MS": 200, "GROUPS_ENABLED": f"email-workers,{GROUP}"}


@pytest.fixture
def naughty(monkeypatch, make_env):
    """An env whose services have the handler; its table is there. Nothing runs yet."""
    monkeypatch.setattr(processes, "BINARY", str(BINARY))
    env = make_env(settings=SETTINGS)
    with env.postgres.connect(env.database) as connection:
        connection.execute("set role tidings; set search_path = tidings;"
                           "create table naughty_effects (event_id uuid not null, email text not null)")
    return env


def sign_up(api, campaign, names):
    """In one campaign: one partition, one after the other."""
    for name in names:
        api.signup(campaign, f"{name}@example.com")


def effects(env):
    """{name: how often}"""
    return {email.split("@")[0]: n for email, n in env.query("select email, count(*)::int from naughty_effects group by 1")}


def dead(env):
    """{name: (reason, attempts)} of the group's dead letters."""
    rows = env.query("select e.data, d.reason, d.attempts from dead_letters d join events e on e.id = d.event_id"
                     " where d.grp = %s and d.state = 'dead'", GROUP)
    return {json.loads(data)["email"].split("@")[0]: (reason, attempts) for data, reason, attempts in rows}


def wait_effects(env, names, seconds=30):
    wait_until(lambda: set(names) <= set(effects(env)), seconds,
               lambda: f"effects of {sorted(set(names) - set(effects(env)))}; dead: {dead(env)}")
    assert effects(env) == {name: 1 for name in names}


def test_each_misdeed_is_a_dead_letter(naughty):
    """Of the culprit alone, with a reason; what it did to the database is undone; retried with a good handler it is done."""
    service = naughty.start(GROUPS_ENABLED="none")
    api = naughty.api()
    campaign = api.create_campaign()["campaign_id"]
    reasons = {"error": "division by zero", "swallow": "a statement of its has failed", "rollback": "ended its transaction",
               "unfinished": "unfinished", "nonsense": "99", "negative": "-1"}
    names = [name for i, bad in enumerate(reasons) for name in (bad, f"u{2 * i}", f"u{2 * i + 1}")]
    sign_up(api, campaign, names)
    service.restart(GROUPS_ENABLED=GROUP)
    wait_until(lambda: set(dead(naughty)) == set(reasons), 30, lambda: f"{dead(naughty)}, {effects(naughty)}")
    for name, (reason, attempts) in dead(naughty).items():
        assert reasons[name] in reason and attempts == 1, (name, reason, attempts)
    wait_effects(naughty, [n for n in names if n not in reasons])
    service.restart(NAUGHTY="off")
    for (number,) in naughty.query("select id from dead_letters"):
        naughty.run("dead-letters", "retry", str(number))
    wait_effects(naughty, names)
    assert naughty.value("select count(*) from handled where grp = %s", GROUP) == len(names)


def test_a_statement_that_hangs(naughty):
    """It is ended after some DB_STALL_MS; the others of its run and its partition go on; it is given up in the end."""
    naughty.start(RETRY_MAX_ATTEMPTS=2, DB_STALL_MS=1000)
    api = naughty.api()
    campaign = api.create_campaign()["campaign_id"]
    names = [f"u{i}" for i in range(10)]
    sign_up(api, campaign, names[:5] + ["hang"] + names[5:])
    wait_effects(naughty, names)

    def given_up():
        names.append(f"u{len(names)}")
        sign_up(api, campaign, names[-1:])  # while others get through it is not Postgres that is to blame
        return set(dead(naughty)) == {"hang"}

    wait_until(given_up, 30, lambda: f"{dead(naughty)}", 0.5)
    assert "statement timeout" in dead(naughty)["hang"][0]
    wait_effects(naughty, names)


def test_a_worker_that_freezes(naughty):
    """It never comes back: the others go on, the process still ends in time, and nothing of it is lost."""
    service = naughty.start(SHUTDOWN_TIMEOUT_MS=3000)
    api = naughty.api()
    campaign = api.create_campaign()["campaign_id"]
    names = [f"u{i}" for i in range(20)]
    sign_up(api, campaign, ["freeze"])
    wait_until(lambda: naughty.value("select count(*) from pg_stat_activity where datname = current_database()"
                                     " and application_name = 'tidings worker' and state = 'idle in transaction'") == 1,
               20, "it is frozen")
    sign_up(api, campaign, names)
    wait_effects(naughty, names)
    service.process.send_signal(signal.SIGTERM)
    service.wait_end(15)
    service.start(NAUGHTY="off")
    wait_effects(naughty, names + ["freeze"])


def test_postgres_gone_in_the_middle(naughty):
    """The handler's connection ends while it works, again and again: each effect once."""
    naughty.start()
    api = naughty.api()
    campaign = api.create_campaign()["campaign_id"]
    names = ["slow-1", "slow-2", *(f"u{i}" for i in range(20))]
    sign_up(api, campaign, names)
    busy = ("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()"
            " and application_name = 'tidings worker' and query like '%%pg_sleep%%' and pid <> pg_backend_pid()")
    for _ in range(3):
        wait_until(lambda: naughty.query(busy)[0][0] > 0, 20, "a handler is at work")
    wait_effects(naughty, names)
    assert dead(naughty) == {}


# --- members that come and go ---


class Guest(threading.Thread):
    """Joins a group for a moment, takes some records, says nothing of them and leaves; over and over. stay: seconds; None:
    until it has been given partitions, which the others' coming and going puts off."""

    def __init__(self, env, group, stay):
        super().__init__(daemon=True)
        self.settings = {"bootstrap.servers": env.kafka.brokers, "group.id": f"{env.name}-{group}", "enable.auto.commit": False,
                         "partition.assignment.strategy": "range", "auto.offset.reset": "earliest",
                         "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
        self.topic, self.stay = env.topic, stay
        self.over = threading.Event()
        self.visits = self.assigned = 0
        self.start()

    def run(self):
        while not self.over.is_set():
            consumer = Consumer(self.settings)
            consumer.subscribe([self.topic], on_assign=self._on_assign)
            end, given = time.monotonic() + (self.stay or 30 * SLOWNESS), self.assigned
            while time.monotonic() < end and (self.stay or (self.assigned == given and not self.over.is_set())):
                consumer.poll(0.05)
            consumer.poll(0.2)
            consumer.close()
            self.visits += 1

    def _on_assign(self, consumer, partitions):
        self.assigned += 1

    def end(self):
        self.over.set()
        self.join(30 * SLOWNESS)
        assert not self.is_alive()


def test_members_come_and_go(naughty):
    """Two processes, and guests that join and leave all the time for a quarter of a minute, while sign-ups go on."""
    naughty.start(), naughty.start()
    api = naughty.api()
    campaigns = [api.create_campaign(milestones=[])["campaign_id"] for _ in range(6)]
    guests = [Guest(naughty, group, stay) for group in (GROUP, "email-workers") for stay in (0.8, None)]
    names, end = [], time.monotonic() + 15
    while time.monotonic() < end:
        names.append(f"u{len(names)}")
        sign_up(api, campaigns[len(names) % 6], names[-1:])
        time.sleep(0.02)
    for guest in guests:
        guest.end()
    assert sum(g.visits for g in guests) >= 6 and sum(g.assigned for g in guests) >= 1, [vars(g) for g in guests]
    wait_effects(naughty, names, 60)
    wait_until(lambda: naughty.value("select count(*) from mails") == len(names), 60, "a mail each")
    assert naughty.query("select * from dead_letters") == []
    assert naughty.value("select count(*) from handled where grp = %s", GROUP) == len(names)


# --- records of other versions ---


def test_records_of_a_newer_version(naughty):
    """More members, in the envelope and in data: they are handled. Types that are not known: passed over. A known type
    that is not what it was: a dead letter, as it came."""
    naughty.start()
    api = naughty.api()
    campaign = api.create_campaign()["campaign_id"]
    value = {"id": str(uuid.uuid4()), "type": "user.signed_up", "account_id": naughty.account_id, "campaign_id": campaign,
             "data": {"user_id": str(uuid.uuid4()), "campaign_id": campaign, "email": "new@example.com"},
             "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "version": 1000}
    more = {"trace": {"a": [1, None, {"b": 1e300}]}, "format": 2, "\u00e4": True, "big": 2**62}

    def produce(**changes):
        changed = {**value, "id": str(uuid.uuid4()), **changes}
        return naughty.produce(json.dumps(changed).encode(), campaign.encode(), partition=hash_class(campaign, 10))

    produce(**more, data={**value["data"], **more, "email": "more@example.com"})
    unknown = [produce(type="user.renamed"), produce(type="user.renamed", data=None), produce(type="x" * 1000, version="2")]
    bad = [produce(data={**value["data"], "email": {"address": "new@example.com"}}), produce(version="1000"),
           produce(data={k: v for k, v in value["data"].items() if k != "user_id"}), produce(data=[value["data"]]),
           produce(timestamp=1767268800), produce(version=1.5)]
    produce(data={**value["data"], "email": "last@example.com"})
    wait_until(lambda: effects(naughty) == {"more": 1, "last": 1}, 20, lambda: f"{effects(naughty)}")
    dead_rows = 'select "offset", reason, value from dead_letters where grp = %s order by 1'
    wait_until(lambda: len(naughty.query(dead_rows, GROUP)) >= len(bad), 20, lambda: f"{naughty.query(dead_rows, GROUP)}")
    rows = naughty.query(dead_rows, GROUP)
    assert [row[0] for row in rows] == bad and not set(unknown) & {row[0] for row in rows}
    for (_, reason, kept), word in zip(rows, ("data.email", "version", "data.user_id", "data", "timestamp", "version")):
        assert reason.startswith("malformed: ") and word in reason and json.loads(bytes(kept))["account_id"], reason
