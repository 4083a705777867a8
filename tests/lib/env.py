"""What one test works in: a database, a topic, a Maildir, an account with keys, and the services on them, all its own."""

import base64
import hashlib
import hmac
import os
import pathlib
import secrets
import shutil
import struct
import subprocess
import time
import uuid

from confluent_kafka import Producer

from .api import Api, Ledger
from .invariants import check_invariants
from .kafka import TopicReader
from .mail import read_maildir
from .service import BINARY, Service, base_env, sanitizer_reports
from .util import SLOWNESS, free_port, tail, wait_until

ACCOUNT_EMAIL = "owner@example.com"


def _lines(text):
    """{"account_id": …} from NAME=value lines."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


class Env:
    """Made by the fixtures env and make_env.

    .settings   what its services start with; change before env.start(), or pass settings there
    .keys       {"secret": …, "publishable": …} of .account_id
    .ledger     every answer that its Api clients got
    .services   all that were started"""

    def __init__(self, directory, name, postgres, kafka, settings, partitions=10, postgres_port=None):
        self.directory = pathlib.Path(directory)
        self.name = name
        self.postgres = postgres
        self.kafka = kafka
        self.topic = f"{name}-events"
        self.database = name.replace("-", "_")  # needs no quotes in SQL
        self.maildir = self.directory / "mail"
        self.ledger = Ledger()
        self.services = []
        self.ignored = set()  # (partition, offset) of records that the test itself put into the topic
        self.former_partitions = []  # how many the topic had before a test let it grow
        self._apis = []
        self.directory.mkdir(parents=True)
        self.maildir.mkdir()
        self.settings = {
            "DATABASE_URL": postgres.url_for(self.database, postgres_port),
            "KAFKA_BROKERS": kafka.brokers,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP_PREFIX": f"{name}-",
            "STATS_TOPIC": "",  # a test that wants statistics names a topic: stats_topic
            "TOKEN_SECRET": secrets.token_hex(32),
            "MAIL_TRANSPORT": "maildir",
            "MAILDIR": str(self.maildir),
            "SHUTDOWN_TIMEOUT_MS": str(10000 * SLOWNESS),
            **{k: str(v) for k, v in settings.items()},
        }
        template = self._template()
        self.keys = dict(template["keys"])
        self.account_id = template["account_id"]
        postgres.execute(f"create database {self.database} template {template['database']} owner tidings")
        if kafka.pid():  # a test may want to begin without a broker; then it makes the topic itself
            kafka.create_topic(self.topic, partitions)

    def _template(self):
        """A migrated database with an account and its keys, made once per cluster and number of shards: copying it takes
        a tenth of a second."""
        shards = self.settings.get("SHARDS", "")
        if shards not in self.postgres.templates:
            database = f"template_{uuid.uuid4().hex[:12]}"
            self.postgres.execute(f"create database {database} owner tidings")
            url = self.postgres.url_for(database)
            self.run("migrate", DATABASE_URL=url)
            secret = _lines(self.run("keys", "create", "--new-account", "Test", "--email", ACCOUNT_EMAIL, "--kind", "secret",
                                     DATABASE_URL=url))
            publishable = _lines(self.run("keys", "create", "--account", secret["account_id"], "--kind", "publishable",
                                          DATABASE_URL=url))
            self.postgres.templates[shards] = {
                "database": database,
                "account_id": secret["account_id"],
                "keys": {"secret": secret["api_key"], "publishable": publishable["api_key"]},
            }
        return self.postgres.templates[shards]

    # --- processes ---

    def start(self, ready=True, **settings):
        """A service of this Env; the second one is a second host."""
        number = len(self.services) + 1
        merged = {**self.settings, **{k: str(v) for k, v in settings.items() if v is not None}}
        for name in (k for k, v in settings.items() if v is None):
            merged.pop(name, None)
        service = Service(self.directory, f"serve-{number}", merged, free_port(), self._remember_pid)
        self.services.append(service)
        return service.start(ready)

    def tidings(self, *args, timeout=30, **settings):
        """Runs another subcommand to its end; subprocess.CompletedProcess with text output, whatever the status."""
        env = {**base_env(self.directory), "HTTP_LISTEN": f"127.0.0.1:{free_port()}", **self.settings,
               **{k: str(v) for k, v in settings.items() if v is not None}}
        for name in (k for k, v in settings.items() if v is None):
            env.pop(name, None)
        return subprocess.run([BINARY, *args], env=env, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout * SLOWNESS)

    def run(self, *args, **settings):
        """Like tidings(), but it must succeed; its standard output."""
        done = self.tidings(*args, **settings)
        assert done.returncode == 0, (f"tidings {' '.join(args)} ended with status {done.returncode}\n{done.stdout}"
                                      f"{done.stderr}{sanitizer_reports(self.directory)}")
        return done.stdout

    def _remember_pid(self, pid):
        # tests/run reads this, should pytest itself be killed.
        if "TIDINGS_TEST_DIR" in os.environ:
            with open(pathlib.Path(os.environ["TIDINGS_TEST_DIR"]) / "pids", "a") as file:
                file.write(f"{pid}\n")

    # --- clients ---

    def api(self, service=None, keys=None, **options):
        """A client of a service (the first one), with this account's keys or those that are given."""
        service = service or self.services[0]
        api = Api(service.url, keys or self.keys, self.ledger, **options)
        self._apis.append(api)
        return api

    def new_account(self, name="Another", email="another@example.com"):
        """{"account_id", "secret", "publishable"} of a new account."""
        secret = _lines(self.run("keys", "create", "--new-account", name, "--email", email, "--kind", "secret"))
        publishable = _lines(self.run("keys", "create", "--account", secret["account_id"], "--kind", "publishable"))
        return {"account_id": secret["account_id"], "secret": secret["api_key"], "publishable": publishable["api_key"]}

    # --- what is there ---

    def db(self):
        """A superuser's connection to the database, search_path tidings. Close it, or use it with `with`."""
        connection = self.postgres.connect(self.database)
        connection.execute("set search_path = tidings")
        return connection

    def query(self, sql, *args):
        with self.db() as connection:
            return connection.execute(sql, args).fetchall()

    def value(self, sql, *args):
        """The first column of the first row."""
        return self.query(sql, *args)[0][0]

    def reader(self):
        """A TopicReader from the beginning of the topic."""
        return TopicReader(self.kafka.brokers, self.topic)

    def records(self):
        """All that is in the topic now."""
        with self.reader() as reader:
            return reader.read_to_end()

    def produce(self, value, key=None, partition=0, headers=None):
        """Puts a record of the test's own into the topic; the checker will pass over it. Its offset."""
        placed = []
        producer = Producer({"bootstrap.servers": self.kafka.brokers, "acks": "all"})
        producer.produce(self.topic, value, key, partition, headers=headers, on_delivery=lambda e, m: placed.append((e, m)))
        producer.flush(10 * SLOWNESS)
        assert placed and not placed[0][0], f"record not produced: {placed}"
        offset = placed[0][1].offset()
        self.ignored.add((partition, offset))
        return offset

    # --- mail ---

    def mails(self, to=None):
        """The mails in the Maildir, oldest first."""
        return [m for m in read_maildir(self.maildir) if to is None or m.to == to.lower()]

    def wait_mail(self, to, count=1, subject=None, seconds=10):
        """The mails to an address (whose subject has `subject` in it), once there are `count`."""
        def enough():
            found = [m for m in self.mails(to) if subject is None or subject in m.subject]
            return found if len(found) >= count else None

        return wait_until(enough, seconds, lambda: f"{count} mail(s) to {to}; there are {self.mails()}")

    def wait_token(self, email, seconds=10):
        """The verification token that was mailed to an address."""
        return wait_until(lambda: next((m.token for m in self.mails(email) if m.token), None), seconds,
                          lambda: f"a mail to {email} with a token; there are {self.mails()}")

    def make_token(self, campaign_id, user_id, expires_s=None, secret=None):
        """A verification token made here, by its definition (src/domain/token.h): for tests that send no mail."""
        body = uuid.UUID(campaign_id).bytes + uuid.UUID(user_id).bytes
        body += struct.pack(">Q", int(expires_s if expires_s is not None else time.time() + 3600))
        secret = secret or self.settings["TOKEN_SECRET"].split(",")[0]
        mac = hmac.new(secret.encode(), b"tidings verification token 1\0" + body, hashlib.sha256).digest()[:16]
        return base64.urlsafe_b64encode(body + mac).decode().rstrip("=")

    def make_unsubscribe_token(self, campaign_id, user_id):
        """Likewise of an unsubscribe link."""
        body = uuid.UUID(campaign_id).bytes + uuid.UUID(user_id).bytes + struct.pack(">Q", 2**63 - 1)
        secret = self.settings["TOKEN_SECRET"].split(",")[0]
        mac = hmac.new(secret.encode(), b"tidings unsubscribe token 1".ljust(29, b"\0") + body, hashlib.sha256).digest()[:16]
        return base64.urlsafe_b64encode(body + mac).decode().rstrip("=")

    # --- the end ---

    def check(self, seconds=20):
        """Invariants 1 and 2, now. With no service running one is started: what was acknowledged must get to Kafka by a
        restart alone."""
        if not any(s.running() for s in self.services):
            self.services[-1].start()
        with self.postgres.connect(self.database) as connection:
            check_invariants(connection, self.kafka.brokers, self.topic, self.ledger, frozenset(self.ignored), seconds,
                             self.former_partitions)

    def stop(self):
        """Stops all services cleanly; AssertionError if one does not."""
        for service in self.services:
            if service.running():
                service.stop()
            service.check_end()
        reports = sanitizer_reports(self.directory)
        assert not reports, f"a sanitizer has found something\n{reports}"

    def close(self, drop=True):
        """Whatever the state: no process is left; nor, with drop, anything on the servers."""
        for api in self._apis:
            api.close()
        for service in self.services:
            service.close()
        if drop:
            self.postgres.execute(f"drop database if exists {self.database} with (force)")
            self.kafka.delete_topic(self.topic)
            if self.settings["STATS_TOPIC"]:
                self.kafka.delete_topic(self.settings["STATS_TOPIC"])
        shutil.rmtree(self.directory / "mail", ignore_errors=True)

    def describe(self):
        """What a failed test's report shows of its services."""
        parts = [f"--- {s.log} (settings changed: {self._changed(s)})\n{tail(s.log)}" for s in self.services]
        parts += [f"--- {s.name} hangs\n{s.stacks()}" for s in self.services if s.running() and not s.answers()]
        reports = sanitizer_reports(self.directory)
        return "\n".join(parts + ([f"--- sanitizer\n{reports}"] if reports else []))

    def _changed(self, service):
        return {k: v for k, v in service.settings.items() if self.settings.get(k) != v}
