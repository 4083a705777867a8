"""Private Postgres clusters and Kafka brokers, by deps/stack. The session has one of each; a test that stops, kills or
pauses one starts its own (fixtures own_postgres, own_kafka)."""

import os
import signal
import subprocess

import psycopg
from confluent_kafka.admin import AdminClient, NewTopic

from .util import PROJECT, children_of, wait_until


def _stack(*args):
    """Runs deps/stack; its NAME=value lines as a dict."""
    done = subprocess.run([PROJECT / "deps/stack", *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"deps/stack {' '.join(map(str, args))}:\n{done.stderr}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


class Server:
    """What both kinds share. A server is a directory; processes come and go."""

    kind = None

    def __init__(self, directory):
        self.directory = directory
        self.paused = False

    def start(self):
        """Starts it, on the ports and data it had before; does nothing when it runs."""
        self.resume()
        self._started(_stack(self.kind, "start", self.directory))
        return self

    def stop(self, *mode):
        """A clean stop. Postgres takes a mode: smart, fast, immediate."""
        self.resume()
        _stack(self.kind, "stop", self.directory, *mode)

    def destroy(self):
        self.resume()
        _stack(self.kind, "destroy", self.directory)

    def pid(self):
        """The main process, or None when it does not run."""
        done = subprocess.run([PROJECT / "deps/stack", self.kind, "pid", self.directory], capture_output=True, text=True)
        return int(done.stdout) if done.returncode == 0 else None

    def processes(self):
        pid = self.pid()
        return [pid, *children_of(pid)] if pid else []

    def _signal(self, number):
        for pid in self.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill9(self):
        """As when the machine loses power, but for the page cache: nothing is said to anyone."""
        self._signal(signal.SIGKILL)
        self.paused = False
        wait_until(lambda: self.pid() is None, 10, f"{self.kind} is killed")

    def pause(self):
        """All its processes stand still: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused:
            self._signal(signal.SIGCONT)
            self.paused = False

    def heal(self):
        """Whatever a test did to it: it runs again."""
        self.resume()
        if self.pid() is None:
            self.start()


class Postgres(Server):
    kind = "postgres"

    def __init__(self, directory):
        super().__init__(directory)
        self.templates = {}  # see Env: by settings of the migration, a migrated database to copy
        self.url = self.admin_url = self.port = None

    def _started(self, lines):
        self.url = lines["DATABASE_URL"]
        self.admin_url = lines["ADMIN_DATABASE_URL"]
        self.port = int(self.url.rsplit(":", 1)[1].split("/")[0])

    def url_for(self, database, port=None):
        """Connection string of role tidings for a database; through another port when there is a proxy in between."""
        start, _ = self.url.rsplit(":", 1)
        return f"{start}:{port or self.port}/{database}"

    def connect(self, database="postgres"):
        """A connection as superuser, each statement its own transaction."""
        return psycopg.connect(self.admin_url.rsplit("/", 1)[0] + "/" + database, autocommit=True)

    def execute(self, sql):
        with self.connect() as connection:
            connection.execute(sql)


class Kafka(Server):
    kind = "kafka"

    def __init__(self, directory):
        super().__init__(directory)
        self.brokers = None
        self._admin = None

    def _started(self, lines):
        if self.brokers != lines["KAFKA_BROKERS"]:
            self._admin = None
        self.brokers = lines["KAFKA_BROKERS"]

    @property
    def admin(self):
        if not self._admin:
            # What librdkafka has to say about a broker that a test took down is of no use here.
            self._admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 2, "logger": _silent})
        return self._admin

    def create_topic(self, name, partitions=10, **config):
        topic = NewTopic(name, partitions, 1, config={k.replace("_", "."): str(v) for k, v in config.items()})
        self.admin.create_topics([topic])[name].result(30)

    def delete_topic(self, name):
        self.admin.delete_topics([name])[name].result(30)


def _make_silent():
    import logging

    logger = logging.getLogger("tidings.tests.librdkafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


_silent = _make_silent()
