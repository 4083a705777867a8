"""A batch's result equals its actions applied one by one: lane_apply against itself, with random batches.

Each run happens in a transaction that is rolled back: first in batches of random sizes (what depends on another action of
its batch comes back as "again" and runs in the next), then one action at a time in the order that the batches made of them.
States, events and outcomes must be the same.
"""
import json
import random
import uuid

import psycopg
import pytest

SHARDS = 3
DONE_BEFORE, AGAIN, REPLAYED, TOO_SOON = 5, 9, "replayed", 14
SIGN_UP, VERIFY = "sign_up", "verify"
UPDATE, CLOSE, DELETE, REQUEST_VERIFICATION, CREATE_REFERRAL, VERIFY_REFERRAL, CREATE_REWARD, GRANT_REWARD = range(2, 10)
CREATE_CAMPAIGN, UPKEEP, END_SAGAS = 1, 10, 11
KEEP_S = 3600


def base_event_id(rng):
    raw = bytearray(rng.randbytes(16))
    raw[15] = 0
    return uuid.UUID(bytes=bytes(raw))


def call(connection, batch, shards=None):
    """One lane_apply; batch is in order: sign-ups, verifications, others. Rows as dicts."""
    ups = [a for a in batch if a["kind"] == SIGN_UP]
    verifies = [a for a in batch if a["kind"] == VERIFY]
    others = [a for a in batch if a["kind"] not in (SIGN_UP, VERIFY)]
    assert ups + verifies + others == batch
    keyed = [(number, a) for number, a in enumerate(batch, 1) if a.get("key")]

    def column(actions, name):
        return [a[name] for a in actions]

    parameters = [
        ("int[]", shards or sorted({a["shard"] for a in batch})),
        ("int[]", column(ups, "account")), ("uuid[]", column(ups, "campaign")), ("uuid[]", column(ups, "id")),
        ("uuid[]", column(ups, "event")), ("int[]", column(ups, "referrer")),
        ("text[]", [a["email"].lower() for a in ups]),
        ("text[]", [a["email"] if a["email"] != a["email"].lower() else None for a in ups]),
        ("text[]", column(ups, "metadata")), ("text[]", [None for _ in ups]),
        ("int[]", column(verifies, "account")), ("uuid[]", column(verifies, "campaign")),
        ("uuid[]", column(verifies, "subject")), ("int[]", column(verifies, "place")), ("uuid[]", column(verifies, "event")),
        ("int[]", column(others, "kind")), ("int[]", column(others, "shard")), ("int[]", column(others, "account")),
        ("uuid[]", [a.get("account_id", uuid.UUID(int=0)) for a in others]), ("uuid[]", column(others, "campaign")),
        ("uuid[]", [a.get("subject") or uuid.UUID(int=0) for a in others]), ("uuid[]", column(others, "event")),
        ("text[]", [json.dumps(a.get("args", {})) for a in others]),
        ("int[]", [number for number, _ in keyed]), ("int[]", [a["shard"] for _, a in keyed]),
        ("uuid[]", [a["campaign"] for _, a in keyed]),
        ("uuid[]", [a["key"] for _, a in keyed]), ("uuid[]", [a["request"] for _, a in keyed]),
        ("int[]", [KEEP_S for _ in keyed]),
    ]
    sql = "select * from lane_apply(" + ", ".join(f"%s::{type_}" for type_, _ in parameters) + ")"
    cursor = connection.execute(sql, [value for _, value in parameters])
    names = [c.name for c in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


class Run:
    """Applies actions through lane_apply on one connection and keeps what came back."""

    def __init__(self, connection):
        self.connection = connection
        self.outcomes = {}  # action number -> (err, object id, place, [(version, type, seq, id, data)])
        self.order = []  # action numbers as they were applied

    def apply(self, batch):
        """Returns the actions that must come again."""
        rank = {SIGN_UP: 0, VERIFY: 1}
        ordered = sorted(batch, key=lambda a: rank.get(a["kind"], 2))
        seen = {}
        for row in call(self.connection, ordered):
            place = None if row["err"] == TOO_SOON else row["place"]  # seconds to wait
            entry = seen.setdefault(row["of_action"], [row["err"], row["object_id"], place, []])
            if row["seq"] is not None:
                entry[3].append((row["version"], row["type"], row["seq"], row["event_id"], row["data"]))
            elif row["events"] is not None:
                # The version of what was done before is the campaign's at that moment, and a batch has its own.
                entry[3].append((REPLAYED, row["events"], row["version"] if row["err"] != DONE_BEFORE else None))
        assert sorted(seen) == list(range(1, len(ordered) + 1)), "one outcome for every action"
        again = []

        def applied(numbered):  # verifications that may earn a reward come after the others: the events tell
            number, action = numbered
            seqs = [event[2] for event in seen[number][3] if event[0] != REPLAYED]
            return rank.get(action["kind"], 2), (min(seqs) if seqs else 1 << 60) if action["kind"] == VERIFY else 0, number

        for number, action in sorted(enumerate(ordered, 1), key=applied):
            err, object_id, place, events = seen[number]
            if err == AGAIN:
                assert not events
                again.append(action)
                continue
            self.order.append(action)
            self.outcomes[action["number"]] = (err, object_id, place, sorted(events, key=str))
        assert len(again) < len(ordered), "a batch always makes progress"
        return again

    def state(self):
        tables = {
            "campaigns": "select no, name, points_per_referral, milestones, closed_at is null, auto_rewards from campaigns order by 1",
            "users": "select campaign, place, id, email_key, email, metadata from users order by 1, 2",
            "referrals": "select campaign, referred, referrer, id from referrals order by 1, 2",
            "verifications": "select campaign, place from verifications order by 1, 2",
            "verified_referrals": "select campaign, referrer, n, referred from verified_referrals order by 1, 2, 3",
            "rewards": "select campaign, no, id, name, stock, threshold from rewards order by 1, 2",
            "user_rewards": "select campaign, reward, n, place, id from user_rewards order by 1, 2, 3",
            "sagas": "select campaign, reward, n, place, user_reward_id, event_id, state, end_event_id from sagas order by 1, 2, 3",
            "releases": "select campaign, reward, m, n, place from reward_releases order by 1, 2, 3",
            "requests": "select campaign, place, n from verification_requests order by 1, 2, 3",
            "keys": "select campaign, key, request, err, object_id, case when err <> 5 then version end, events from idempotency_keys order by 1, 2",
            "events": "select shard, seq, aggregate, version, type, id, data from events order by 1, 2",
        }
        return {name: self.connection.execute(sql).fetchall() for name, sql in tables.items()}


KINDS = [(SIGN_UP, 45), (VERIFY, 20), (UPDATE, 3), (CLOSE, 0.3), (REQUEST_VERIFICATION, 6), (CREATE_REFERRAL, 8),
         (VERIFY_REFERRAL, 8), (CREATE_REWARD, 4), (GRANT_REWARD, 12), (END_SAGAS, 6)]


def random_actions(rng, campaigns, count):
    """Few addresses and small places, so that actions collide: same address, same user, referrers that do not exist yet."""
    actions = []
    for number in range(count):
        campaign = rng.choice(campaigns)
        kind = rng.choices([k for k, _ in KINDS], [w for _, w in KINDS])[0]
        action = {
            "number": number,
            "kind": kind,
            "campaign": campaign["id"] if rng.random() < 0.97 else uuid.UUID(bytes=rng.randbytes(16)),
            "shard": campaign["shard"],
            "account": rng.choice([campaign["account"]] * 6 + [0] * 2 + [campaign["account"] + 1]),
            "event": base_event_id(rng),
            "place": rng.choice([rng.randrange(1, 40), rng.randrange(1, 8)]),
            "other": rng.choice([rng.randrange(1, 40), rng.randrange(1, 8)]),
            "subject": None,  # filled in when it is applied: what is at its place by then
        }
        if rng.random() < 0.15:
            action["key"] = uuid.UUID(int=rng.randrange(1, 12))
            action["request"] = uuid.UUID(int=rng.randrange(1, 3))
        if kind == SIGN_UP:
            action["id"] = uuid.UUID(bytes=rng.randbytes(16))
            action["email"] = rng.choice(["A%d@x.org", "a%d@x.org", 'we"ird\\%d@x.org']) % rng.randrange(40)
            action["referrer"] = rng.choice([0, 0, rng.randrange(1, 40)])
            action["metadata"] = rng.choice([None, '{"a":1}'])
        elif kind == CREATE_REWARD:
            action["args"] = {"name": f"r{number}", "delivery": "email", "max_rewards": 6, "max_rules": 3,
                              "stock": rng.choice([None, 1, 2]), "threshold": rng.choice([None, 1, 2])}
        elif kind == END_SAGAS:
            action["args"] = {"rows": rng.choice([1, 2, 100])}
        elif kind == REQUEST_VERIFICATION:
            action["args"] = {"interval_s": 0, "per_day": 1}
        elif kind == UPDATE:
            action["args"] = rng.choice([{"points_per_referral": rng.randrange(3)}, {"name": f"n{rng.randrange(3)}"},
                                         {"milestones": [1, rng.randrange(2, 30)]}, {"expected_version": rng.randrange(200)}, {}])
        actions.append(action)
    return actions


def aim(connection, actions):
    """An action names what has its place now, or nothing that is there."""

    def at(table, column, action, place):
        row = connection.execute(
            f"select x.id from {table} x join campaigns c on c.no = x.campaign where c.id = %s and x.{column} = %s",
            (action["campaign"], place),
        ).fetchone()
        return row[0] if row else uuid.UUID(int=action["number"] << 64 | place)

    for action in actions:
        if action["kind"] == SIGN_UP or action["subject"]:
            continue
        table, column = {VERIFY_REFERRAL: ("referrals", "referred")}.get(action["kind"], ("users", "place"))
        action["subject"] = at(table, column, action, action["place"])
        if action["kind"] == CREATE_REFERRAL:
            by_id = action["number"] % 2
            action["args"] = {"referrer": str(at("users", "place", action, action["other"]))} if by_id else {
                "referrer_place": action["other"]}
        elif action["kind"] == GRANT_REWARD:
            action["args"] = {"reward": str(at("rewards", "no", action, action["other"] % 4))}
        elif action["kind"] == UPDATE and action["number"] % 2:
            action["args"] = {"max_rules": 3, "reward_rules": [
                {"reward_id": str(at("rewards", "no", action, no)), "threshold": None if action["other"] % 3 == 0 else 1}
                for no in range(1, 1 + action["other"] % 4)]}


@pytest.fixture
def connection(env):
    with psycopg.connect(env.settings["DATABASE_URL"], options="-c search_path=tidings", autocommit=True) as conn:
        for pin in ("enable_seqscan", "enable_bitmapscan", "enable_nestloop", "enable_mergejoin", "jit"):
            conn.execute(f"set {pin} = off")
        yield conn


# What reward-workers would do, at once: of an earned reward's tries, some succeed, some fail, some are under way.
DELIVER = """
    create function test_deliver() returns trigger language plpgsql as $$
    begin
      new.state := (array['delivered', 'compensating', 'compensating', 'reserved'])[1 + (new.n + new.place) % 4];
      new.reason := case when new.state = 'compensating' then 'it is "gone"' end;
      return new;
    end $$;
    create trigger test_deliver before insert on sagas for each row execute function test_deliver()"""


@pytest.fixture
def campaigns(connection):
    connection.execute(DELIVER)
    made = []
    for number in range(4):
        account, campaign = uuid.uuid4(), uuid.uuid4()
        no = connection.execute(
            "insert into accounts (id, name, email) values (%s, 'n', 'a@x.org') returning no", (account,)
        ).fetchone()[0]
        rows = call(connection, [{
            "kind": CREATE_CAMPAIGN, "shard": number % SHARDS, "account": no, "account_id": account, "campaign": campaign,
            "event": base_event_id(random.Random(number)),
            "args": {"name": "c", "points_per_referral": 3, "milestones": [3, 7, 20], "landing_url": None}}])
        assert [(r["err"], r["type"], r["version"]) for r in rows] == [(0, 7, 1)]
        made.append({"id": campaign, "account": no, "shard": number % SHARDS})
    return made


@pytest.mark.parametrize("seed", range(12))
def test_batch_equals_one_by_one(connection, campaigns, seed):
    rng = random.Random(seed)
    waiting = random_actions(rng, campaigns, 400)
    connection.execute("begin")
    batched = Run(connection)
    while waiting:
        size = rng.choice([1, 5, 30, 120])
        batch, waiting = waiting[:size], waiting[size:]
        aim(connection, batch)
        waiting = batched.apply(batch) + waiting
    batched_state = batched.state()
    connection.execute("rollback")

    connection.execute("begin")
    single = Run(connection)
    for action in batched.order:
        assert single.apply([action]) == [], "alone, an action never has to come again"
    single_state = single.state()
    connection.execute("rollback")

    assert batched.outcomes == single.outcomes
    assert batched_state == single_state


def test_the_seeds_meet_every_outcome(connection, campaigns):
    met = set()
    for seed in range(6):
        connection.execute("begin")
        run = Run(connection)
        waiting = random_actions(random.Random(seed), campaigns, 400)
        while waiting:
            batch, waiting = waiting[:60], waiting[60:]
            aim(connection, batch)
            waiting = run.apply(batch) + waiting
        met |= {err for err, *_ in run.outcomes.values()}
        connection.execute("rollback")
    assert met == {0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}


def test_numbers_are_dense(connection, campaigns):
    rng = random.Random(99)
    connection.execute("begin")
    run = Run(connection)
    waiting = random_actions(rng, campaigns, 300)
    while waiting:
        batch, waiting = waiting[:50], waiting[50:]
        aim(connection, batch)
        waiting = run.apply(batch) + waiting
    state = run.state()
    connection.execute("rollback")
    for key, column in ((0, 1), (2, 3)):  # seq by shard, version by aggregate
        last = {}
        for row in sorted(state["events"], key=lambda r: (r[key], r[column])):
            assert row[column] == last.get(row[key], 0) + 1
            last[row[key]] = row[column]
    places = {}
    for campaign, place, *_ in state["users"]:
        assert place == places.get(campaign, 0) + 1
        places[campaign] = place
