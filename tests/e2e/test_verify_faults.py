"""`tidings verify` sees each fault that can be made by hand in the topic or in the events table, and counts it right."""

import json
import random
import uuid

import pytest

from lib.kafka import hash_class
from lib.verify import Copy, execute, faults_of, run_verify, silent_history  # noqa: F401 (a fixture)

pytestmark = pytest.mark.settings(GROUPS_ENABLED="none")
broken = pytest.mark.no_invariants(reason="the test breaks what the checker checks")


# --- faults in the topic ---

def test_the_copy_itself_is_right(env, silent_history):
    assert Copy(env).faults() == {}


def test_two_events_swapped(env, silent_history):
    copy = Copy(env)
    i, k = copy.index(silent_history[0], 4), copy.index(silent_history[0], 5)
    copy.records[i], copy.records[k] = copy.records[k], copy.records[i]
    report = copy.verify()
    assert faults_of(report) == {"out_of_order": 1}
    assert report["culprits"][0]["version"] == 4 and report["culprits"][0]["aggregate"] == silent_history[0]


def test_an_event_far_too_late(env, silent_history):
    copy = Copy(env)
    copy.records.append(copy.records.pop(copy.index(silent_history[0], 3)))
    assert copy.faults() == {"out_of_order": 1}
    assert copy.faults("--campaign", silent_history[0]) == {"out_of_order": 1}
    assert copy.faults("--campaign", silent_history[1]) == {}


def test_an_event_far_too_early(env, silent_history):
    """All that should have come before it comes late."""
    copy = Copy(env)
    i, k = copy.index(silent_history[0], 3), copy.index(silent_history[0], 20)
    moved = copy.records.pop(k)
    between = [r for r in copy.records[i:k] if r[0] == moved[0]]
    copy.records.insert(i, moved)
    assert copy.faults() == {"out_of_order": len(between)}


def test_events_left_out(env, silent_history):
    copy = Copy(env)
    for version in (4, 5, 9):
        copy.records.pop(copy.index(silent_history[0], version))
    report = copy.verify()
    assert faults_of(report) == {"missing": 3}
    assert sorted(c["version"] for c in report["culprits"]) == [4, 5, 9]
    assert {c["aggregate"] for c in report["culprits"]} == {silent_history[0]}
    assert copy.faults("--campaign", silent_history[1]) == {}


def test_all_events_left_out(env, silent_history):
    """An empty topic under cursors that say all is there."""
    copy = Copy(env)
    count = len(copy.records)
    copy.records = []
    assert copy.faults() == {"missing": count}


def test_what_waits_in_the_outbox_is_no_fault(env, silent_history):
    copy = Copy(env)
    shard = hash_class(silent_history[0], 10)
    tail = [r for r in copy.records if r[0] == shard][-5:]
    copy.records = [r for r in copy.records if r not in tail]
    cursors = env.query("select seq from relay_cursors where shard = %s", shard)
    execute(env, "update relay_cursors set seq = seq - 5 where shard = %s", shard)
    report = copy.verify()
    assert faults_of(report) == {} and report["events"]["waiting"] == 5
    # One of these missing, with a later one there, still waits: it was never acknowledged. Of those before the cursor none may.
    execute(env, "update relay_cursors set seq = seq + 2 where shard = %s", shard)
    report = copy.verify()
    assert faults_of(report) == {"missing": 2} and report["events"]["waiting"] == 3
    execute(env, "update relay_cursors set seq = %s where shard = %s", cursors[0][0], shard)


def test_repeats_with_the_same_and_with_other_bytes(env, silent_history):
    copy = Copy(env)
    partition, key, value = copy.records[copy.index(silent_history[0], 4)]
    copy.records += [(partition, key, value)] * 3
    report = copy.verify()
    assert faults_of(report) == {} and report["records"]["repeats"] == 3
    copy.records.append((partition, key, value.replace(b'"version":4', b'"version": 4')))
    copy.records.append((partition, key.upper(), value))
    report = copy.verify()
    assert faults_of(report) == {"differing": 2} and report["records"]["repeats"] == 5
    assert {c["note"] for c in report["culprits"]} == {"another value", "another key"}


