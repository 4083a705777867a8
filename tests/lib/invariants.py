"""Invariants 1 and 2, read from outside: answers, events table and Kafka agree.

1. Every action answered 2xx has exactly the events its answer counts, committed and in Kafka; none is invented.
2. Versions per aggregate, first seen in Kafka: exactly 1, 2, 3, …; repeats have the same bytes."""

import datetime
import json
from collections import defaultdict

from .kafka import TopicReader, hash_class
from .util import wait_until

ENVELOPE = ("id", "type", "account_id", "campaign_id", "data", "timestamp", "version")
SHOWN = 20  # faults that are printed
UNASKED = (13, 15)  # reward.released, reward.delivered: the service's own, no answer counts them

COUNT = "select count(*) from tidings.events"
EVENTS = """
    select e.shard, e.seq, e.version, e.type, e.at, e.id::text, e.data, c.id::text, coalesce(c.account_id, a.id)::text
    from tidings.events e
    left join tidings.campaigns c on c.no = e.aggregate
    left join tidings.accounts a on a.no = -e.aggregate
    order by e.shard, e.seq"""


class Event:
    """A row of the events table, as it must show in Kafka."""

    def __init__(self, row):
        (self.shard, self.seq, self.version, self.type, self.at, self.id, self.data, self.campaign_id,
         self.account_id) = row
        self.aggregate = self.campaign_id or self.account_id

    def __repr__(self):
        return f"event {self.id} (shard {self.shard}, seq {self.seq}, aggregate {self.aggregate}, version {self.version})"


PURGES = """
    select c.id::text, p.shard, p.first_seq, p.last_seq, p.events
    from tidings.purges p join tidings.campaigns c on c.no = p.campaign"""


class Purges:
    """What was taken away of deleted campaigns."""

    def __init__(self, rows):
        self.ranges = defaultdict(list)  # shard → [(first seq, last seq)]
        self.counts = defaultdict(int)  # shard → events taken away
        self.campaigns = {}  # campaign id → events taken away
        for campaign, shard, first, last, events in rows:
            self.ranges[shard].append((first, last))
            self.counts[shard] += events
            self.campaigns[campaign] = events

    def cover(self, shard, seqs):
        return all(any(first <= seq <= last for first, last in self.ranges[shard]) for seq in seqs)


