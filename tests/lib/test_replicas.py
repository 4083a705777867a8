"""What deps/replicas.sh and KAFKA_ADVERTISED promise, apart from the service."""

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from .replicas import ReplicatedPostgres
from .servers import Kafka, _silent, _stack
from .util import unique, wait_until


def test_clients_are_told_another_address(stack, make_proxy):
    """A client that begins at the broker's own port goes on through the proxy; one that begins at the direct one does not."""
    proxy = make_proxy(0)
    kafka = Kafka(stack.directory / f"own-kafka-{unique()}")
    kafka.environment = {"KAFKA_ADVERTISED": f"127.0.0.1:{proxy.port}"}
    try:
        kafka.start()
        proxy.target = int(kafka.brokers.rsplit(":", 1)[1])
        direct = AdminClient({"bootstrap.servers": f"127.0.0.1:{(kafka.directory / 'port-DIRECT').read_text().strip()}",
                              "log_level": 2, "logger": _silent})
        kafka.create_topic("t", 1)
        for client, port in ((kafka.admin, proxy.port), (direct, None)):
            told = [b.port for b in client.list_topics(timeout=10).brokers.values()]
            assert (told == [port]) if port else (told != [proxy.port])
        outcomes = []
        producer = Producer({"bootstrap.servers": kafka.brokers, "message.timeout.ms": 60000, "reconnect.backoff.max.ms": 200,
                             "log_level": 2, "logger": _silent})
        proxy.cut()
        producer.produce("t", b"x", on_delivery=lambda error, message: outcomes.append(error))
        producer.flush(1)
        assert not outcomes, "the broker was reached past the proxy"
        proxy.heal()
        producer.flush(20)
        assert outcomes == [None]
    finally:
        kafka.destroy()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_standby_takes_over_and_gets_one_of_its_own(stack, mode):
    pair = ReplicatedPostgres(stack.directory / f"own-postgres-{unique()}", mode)
    try:
        pair.start()
        url = pair.url_for("postgres")
        pair.execute("create table t (x int)")
        pair.standby.stop()
        pair.standby.start()
        pair.execute("insert into t values (1)")
        with pair.connect_primary() as db:
            assert db.execute("select sync_state from pg_stat_replication").fetchall() == [(mode,)]
            behind = "select count(*) from pg_stat_replication where flush_lsn < pg_current_wal_flush_lsn()"
            wait_until(lambda: db.execute(behind).fetchone() == (0,), 10, "the standby has it")
        pair.fail_over()
        assert pair.url_for("postgres") == url
        pair.execute("insert into t values (2)")  # waits for nobody
        # The old primary's place is a standby's of the new one now.
        _stack("postgres", "destroy", pair.directory)
        _stack("postgres-standby", "start", pair.directory, pair.standby.directory)
        pair.execute("insert into t values (3)")
        with pair.connect() as db:
            assert db.execute("select sync_state from pg_stat_replication").fetchall() == [("sync",)]
            assert db.execute("select count(*) from t").fetchone() == (3,)
    finally:
        pair.destroy()