def test_the_first_sight_with_other_bytes(env, silent_history):
    copy = Copy(env)
    i = copy.index(silent_history[0], 4)
    partition, key, value = copy.records[i]
    copy.records[i] = (partition, key, value.replace(b'"version":4', b'"version": 4'))
    assert copy.faults() == {"differing": 1}


def test_another_event_under_a_version(env, silent_history):
    copy = Copy(env)
    i = copy.index(silent_history[0], 4)
    partition, key, value = copy.records[i]
    other = {**json.loads(value), "id": str(uuid.uuid4())}
    impostor = (partition, key, json.dumps(other, separators=(",", ":")).encode())
    copy.records.insert(i, impostor)
    report = copy.verify()
    assert faults_of(report) == {"differing": 1} and report["culprits"][0]["note"] == "another id"
    # In its place, the event itself is missing.
    copy.records.pop(i + 1)
    assert copy.faults() == {"differing": 1, "missing": 1}


def expected_of(records):
    """What is to be found in records that are all copies of events, by the definition: an event is out of order if a later one
    of its partition was seen before it. In the copied topic an event's place is that of its record."""
    first, latest, late = set(), {}, 0
    for partition, place in records:
        if place not in first:
            first.add(place)
            late += place < latest.get(partition, -1)
            latest[partition] = max(place, latest.get(partition, -1))
    return first, late


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture(env, silent_history, seed):
    """Records swapped, moved, left out and repeated at random, a little and a lot."""
    rng = random.Random(seed)
    copy = Copy(env)
    originals = copy.records
    order = list(range(len(originals)))
    for _ in range(rng.choice((1, 3, 10, 60))):
        change, i, k = rng.randrange(4), rng.randrange(len(order)), rng.randrange(len(order))
        if change == 0:
            order[i], order[k] = order[k], order[i]
        elif change == 1:
            order.insert(k, order.pop(i))
        elif change == 2:
            order.insert(k, order[i])
        else:
            order.pop(i)
    copy.records = [originals[i] for i in order]
    first, late = expected_of([(originals[i][0], i) for i in order])
    report = copy.verify()
    wanted = {"out_of_order": late, "missing": len(originals) - len(first)}
    assert faults_of(report) == {name: count for name, count in wanted.items() if count}
    assert report["records"]["repeats"] == len(order) - len(first)


