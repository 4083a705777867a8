"""A Postgres and a Kafka of the load test's own, in a directory of their own, by deps/stack."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from .shell import PROJECT, lines_of, run, say, uninterrupted

TOOL = PROJECT / "deps/stack"
PARTITIONS = 10


@contextlib.contextmanager
def ended(reader):
    try:
        yield reader
    finally:
        reader.stdout.close()  # ends it, too, when this ends early
        reader.wait()


class Stack:
    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="tidings-load."))
        os.chmod(self.directory, 0o755)  # Postgres runs as another user when this runs as root

    def tool(self, part, what, *arguments):
        # A session of its own: a Ctrl-C in the terminal is for this program, which cleans up.
        return run(TOOL, part, what, self.directory / part, *arguments, start_new_session=True)

    def start(self):
        say(f"starting a fresh Postgres and Kafka in {self.directory}")
        with uninterrupted():
            urls = lines_of(self.tool("postgres", "start"))
            self.url, self.admin_url = urls["DATABASE_URL"], urls["ADMIN_DATABASE_URL"]
        with uninterrupted():
            self.kafka_brokers = lines_of(self.tool("kafka", "start"))["KAFKA_BROKERS"]
        self.pids = {part: int(self.tool(part, "pid")) for part in ("postgres", "kafka")}

    def create_database(self, name):
        run("psql", "-qX", "-v", "ON_ERROR_STOP=1", self.admin_url, "-c", f'create database "{name}" owner tidings')
        return self.url_of(name)

    def url_of(self, database):
        return self.url.rsplit("/", 1)[0] + "/" + database

    def create_topic(self, name):
        self.tool("kafka", "topic", name, str(PARTITIONS))

    def reader(self, topic, form):
        return subprocess.Popen(["kcat", "-b", self.kafka_brokers, "-t", topic, "-C", "-e", "-q", "-f", form], stdout=subprocess.PIPE)

    def records_in(self, topic):
        """Counted by reading them all: what the broker says about offsets is not evidence."""
        with ended(self.reader(topic, ".")) as reader:
            return sum(map(len, iter(lambda: reader.stdout.read(1 << 20), b"")))

    def events_in(self, topic):
        """How many different events there are: a record begins with its event's id."""
        with ended(self.reader(topic, "%s\n")) as reader:
            return len({line[:44] for line in reader.stdout})

    def close(self, keep):
        with uninterrupted():
            for part in ("kafka", "postgres"):
                subprocess.run([TOOL, part, "stop" if keep else "destroy", self.directory / part], capture_output=True,
                               start_new_session=True)
            if keep:
                say(f"stopped, and left in {self.directory}; with D={self.directory}\n"
                    "    deps/stack postgres start $D/postgres; deps/stack kafka start $D/kafka            # starts them again\n"
                    "    deps/stack postgres destroy $D/postgres; deps/stack kafka destroy $D/kafka; rm -r $D   # removes all")
            else:
                shutil.rmtree(self.directory, ignore_errors=True)
