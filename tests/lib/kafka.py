"""Reading a topic, and where Java's partitioner puts a key."""

import time
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from .util import SLOWNESS


def murmur2(data: bytes) -> int:
    """Kafka's hash (org.apache.kafka.common.utils.Utils.murmur2), as an unsigned number."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if len(data) > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def hash_class(aggregate_id: str, classes: int) -> int:
    """An aggregate's shard of `classes` shards, or partition of `classes` partitions."""
    return (murmur2(aggregate_id.encode()) & 0x7FFFFFFF) % classes


@dataclass(frozen=True)
class Record:
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple
    timestamp_ms: int

    def header(self, name):
        """The value of a header as text, or None."""
        return next((v.decode() for k, v in self.headers if k == name), None)


class TopicReader:
    """Reads a topic from its beginning, as a plain consumer without a group. Keeps everything in .records, each
    partition's in order."""

    def __init__(self, brokers, topic):
        self.topic = topic
        self.records = []
        self._consumer = Consumer({
            "bootstrap.servers": brokers,
            "group.id": "tidings-tests-reader",  # the client wants one; nothing is ever committed under it
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
            "log_level": 2,
        })
        try:
            metadata = self._consumer.list_topics(topic, timeout=10).topics[topic]
            if metadata.error:
                raise KafkaException(metadata.error)
        except Exception:
            self._consumer.close()
            raise
        self.partitions = len(metadata.partitions)
        self._consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(self.partitions)])

    def close(self):
        self._consumer.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def poll(self, seconds=0.05):
        """Takes what comes within `seconds`; the new records."""
        new = []
        for message in self._consumer.consume(1000, timeout=seconds):
            if message.error():
                if message.error().code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                    continue
                raise KafkaException(message.error())
            new.append(Record(message.partition(), message.offset(), message.key(), message.value(),
                              tuple(message.headers() or ()), message.timestamp()[1]))
        self.records += new
        return new

    def read_to_end(self, seconds=20):
        """Takes all that is in the topic at the moment of the call."""
        deadline = time.monotonic() + seconds * SLOWNESS
        ends = {p: self._consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=10)
                for p in range(self.partitions)}
        while time.monotonic() < deadline:
            at = {p.partition: p.offset for p in
                  self._consumer.position([TopicPartition(self.topic, p) for p in range(self.partitions)])}
            # A position is negative until something has been read; then low == high means there is nothing.
            if all(low == high or at[p] >= high for p, (low, high) in ends.items()):
                return self.records
            self.poll()
        raise AssertionError(f"timed out: topic {self.topic} read to its end")