def read_events(connection):
    """(events, shards, purges), of one moment."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        shards = connection.execute("select shards from tidings.installation").fetchone()[0]
        return [Event(row) for row in connection.execute(EVENTS)], shards, Purges(connection.execute(PURGES).fetchall())


def check_invariants(connection, brokers, topic, ledger, ignored=frozenset(), seconds=20, former=()):
    """Waits until Kafka holds what the events table holds, then raises AssertionError with all that does not agree.
    ignored: (partition, offset) of records that the test itself put there. former: how many partitions the topic had before."""
    with TopicReader(brokers, topic) as reader:
        while True:
            events = wait_for_all(connection, reader, ignored, seconds)
            records = [r for r in reader.read_to_end() if (r.partition, r.offset) not in ignored]
            # Rewards under way may have come to their end meanwhile, which is an event.
            if connection.execute(COUNT).fetchone()[0] == len(events[0]):
                break
        faults = (check_table(*events) + check_records(*events, records, (reader.partitions, *former))
                  + check_answers(events[0], ledger))
    if faults:
        more = f"\n… and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise AssertionError("answers, events table and Kafka do not agree:\n" + "\n".join(faults[:SHOWN]) + more)


def wait_for_all(connection, reader, ignored, seconds):
    """Reads on until every event of the table is in Kafka, events included that are committed meanwhile."""
    events, shards, purges = read_events(connection)
    seen = {id_in(r) for r in reader.records if (r.partition, r.offset) not in ignored}

    def complete():
        nonlocal events, purges
        for record in reader.poll():
            if (record.partition, record.offset) not in ignored:
                seen.add(id_in(record))
        if not all(e.id in seen for e in events):
            return False
        if connection.execute(COUNT).fetchone()[0] == len(events):
            return True
        events, _, purges = read_events(connection)
        return False

    def missing():
        left = [e for e in events if e.id not in seen]
        return f"all of {len(events)} events are in Kafka; {len(left)} are not, the first: {left[:3]}"

    wait_until(complete, seconds, missing, every=0)
    return events, shards, purges


def id_in(record):
    try:
        return json.loads(record.value)["id"]
    except (TypeError, ValueError, KeyError):
        return None


def check_table(events, shards, purges=Purges([])):
    """seq dense per shard, version dense per aggregate (but for what was purged), shards right, time never going back."""
    faults = []
    seqs, gone, versions, last_at = defaultdict(int), defaultdict(int), defaultdict(list), {}
    for e in events:
        seqs[e.shard] += 1
        if e.seq != seqs[e.shard]:
            missing = range(seqs[e.shard], e.seq)
            if not missing or not purges.cover(e.shard, missing):
                faults.append(f"{e}: its seq should be {seqs[e.shard]}")
            gone[e.shard] += len(missing)
            seqs[e.shard] = e.seq
        if e.aggregate is None:
            faults.append(f"{e}: belongs to no campaign and no account")
            continue
        if e.shard != hash_class(e.aggregate, shards):
            faults.append(f"{e}: its shard should be {hash_class(e.aggregate, shards)}")
        if e.shard in last_at and e.at < last_at[e.shard]:
            faults.append(f"{e}: is older than the event before it")
        last_at[e.shard] = e.at
        versions[e.aggregate].append(e.version)
    for aggregate, found in versions.items():
        # In the order of seq, which is the order of Kafka.
        first = purges.campaigns.get(aggregate, 0) + 1
        if found != list(range(first, first + len(found))):
            faults.append(f"aggregate {aggregate}: versions in the table are {abridged(found)}")
    for shard in {*gone, *purges.counts}:
        if gone[shard] != purges.counts[shard]:
            faults.append(f"shard {shard}: {gone[shard]} seqs are missing, {purges.counts[shard]} events were purged")
    return faults


def check_records(events, shards, purges, records, partitions):
    """What is in Kafka is what is in the table, in its order, in the right partition; repeats are exact. partitions: how many the
    topic has, then how many it had (a multiple of these: what was sent later is in a partition with the same or a higher number)."""
    faults = []
    by_version = {(e.aggregate, e.version): e for e in events}
    first = {}
    next_version = defaultdict(lambda: 1)
    type_names = {}
    for r in sorted(records, key=lambda r: (r.partition, r.offset)):
        where = f"record {r.partition}/{r.offset}"
        try:
            value = json.loads(r.value)
            key = r.key.decode()
            version = value["version"]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            faults.append(f"{where}: cannot be read ({error!r}): {r.value!r:.200}")
            continue
        e = by_version.get((key, version))
        purged = not e and version <= purges.campaigns.get(key, 0)
        if not e and not purged:
            faults.append(f"{where}: key {key}, version {version}: no such event in the table")
            continue
        if (key, version) in first:
            if first[key, version] != (r.key, r.value):
                faults.append(f"{where}: repeats {e} with other bytes:\n  {first[key, version][1]!r}\n  {r.value!r}")
            continue
        first[key, version] = (r.key, r.value)
        if version != next_version[key]:
            faults.append(f"{where}: {e} comes when version {next_version[key]} was due")
        next_version[key] = max(next_version[key], version) + 1
        if r.partition not in [hash_class(key, n) for n in partitions]:
            faults.append(f"{where}: {e} should be in partition {hash_class(key, partitions[0])}")
        if purged:
            continue
        faults += [f"{where}: {e}: {fault}" for fault in check_value(e, r.value, value)]
        name = type_names.setdefault(e.type, value.get("type"))
        if name != value.get("type"):
            faults.append(f"{where}: {e} has type {value.get('type')!r}, but its number stood for {name!r} before")
    if len(set(type_names.values())) != len(type_names):
        faults.append(f"one type's name stands for two numbers: {type_names}")
    return faults


def check_value(e, raw, value):
    faults = []
    if set(value) != set(ENVELOPE):
        faults.append(f"members are {sorted(value)}")
    for member, wanted in (("id", e.id), ("campaign_id", e.campaign_id), ("account_id", e.account_id)):
        if value.get(member) != wanted:
            faults.append(f"{member} is {value.get(member)!r}, in the table {wanted!r}")
    if e.data.encode() not in raw:
        faults.append(f"data is not the table's text: {e.data}")
    elif value.get("data") != json.loads(e.data):
        faults.append(f"data is {value.get('data')}, in the table {e.data}")
    stamp = str(value.get("timestamp"))
    try:
        at = datetime.datetime.fromisoformat(stamp)
    except ValueError:
        at = None
    if not stamp.endswith("Z") or at != e.at:
        faults.append(f"timestamp is {stamp}, in the table {e.at}")
    return faults


def check_answers(events, ledger):
    """What was answered against what is there, per campaign."""
    types = defaultdict(dict)  # by campaign and version
    for e in events:
        if e.campaign_id:
            types[e.campaign_id][e.version] = e.type
    with ledger.lock:
        faults = list(ledger.faults)
        for campaign, claims in ledger.claims.items():
            found = types[campaign]
            unasked = {v for v in found if found[v] in UNASKED}
            head = max(found, default=0)
            # Of what was purged nobody knows whether it was asked for.
            purged = set(range(1, head + 1)) - found.keys()
            faults += check_claims(campaign, claims, head, campaign in ledger.accounted, ledger.unknown.get(campaign, []), unasked,
                                   purged)
    return faults


def check_claims(campaign, claims, head, accounted, unknown, unasked, purged):
    """Every claimed version exists, none is claimed twice; of an accounted campaign each is claimed, but for what actions
    without a known outcome may have left, and but for what nobody asked for, which nobody may claim."""
    faults = []
    owner = {}
    for claim in claims:
        if claim.version > head:
            faults.append(f"campaign {campaign}: {claim} was answered, but its last version is {head}")
        for version in range(claim.version - claim.events + 1, claim.version + 1):
            if version < 1:
                faults.append(f"campaign {campaign}: {claim} counts more events than there can be")
            elif version in owner:
                faults.append(f"campaign {campaign}: version {version} belongs to {owner[version]} and to {claim}")
            elif version in unasked:
                faults.append(f"campaign {campaign}: {claim} counts version {version}, which is no answer's")
            owner[version] = claim
    loose = [v for v in range(1, head + 1) if v not in owner and v not in unasked | purged]
    if accounted and loose and not unknown:
        faults.append(f"campaign {campaign}: versions {abridged(loose)} are in the table, but no answer counts them")
    return faults


def abridged(numbers):
    return str(numbers) if len(numbers) <= 30 else f"{str(numbers[:30])[:-1]}, … {len(numbers)} in all]"
