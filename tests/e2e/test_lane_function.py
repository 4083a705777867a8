"""A batch's result equals its actions applied one by one: lane_apply against itself, with random batches.

Each run happens in a transaction that is rolled back: first in batches of random sizes (what depends on another action of
its batch comes back as "again" and runs in the next), then one action at a time in the order that the batches made of them.
States, events and outcomes must be the same.
"""
import random
import uuid

import psycopg
import pytest

SHARDS = 3
AGAIN = 9
SIGN_UP, VERIFY = "sign_up", "verify"


def base_event_id(rng):
    raw = bytearray(rng.randbytes(16))
    raw[15] &= 0xF0
    return uuid.UUID(bytes=bytes(raw))


class Run:
    """Applies actions through lane_apply on one connection and keeps what came back."""

    def __init__(self, connection):
        self.connection = connection
        self.outcomes = {}  # action number -> (err, object id, place, [(type, version, seq, data)])
        self.order = []  # action numbers as they were applied

    def apply(self, batch):
        """Returns the actions that must come again."""
        ups = [a for a in batch if a["kind"] == SIGN_UP]
        verifies = [a for a in batch if a["kind"] == VERIFY]
        shards = sorted({a["shard"] for a in batch})
        rows = self.connection.execute(
            "select * from lane_apply(%s::int[], %s::int[], %s::uuid[], %s::uuid[], %s::uuid[], %s::int[], %s::text[],"
            " %s::text[], %s::text[], %s::int[], %s::uuid[], %s::uuid[], %s::int[], %s::uuid[])",
            (
                shards,
                [a["account"] for a in ups],
                [a["campaign"] for a in ups],
                [a["id"] for a in ups],
                [a["event"] for a in ups],
                [a["referrer"] for a in ups],
                [a["email"].lower() for a in ups],
                [a["email"] if a["email"] != a["email"].lower() else None for a in ups],
                [a["metadata"] for a in ups],
                [a["account"] for a in verifies],
                [a["campaign"] for a in verifies],
                [a["user"] for a in verifies],
                [a["place"] for a in verifies],
                [a["event"] for a in verifies],
            ),
        ).fetchall()
        ordered = ups + verifies
        seen = {}
        for of, err, object_id, place, _url, _account, _shard, seq, version, type_, _at, event_id, data in rows:
            entry = seen.setdefault(of, [err, object_id, place, []])
            if seq is not None:
                entry[3].append((type_, version, seq, event_id, data))
        assert sorted(seen) == list(range(1, len(ordered) + 1)), "one outcome for every action"
        again = []
        for number, action in enumerate(ordered, 1):
            err, object_id, place, events = seen[number]
            if err == AGAIN:
                assert not events
                again.append(action)
                continue
            self.order.append(action)
            self.outcomes[action["number"]] = (err, object_id, place, sorted(events, key=lambda e: e[1]))
        assert len(again) < len(ordered), "a batch always makes progress"
        return again

    def state(self):
        tables = {
            "users": "select campaign, place, id, email_key, email, metadata from users order by 1, 2",
            "referrals": "select campaign, referred, referrer, id from referrals order by 1, 2",
            "verifications": "select campaign, place from verifications order by 1, 2",
            "verified_referrals": "select campaign, referrer, n, referred from verified_referrals order by 1, 2, 3",
            "events": "select shard, seq, aggregate, version, type, id, data from events order by 1, 2",
        }
        return {name: self.connection.execute(sql).fetchall() for name, sql in tables.items()}


def random_actions(rng, campaigns, count):
    """Few addresses and small places, so that actions collide: same address, same user, referrers that do not exist yet."""
    actions = []
    for number in range(count):
        campaign = rng.choice(campaigns)
        action = {
            "number": number,
            "kind": SIGN_UP if rng.random() < 0.65 else VERIFY,
            "campaign": campaign["id"] if rng.random() < 0.97 else uuid.UUID(bytes=rng.randbytes(16)),
            "shard": campaign["shard"],
            "account": rng.choice([campaign["account"], campaign["account"], 0, campaign["account"] + 1]),
            "event": base_event_id(rng),
        }
        if action["kind"] == SIGN_UP:
            action["id"] = uuid.UUID(bytes=rng.randbytes(16))
            action["email"] = rng.choice(["A%d@x.org", "a%d@x.org", 'we"ird\\%d@x.org']) % rng.randrange(40)
            action["referrer"] = rng.choice([0, 0, rng.randrange(1, 40)])
            action["metadata"] = rng.choice([None, '{"a":1}'])
        else:
            action["place"] = rng.randrange(1, 40)
            action["user"] = None  # filled in when it is applied: who has that place by then
        actions.append(action)
    return actions


def aim_verifications(connection, actions):
    """A verification names the user who has its place now, or nobody."""
    for action in actions:
        if action["kind"] == VERIFY and action["user"] is None:
            row = connection.execute(
                "select u.id from users u join campaigns c on c.no = u.campaign where c.id = %s and u.place = %s",
                (action["campaign"], action["place"]),
            ).fetchone()
            action["user"] = row[0] if row else uuid.uuid4()


@pytest.fixture
def connection(env):
    with psycopg.connect(env.settings["DATABASE_URL"], options="-c search_path=tidings", autocommit=True) as conn:
        for pin in ("enable_seqscan", "enable_bitmapscan", "enable_nestloop", "enable_mergejoin", "jit"):
            conn.execute(f"set {pin} = off")
        yield conn


@pytest.fixture
def campaigns(connection):
    made = []
    for number in range(4):
        account, campaign = uuid.uuid4(), uuid.uuid4()
        no = connection.execute(
            "insert into accounts (id, name, email) values (%s, 'n', 'a@x.org') returning no", (account,)
        ).fetchone()[0]
        settings = '{"name":"c","points_per_referral":3,"milestones":[3,7,20]}'
        connection.execute(
            "select * from lane_create_campaign(%s, %s, %s, %s, %s, %s)",
            (number % SHARDS, no, account, campaign, base_event_id(random.Random(number)), settings),
        )
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
        aim_verifications(connection, batch)
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
    kinds = {err for err, *_ in single.outcomes.values()}
    assert {0, 1, 2, 3, 4, 5} <= kinds, f"the run met every outcome: {kinds}"


def test_numbers_are_dense(connection, campaigns):
    rng = random.Random(99)
    connection.execute("begin")
    run = Run(connection)
    waiting = random_actions(rng, campaigns, 300)
    while waiting:
        batch, waiting = waiting[:50], waiting[50:]
        aim_verifications(connection, batch)
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
