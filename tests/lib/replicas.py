"""More than one of each (deps/replicas.sh): a Kafka cluster, a Postgres primary with a standby."""

import os
import pathlib
import signal

import psycopg

from .servers import Kafka, Postgres, _stack
from .util import wait_until


class KafkaCluster(Kafka):
    """Three brokers, numbered from 1; topics are on all of them, and two must be in sync for a write."""

    kind = "kafka-cluster"
    size = 3
    replicas = 3

    def node_pid(self, node):
        return self._pid(node)

    def processes(self):
        return [pid for node in range(1, self.size + 1) if (pid := self.node_pid(node))]

    def kill9_node(self, node):
        os.kill(self.node_pid(node), signal.SIGKILL)
        wait_until(lambda: self.node_pid(node) is None, 10, f"broker {node} is killed")

    def leaders(self, topic):
        """Per partition the number of the broker that leads it, -1 for none."""
        return {p: m.leader for p, m in self._partitions(topic).items()}

    def wait_in_sync(self, topic, seconds=60):
        def in_sync():
            return [len(m.isrs) for m in self._partitions(topic).values()]

        wait_until(lambda: set(in_sync()) == {self.replicas}, seconds,
                   lambda: f"all replicas of {topic} are in sync; {in_sync()}", 0.2)

    def _partitions(self, topic):
        return self.admin.list_topics(topic, timeout=10).topics[topic].partitions


class _Standby(Postgres):
    """What a ReplicatedPostgres has beside itself."""

    kind = "postgres-standby"

    def __init__(self, directory, primary, mode):
        super().__init__(directory)
        self._primary, self._mode = primary, mode
        self.pair_url = self.pair_admin_url = None  # of both hosts

    def start(self):
        self.resume()
        self._started(_stack(self.kind, "start", self.directory, self._primary, *(["async"] if self._mode == "async" else [])))
        return self

    def _started(self, lines):
        self.pair_url, self.pair_admin_url = lines["DATABASE_URL"], lines["ADMIN_DATABASE_URL"]
        self.admin_url = lines["STANDBY_ADMIN_DATABASE_URL"]
        self.port = int(self.admin_url.rsplit(":", 1)[1].split("/")[0])

    def promote(self):
        self.resume()
        _stack(self.kind, "promote", self.directory)


def _with_database(url, database):
    start, parameters = url.split("?")
    return f"{start.rsplit('/', 1)[0]}/{database}?{parameters}"


class ReplicatedPostgres(Postgres):
    """A primary, which is what stop, kill9 and pause are about, and its .standby. Connections, and url_for without a port, go
    to whichever of the two takes writes. Of no use to another test once that was the standby: make one, destroy it."""

    def __init__(self, directory, mode="sync"):
        super().__init__(pathlib.Path(directory))
        self.standby = _Standby(f"{directory}-standby", self.directory, mode)

    def start(self):
        super().start()
        self.standby.start()
        return self

    def destroy(self):
        self.standby.resume()
        self.standby.destroy()
        super().destroy()

    def url_for(self, database, port=None):
        return super().url_for(database, port) if port else _with_database(self.standby.pair_url, database)

    def connect(self, database="postgres"):
        return psycopg.connect(_with_database(self.standby.pair_admin_url, database), autocommit=True)

    def connect_primary(self, database="postgres"):
        """Whatever it is waiting for. Nothing that this session commits waits for the standby."""
        return psycopg.connect(self.admin_url.rsplit("/", 1)[0] + "/" + database, autocommit=True,
                               options="-c synchronous_commit=local")

    def fail_over(self):
        """The primary is gone, as with its machine; the standby takes its place."""
        if self.pid():
            self.kill9()
        self.standby.promote()
