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
import tempfile
import time
import urllib.parse

from . import cpu, metrics
from .shell import run, say, uninterrupted

IDLE_S = 5  # a connection that was silent for longer may have been closed by the server (HTTP_REQUEST_TIMEOUT_MS)


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
    """first: a service on the same database and topic, that this one is one more process of."""

    def __init__(self, stack, binary, database, topic, groups, first=None):
        self.stack, self.binary, self.topic, self.first, self.process = stack, str(binary), topic, first, None
        self.url = stack.url_of(database)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"tidings-{database}.", dir=stack.directory))
        os.chmod(self.directory, 0o755)
        self.log, self.log_at_start = self.directory / "serve.log", 0
        self.token_secret = first.token_secret if first else secrets.token_hex(16)
        # What the caller's environment sets is measured: LANES=4 loadtest/run.
        self.settings = {"GROUPS_ENABLED": groups, "MAIL_TRANSPORT": "discard", "LOG_LEVEL": "warn", "KAFKA_TOPIC": topic,
                         "STATS_TOPIC": os.environ.get("STATS_TOPIC", "")}  # no analytics-workers, unless they are asked for
        self.env = {**os.environ, **self.settings, "DATABASE_URL": self.url, "KAFKA_BROKERS": stack.kafka_brokers,
                    "HTTP_LISTEN": "127.0.0.1:0", "TOKEN_SECRET": self.token_secret, "KAFKA_GROUP_PREFIX": ""}
        self.peak_kb = 0
        self.at_launch = {"users": 0, "events": 0, "in_kafka": 0}  # what this process has not made

    def start(self):
        if self.first:
            self.key = self.first.key
        else:
            self.stack.create_topic(self.topic)
            run(self.binary, "migrate", env=self.env)
            made = run(self.binary, "keys", "create", "--new-account", "Load", "--email", "load@example.com", env=self.env)
            self.key = re.search(r"^api_key=(\S+)", made, re.M).group(1)
        self.launch()

    def launch(self):
        started = time.monotonic()
        with uninterrupted(), open(self.log, "w") as out:
            self.process = subprocess.Popen([self.binary, "serve"], env=self.env, stdout=out, stderr=subprocess.STDOUT,
                                            start_new_session=True)
        self.base = self.wait_ready()
        self.ready_ms = 1000 * (time.monotonic() - started)
        self.idle_rss_mb = self.status_kb("VmRSS") / 1024
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
            time.sleep(0.005)
        sys.exit(f"loadtest/run: tidings does not get ready:\n{self.log.read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _trace):
        ended = self.process.poll() if self.process else None
        self.stop()
        # What it said matters when something failed, and it says nothing at LOG_LEVEL=warn when all is well.
        lines = self.log.read_text()[self.log_at_start:].splitlines() if self.log.exists() else []
        if lines:
            say(f"tidings logged {len(lines)} lines; the last ones:\n" + "\n".join(lines[-10:]))
        if ended is not None:
            sys.exit(f"loadtest/run: tidings ended by itself, with status {ended}")
        if isinstance(error, (OSError, http.client.HTTPException)):
            sys.exit(f"loadtest/run: tidings does not answer: {error!r}")

    def stop(self):
        if self.process and self.process.poll() is None:
            with uninterrupted():
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(30)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
        self.process = None

    def metrics(self):
        status, text = self.client.call("GET", "/metrics")
        if status != 200:
            sys.exit(f"loadtest/run: GET /metrics: {status} {text}")
        return metrics.parse(text)

    def cpu(self):
        pids = {"tidings": self.process.pid, **self.stack.pids}
        return {part: cpu.of_process(pid) for part, pid in pids.items()}

    def threads(self):
        return cpu.of_threads(self.process.pid)

    def status_kb(self, name):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1))

    def peak_rss_mb(self):
        """The highest resident size since forget_peak."""
        kb = self.status_kb("VmHWM")
        self.peak_kb = max(self.peak_kb, kb)
        return kb / 1024

    def forget_peak(self):
        self.peak_rss_mb()  # the whole run's peak is kept all the same
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def psql(self, *commands, separator=" "):
        return ["psql", "-qAtX", "-F", separator, "-v", "ON_ERROR_STOP=1", self.url,
                *(part for command in ("set search_path = tidings, public", *commands) for part in ("-c", command))]

    def query(self, sql, separator=" "):
        return run(*self.psql(sql, separator=separator)).strip()

    def settle(self, limit_s):
        """Waits until all that was committed is in Kafka and finished by every group. Seconds, or None: not in that time."""
        return settle([self], limit_s)


def settle(services, limit_s):
    """Of several processes on one database: whatever process relays or handles what another one committed."""
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        now = [service.metrics() for service in services]
        committed = sum(metrics.total(m, "tidings_events_committed_total") for m in now)
        finished = [sum(metrics.total(m, "tidings_handled_total", group=g) for m in now) for g in metrics.groups(now[0])]
        acknowledged = sum(metrics.total(m, "tidings_relay_acknowledged_total") for m in now)
        if all(n >= committed for n in [acknowledged, *finished]):
            return time.monotonic() - start
        time.sleep(0.1)
    return None