def test_unknown_records(env, silent_history):
    """What nobody committed: events, and what is no event at all."""
    copy = Copy(env)
    partition, key, value = copy.records[copy.index(silent_history[0], 4)]
    event = json.loads(value)

    def changed(**changes):
        return json.dumps({**event, **changes}, separators=(",", ":")).encode()

    strangers = [
        changed(version=1000, id=str(uuid.uuid4())),
        changed(type="user.levitated"),
        b"", b"nonsense", b"{}", b"[" * 5000, b"\xff\xfe\x00", b"null", b'{"id":1}', value[:-1], value + b"}", None, b"x" * 900000,
        b'{"a":"' + b"y" * 700000 + b'"}',
    ]
    for i, stranger in enumerate(strangers):  # in the middle of others, before all, and after
        copy.records.insert([partition, len(copy.records) // 2, 0, len(copy.records)][i % 4], (partition, key, stranger))
    nobody = str(uuid.uuid4())
    copy.records.append((hash_class(nobody, 10), nobody.encode(),
                         changed(campaign_id=nobody, data={**event["data"], "campaign_id": nobody})))
    copy.records.append((0, None, b"no key"))
    report = copy.verify()
    assert faults_of(report) == {"unknown": len(strangers) + 2}
    assert len(report["culprits"]) == 5 and all({"partition", "offset", "note"} <= set(c) for c in report["culprits"])


def test_records_in_the_wrong_partition(env, silent_history):
    copy = Copy(env, 12)  # two more than are in use
    i = copy.index(silent_history[0], 4)
    partition, key, value = copy.records[i]
    copy.records.append(((partition + 1) % 10, key, value))
    copy.records.append((11, key, value))
    assert copy.faults() == {"misplaced": 2}
    copy.records.pop(i)
    assert copy.faults() == {"misplaced": 2, "missing": 1}


def test_a_partition_of_the_shard_that_was_never_its_own(env, silent_history):
    """Once the topic has grown, several partitions are possible, but not all of the shard's."""
    copy = Copy(env, 60)
    copy.records = [(hash_class(key.decode(), 60), key, value) for _, key, value in copy.records]
    campaign, wrong = next((c, p) for c in silent_history for p in range(hash_class(c, 10), 60, 10)
                           if p not in [hash_class(c, n) for n in range(10, 61, 10)])
    i = copy.index(campaign, 4)
    execute(env, "update installation set partitions = 60")
    assert copy.faults() == {}
    copy.records.append((wrong, *copy.records[i][1:]))
    assert copy.faults() == {"misplaced": 1}
    copy.records.pop(i)
    assert copy.faults() == {"misplaced": 1, "missing": 1}
    execute(env, "update installation set partitions = 10")


# --- faults in the events table ---


@broken
def test_a_row_is_gone(env, silent_history):
    no = env.value("select no from campaigns where id = %s", silent_history[0])
    assert execute(env, "delete from events where aggregate = %s and version = 4", no) == 1
    report = run_verify(env, "--no-groups")
    assert faults_of(report) == {"seq_holes": 1, "version_holes": 1, "unknown": 1}
    by_fault = {c["fault"]: c for c in report["culprits"]}
    assert by_fault["version_holes"]["version"] == 5 and by_fault["unknown"]["version"] == 4
    assert faults_of(run_verify(env, "--no-groups", "--campaign", silent_history[0])) == {"version_holes": 1, "unknown": 1}
    assert faults_of(run_verify(env, "--no-groups", "--campaign", silent_history[1])) == {}


@broken
def test_the_newest_rows_are_gone(env, silent_history):
    """As after a restore: the cursor stands past the end."""
    shard = hash_class(silent_history[0], 10)
    assert execute(env, "delete from events where shard = %s and seq > (select max(seq) - 3 from events where shard = %s)",
                   shard, shard) == 3
    assert faults_of(run_verify(env, "--no-groups")) == {"seq_holes": 3, "unknown": 3}


@broken
def test_versions_that_go_back(env, silent_history):
    """Two events of a campaign have each other's version: what is in Kafka is neither."""
    no = env.value("select no from campaigns where id = %s", silent_history[0])
    for old, new in ((4, -4), (5, 4), (-4, 5)):
        execute(env, "update events set version = %s where aggregate = %s and version = %s", new, no, old)
    faults = faults_of(run_verify(env, "--no-groups"))
    assert faults.pop("out_of_order") >= 1 and faults.pop("differing") == 2 and set(faults) == {"missing"}


@broken
def test_a_row_in_the_wrong_shard(env, silent_history):
    no, shard = env.query("select no, shard from campaigns where id = %s", silent_history[0])[0]
    other = (shard + 1) % 10
    head = env.value("select coalesce(max(seq), 0) from events where shard = %s", other)
    execute(env, "update events set shard = %s, seq = %s where aggregate = %s and version = 4", other, head + 1, no)
    faults = faults_of(run_verify(env, "--no-groups"))
    assert faults == {"wrong_shard": 1, "misplaced": 1, "seq_holes": 1}


@broken
def test_an_event_that_was_changed_afterwards(env, silent_history):
    no = env.value("select no from campaigns where id = %s", silent_history[0])
    execute(env, "update events set data = replace(data, '@', '+x@') where aggregate = %s and type = 1 and version ="
            " (select min(version) from events where aggregate = %s and type = 1)", no, no)
    assert faults_of(run_verify(env, "--no-groups")) == {"differing": 1}


@broken
def test_an_event_of_a_newer_version(env, silent_history):
    execute(env, "update events set type = 99 where ctid = (select min(ctid) from events)")
    done = env.tidings("verify", "--no-groups")
    assert done.returncode == 3 and "newer tidings" in done.stderr
