"""One tidings process with a database and a topic of its own on the stack."""

import http.client
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.parse

from . import metrics
from .shell import run, say, uninterrupted

TICKS = os.sysconf("SC_CLK_TCK")
IDLE_S = 5  # a connection that was silent for longer may have been closed by the server (HTTP_REQUEST_TIMEOUT_MS)


def cpu_seconds(pid):
    """A process and the children that it has or had."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended since
        if stat.parent.name == str(pid):
            total += sum(map(int, fields[11:15]))  # with the children that have ended
        elif int(fields[1]) == pid:
            total += sum(map(int, fields[11:13]))
    return total / TICKS


class Client:
    """One keep-alive connection with an API key. One thread."""

    def __init__(self, base, key):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=30)
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.used_at = 0.0

    def call(self, method, path, body=None):
        """Status and body; the caller judges them."""
        if time.monotonic() - self.used_at > IDLE_S:
            self.connection.close()  # the next request opens it again
        self.connection.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        self.used_at = time.monotonic()
        is_json = "json" in answer.headers.get("Content-Type", "")
        return answer.status, json.loads(text) if is_json and text else text

    def get_it(self, method, path, body=None):
        """The body of a good answer; anything else ends the load test."""
        status, found = self.call(method, path, body)
        if status >= 300:
            sys.exit(f"loadtest/run: {method} {path}: {status} {found}")
        return found


class Service:
    def __init__(self, stack, binary, database, topic, groups):
        self.stack, self.binary, self.topic, self.process = stack, str(binary), topic, None
        self.url = stack.url_of(database)
        self.directory = stack.directory / f"tidings-{database}"
        self.directory.mkdir()
        self.log, self.log_at_start = self.directory / "serve.log", 0
        self.token_secret = secrets.token_hex(16)
        # What the caller's environment sets is measured: LANES=4 loadtest/run.
        self.settings = {"GROUPS_ENABLED": groups, "MAIL_TRANSPORT": "discard", "LOG_LEVEL": "warn", "KAFKA_TOPIC": topic}
        self.env = {**os.environ, **self.settings, "DATABASE_URL": self.url, "KAFKA_BROKERS": stack.kafka_brokers,
                    "HTTP_LISTEN": "127.0.0.1:0", "TOKEN_SECRET": self.token_secret, "KAFKA_GROUP_PREFIX": ""}
        self.peak_kb = 0

    def start(self):
        self.stack.create_topic(self.topic)
        run(self.binary, "migrate", env=self.env)
        made = run(self.binary, "keys", "create", "--new-account", "Load", "--email", "load@example.com", env=self.env)
        self.key = re.search(r"^api_key=(\S+)", made, re.M).group(1)
        with uninterrupted(), open(self.log, "w") as out:
            self.process = subprocess.Popen([self.binary, "serve"], env=self.env, stdout=out, stderr=subprocess.STDOUT,
                                            start_new_session=True)
        self.base = self.wait_ready()
        self.client = Client(self.base, self.key)
        self.log_at_start = len(self.log.read_text())

    def wait_ready(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"Listening on: (\S+)", self.log.read_text())
            try:
                if found and Client(found.group(1), self.key).call("GET", "/readyz")[0] == 200:
                    return found.group(1)
            except OSError:
                pass
            time.sleep(0.05)
        sys.exit(f"loadtest/run: tidings does not get ready:\n{self.log.read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _trace):
        ended = self.process and self.process.poll()
        self.stop()
        # What it said matters when something failed, and it says nothing at LOG_LEVEL=warn when all is well.
        lines = self.log.read_text()[self.log_at_start:].splitlines() if self.process else []
        if lines:
            say(f"tidings logged {len(lines)} lines; the last ones:\n" + "\n".join(lines[-10:]))
        if ended is not None:
            sys.exit(f"loadtest/run: tidings ended by itself, with status {ended}")
        if isinstance(error, (OSError, http.client.HTTPException)):
            sys.exit(f"loadtest/run: tidings does not answer: {error!r}")

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        with uninterrupted():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def metrics(self):
        status, text = self.client.call("GET", "/metrics")
        if status != 200:
            sys.exit(f"loadtest/run: GET /metrics: {status} {text}")
        return metrics.parse(text)

    def cpu(self):
        pids = {"tidings": self.process.pid, **self.stack.pids}
        return {part: cpu_seconds(pid) for part, pid in pids.items()}

    def peak_rss_mb(self):
        """The highest resident size since forget_peak."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        kb = int(re.search(r"VmHWM:\s+(\d+)", text).group(1))
        self.peak_kb = max(self.peak_kb, kb)
        return kb / 1024

    def forget_peak(self):
        self.peak_rss_mb()  # the whole run's peak is kept all the same
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def query(self, sql):
        return run("psql", "-qAtX", "-F", " ", "-v", "ON_ERROR_STOP=1", self.url, "-c", "set search_path = tidings, public",
                   "-c", sql).strip()

    def settle(self, limit_s):
        """Waits until all that was committed is in Kafka and finished by every group. Seconds, or None: not in that time."""
        start = time.monotonic()
        while time.monotonic() - start < limit_s:
            now = self.metrics()
            committed = metrics.total(now, "tidings_events_committed_total")
            finished = [metrics.total(now, "tidings_handled_total", group=g) for g in metrics.groups(now)]
            acknowledged = metrics.total(now, "tidings_relay_acknowledged_total")
            if all(n >= committed for n in [acknowledged, *finished]):
                return time.monotonic() - start
            time.sleep(0.1)
        return None
