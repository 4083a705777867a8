"""What a run works in: servers of its own, proxies between the parts, and the processes under test."""

import errno
import os
import pathlib
import shutil
import subprocess

from lib.env import Env
from lib.proxy import Proxy
from lib.replicas import KafkaCluster, ReplicatedPostgres
from lib.servers import Kafka, Postgres
from lib.service import BINARY
from lib.smtp import SmtpSink
from lib.util import SLOWNESS, free_port
from lib.webhook import WebhookTarget

DISK_BYTES = 1 << 30
FAKETIME = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
REWARD_PATH = "/hook"
ACCOUNT_PATH = "/account"  # the account's webhook: some of its events


class ProxiedKafka(Kafka):
    """One broker, whose clients are told a proxy's address. .clients is that; .brokers leads past the proxy."""

    def __init__(self, directory):
        super().__init__(directory)
        self.proxy = Proxy(0)
        self.clients = f"127.0.0.1:{self.proxy.port}"
        self.environment = {"KAFKA_ADVERTISED": self.clients}

    def _started(self, lines):
        self.proxy.target = int(lines["KAFKA_BROKERS"].rsplit(":", 1)[1])
        super()._started({"KAFKA_BROKERS": lines["KAFKA_DIRECT_BROKERS"]})

    def destroy(self):
        super().destroy()
        self.proxy.close()


