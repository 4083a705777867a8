"""What analytics-workers must have left behind: counted from the events table, and read from the topic as its readers do."""

import json
import time
from collections import defaultdict

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from .util import SLOWNESS, wait_until

TYPES = {1: "user.signed_up", 2: "user.verified", 3: "referral.created", 4: "referral.verified", 5: "reward.earned",
         6: "campaign.milestone_reached", 7: "campaign.created", 8: "campaign.updated", 9: "campaign.closed",
         10: "campaign.deleted", 11: "user.verification_requested", 12: "reward.created", 16: "api_key.revoked"}

COUNTED = """
    select c.id::text, to_char(date_trunc('minute', e.at, 'UTC') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), e.type, count(*)::int
    from events e join campaigns c on c.no = e.aggregate where c.deleted_at is null group by 1, 2, 3"""
KEPT = """
    select c.id::text, to_char(s.minute at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), s.type, s.count::int
    from campaign_stats s join campaigns c on c.no = s.campaign where c.deleted_at is null"""


def _by_key(rows):
    found = defaultdict(dict)
    for campaign, minute, kind, count in rows:
        found[f"{campaign}/{minute}"][TYPES[kind]] = count
    return dict(found)


def counted(env):
    """{key: {type: count}} as the events table has it."""
    return _by_key(env.query(COUNTED))


def kept(env):
    """The same as Postgres' statistics have it."""
    return _by_key(env.query(KEPT))


def last_values(env):
    """{key: value}, the last committed ones in the topic; None: a tombstone."""
    consumer = Consumer({"bootstrap.servers": env.kafka.brokers, "group.id": "tidings-tests-reader", "log_level": 2,
                         "enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True,
                         "fetch.wait.max.ms": 20})
    topic = env.settings["STATS_TOPIC"]
    found = {}
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        ended, deadline = set(), time.monotonic() + 20 * SLOWNESS
        while len(ended) < len(partitions):
            assert time.monotonic() < deadline, f"{topic} read to its end"
            for m in consumer.consume(1000, timeout=0.1):
                if m.error() and m.error().name() != "_PARTITION_EOF":
                    raise KafkaException(m.error())
                if m.error():
                    ended.add(m.partition())
                    continue
                found[m.key().decode()] = m.value()
    finally:
        consumer.close()
    return found


def published(env):
    """{key: {type: count}} as the topic's last committed values have it."""
    return {key: _counts(key, value) for key, value in last_values(env).items() if value is not None}


def _counts(key, value):
    record = json.loads(value)
    assert key == f"{record['campaign_id']}/{record['minute']}" and set(record) == {"campaign_id", "minute", "counts"}, value
    return record["counts"]


def wait_exact(env, seconds=20):
    """Until both agree with the events, which must not become more meanwhile. What they say."""
    wanted = counted(env)
    wait_until(lambda: kept(env) == wanted, seconds, lambda: f"the counts kept are {wanted}; they are {kept(env)}", 0.1)
    wait_until(lambda: published(env) == wanted, seconds, lambda: f"the topic says {wanted}; it says {published(env)}", 0.2)
    return wanted