class Disk:
    """A small file system of its own, which can be filled. AssertionError where none can be mounted."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self._ballast = self.directory / "ballast"
        self.directory.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", self.directory],
                              capture_output=True, text=True)
        assert done.returncode == 0, f"no file system can be mounted: {done.stderr.strip()}"

    def fill(self):
        """To the last page, while others write to it."""
        size, end = 64 << 20, 0
        with open(self._ballast, "wb") as file:
            while size >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), end, size)
                    end += size
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self):
        self._ballast.unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", self.directory], check=True)


class Servers:
    """Postgres and Kafka, for one run or for several one after the other. with_disk: Postgres has a small one of its own."""

    def __init__(self, directory, with_disk=False, several_brokers=False, standby=False, name="chaos"):
        self.directory = pathlib.Path(directory)
        self.disk = Disk(self.directory / "disk") if with_disk else None
        self.postgres = (ReplicatedPostgres if standby else Postgres)((self.disk or self).directory / f"own-postgres-{name}")
        self.kafka = KafkaCluster(self.directory / f"own-kafka-cluster-{name}") if several_brokers else \
            ProxiedKafka(self.directory / f"own-kafka-{name}")
        self.network = None if several_brokers else self.kafka.proxy  # to Kafka, if there is one that can fail
        self.promoted = False

    def start(self):
        self.postgres.start()
        self.kafka.start()
        # What is committed without being waited for gets to the disk as late as can be: who answers then is found out.
        self.postgres.execute("alter system set wal_writer_delay = '10s'")
        if self.disk:  # the log must not fill it by itself
            self.postgres.execute("alter system set max_wal_size = '256MB'")
        self.postgres.execute("select pg_reload_conf()")
        return self

    def promote(self):
        self.postgres.fail_over()
        self.promoted = True

    def heal(self):
        if self.disk:
            self.disk.free()
        if not self.promoted:  # the old primary must not come back beside the new one
            self.postgres.heal()
        self.kafka.resume()
        self.kafka.start()  # whichever broker is down
        if self.network:
            self.network.heal()

    def stop(self):
        """Their data stay."""
        self.postgres.stop()
        if self.promoted:
            self.postgres.standby.stop()
        self.kafka.stop()

    def destroy(self):
        self.postgres.destroy()
        self.kafka.destroy()
        if self.disk:
            self.disk.close()


class Host:
    """One process, with a way of its own to Postgres."""

    def __init__(self, number, env, postgres, with_clock):
        self.number = number
        self.proxy = Proxy(postgres.port)  # of no use where there is a standby
        self.clock = env.directory / f"clock-{number + 1}"
        direct = isinstance(postgres, ReplicatedPostgres)
        settings = {"DATABASE_URL": postgres.url_for(env.database, None if direct else self.proxy.port)}
        if with_clock:
            self.set_clock(0)
            settings |= {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": self.clock, "FAKETIME_NO_CACHE": 1,
                         "FAKETIME_DONT_FAKE_MONOTONIC": 1}
        self.service = env.start(ready=False, **settings)

    def set_clock(self, seconds):
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self.clock)


class Stack:
    """A database, a topic, a mail server, a reward's target, and the processes on them. A hang of a part must be over before
    the service calls it a failure of the mail's own or the reward's."""

    def __init__(self, servers, directory, name, processes, with_clock=False, settings=None):
        self.servers = servers
        self.postgres, self.kafka = servers.postgres, servers.kafka
        self.smtp = SmtpSink()
        self.target = WebhookTarget()
        self.hosts = []
        self.extra = None
        self.env = Env(directory, name, self.postgres, self.kafka, {
            "KAFKA_BROKERS": getattr(self.kafka, "clients", self.kafka.brokers),
            "PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
            "MAIL_TRANSPORT": "smtp", "SMTP_URL": self.smtp.url, "SMTP_TIMEOUT_MS": 5000 * SLOWNESS, "SMTP_STARTTLS": "off",
            "WEBHOOK_ALLOW_PRIVATE": "on", "WEBHOOK_TIMEOUT_MS": 3000 * SLOWNESS, "WEBHOOK_RETRY_SCHEDULE": ",".join(["1s"] * 30),
            "RETRY_MAX_ATTEMPTS": 200, "RETRY_BASE_MS": 100, "RETRY_MAX_MS": 1000,
            "GROUPS_ENABLED": "all", "STATS_TOPIC": f"{name}-stats", "LANES": 2, "KAFKA_WORKER_POOL_SIZE": 4, "RELAY_POLL_MS": 50, "RELAY_SAVE_MS": 100,
            "DB_STALL_MS": 3000 * SLOWNESS, "HTTP_ANSWER_TIMEOUT_MS": 15000, **(settings or {})})
        try:
            for number in range(processes):
                self.hosts.append(Host(number, self.env, self.postgres, with_clock))
            for host in self.hosts:
                host.service.wait_ready(40)
        except BaseException:
            self.close(drop=False)
            raise

    @property
    def reward_url(self):
        return self.target.url(REWARD_PATH)

    @property
    def account_url(self):
        return self.target.url(ACCOUNT_PATH)

    def add_process(self):
        if self.extra:
            self.extra.start(ready=False)
        else:
            self.extra = self.env.start(ready=False)
        return self.extra.wait_listening()

    def heal(self):
        """All faults end, whatever they were."""
        self.servers.heal()
        self.smtp.heal()
        self.target.heal()
        for host in self.hosts:
            host.proxy.heal()
            host.set_clock(0)
            if host.service.running():
                host.service.resume()
            else:
                host.service.start(ready=False)

    def close(self, drop):
        """drop: nothing is left of it on the servers."""
        self.env.close(drop)
        for host in self.hosts:
            host.proxy.close()
        self.smtp.close()
        self.target.close()


def clock_can_be_faked():
    """None, or why not."""
    if not FAKETIME.exists():
        return "libfaketime is not installed"
    if os.environ.get("TIDINGS_TEST_SANITIZER"):
        return "a sanitizer must come first among the libraries, and so must libfaketime"
    return None


def disk_can_be_mounted():
    """None, or why not."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        return "only root can mount a file system"
    return None


def binary_is_breakable():
    """Whether it has deliberate bugs in it that TIDINGS_BREAK awakens (src/core/break.h)."""
    return bool(BINARY) and b"TIDINGS_BREAK" in pathlib.Path(BINARY).read_bytes()
