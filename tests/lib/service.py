"""One process of the service under test."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import httpx

from .util import SLOWNESS, sanitizer_env, tail, wait_until

BINARY = os.environ.get("TIDINGS_TEST_BIN", "")


def base_env(directory):
    """What a tidings process gets besides settings: nothing of the settings that the tests themselves run under."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    env.update(sanitizer_env(pathlib.Path(directory) / "sanitizer"))
    return env


def sanitizer_reports(directory):
    """All sanitizers' reports of processes that ran with base_env(directory), as text."""
    return "\n".join(f.read_text(errors="replace") for f in sorted(pathlib.Path(directory).glob("sanitizer.*")))


class Service:
    """`tidings serve` with some settings, on a port that it keeps over restarts. Made by Env.start.

    .url  .log (path of what it printed, of all its runs)  .process (subprocess.Popen, or None)"""

    def __init__(self, directory, name, settings, port, remember_pid):
        self.directory = pathlib.Path(directory)
        self.name = name
        self.settings = dict(settings)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = self.directory / f"{name}.log"
        self.process = None
        self._remember_pid = remember_pid
        self._http = httpx.Client(base_url=self.url, timeout=5, trust_env=False)

    # --- start ---

    def start(self, ready=True, **changes):
        """Starts it (again), settings changed as given (None: unset). ready=False: does not wait for /readyz."""
        assert not self.running(), f"{self.name} runs already"
        self.check_end()
        for setting, value in changes.items():
            if value is None:
                self.settings.pop(setting, None)
            else:
                self.settings[setting] = str(value)
        env = {**base_env(self.directory), "HTTP_LISTEN": f"127.0.0.1:{self.port}", "PUBLIC_URL": self.url, **self.settings}
        with open(self.log, "ab") as log:
            # In a session of its own: a Ctrl-C for pytest must not stop it before the fixture does.
            self.process = subprocess.Popen([BINARY, "serve"], env=env, cwd=self.directory, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._remember_pid(self.process.pid)
        if ready:
            self.wait_ready()
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def ready(self):
        """What /readyz says: (status, body), or (None, None) when nobody answers."""
        try:
            answer = self._http.get("/readyz")
        except httpx.TransportError:
            return None, None
        return answer.status_code, answer.text

    def wait_ready(self, seconds=20):
        def is_ready():
            self._must_run()
            return self.ready()[0] == 200

        # Not more often: each question that is answered with no is a line in the log.
        wait_until(is_ready, seconds, lambda: f"{self.name} is ready; /readyz says {self.ready()}\n{tail(self.log)}", 0.1)
        return self

    def wait_keys_stay(self, seconds=20):
        """Until revocations are heard of: all that was remembered of API keys is forgotten at that moment, not later."""
        wait_until(lambda: self.metric("tidings_cache_invalidations_live") == 1, seconds, "revocations are heard of", 0.1)
        return self

    def wait_not_ready(self, seconds=20):
        """Until /readyz answers and says no."""
        wait_until(lambda: self.ready()[0] == 503, seconds, lambda: f"/readyz says no; it says {self.ready()}")
        return self

    def wait_listening(self, seconds=20):
        """Until /healthz answers, whether ready or not."""
        def is_listening():
            self._must_run()
            return self.answers()

        wait_until(is_listening, seconds, lambda: f"{self.name} listens\n{tail(self.log)}")
        return self

    def _must_run(self):
        self.check_end()
        assert self.running(), f"{self.name} does not run"

    # --- stop ---

    def stop(self, signal_number=signal.SIGTERM):
        """A clean stop, which must take less than SHUTDOWN_TIMEOUT_MS and end with status 0 and no sanitizer report.
        Returns the seconds it took."""
        self._must_run()
        limit = int(self.settings.get("SHUTDOWN_TIMEOUT_MS", 10000)) / 1000
        # The search for leaks comes after the service's own end and counts for nothing.
        slack = 1 if SLOWNESS == 1 else 5 * SLOWNESS
        begin = time.monotonic()
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal_number)
        try:
            status = self.process.wait(limit + slack)
        except subprocess.TimeoutExpired:
            where = self.stacks()
            self.kill9()
            raise AssertionError(f"{self.name} did not end within {limit} + {slack} s\n{tail(self.log)}\n{where}") from None
        took = time.monotonic() - begin
        reports = sanitizer_reports(self.directory)
        assert not reports, f"{self.name}: a sanitizer has found something\n{reports}"
        assert status == 0, f"{self.name} ended with status {status}, not 0\n{tail(self.log)}"
        return took

    def answers(self):
        try:
            return self._http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def stacks(self):
        """Where its threads are, for the report of one that hangs; needs gdb."""
        if not self.running() or not shutil.which("gdb"):
            return ""
        self.resume()
        got = subprocess.run(["gdb", "-batch", "-p", str(self.pid), "-ex", "thread apply all bt 12"], capture_output=True,
                             text=True, timeout=60, check=False)
        return "\n".join(line for line in got.stdout.splitlines() if line.startswith(("Thread", "#")))

    def check_end(self):
        """AssertionError if it has come to an end that the test did not bring about: a crash, above all."""
        if self.process and not self.running() and self.process.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(f"{self.name} has ended with status {self.process.returncode}\n{tail(self.log)}\n"
                                 f"{sanitizer_reports(self.directory)}")

    def wait_end(self, seconds=20):
        """Waits until it ends by itself, as the test expects, and returns its status."""
        status = self.process.wait(seconds * SLOWNESS)
        self.process = None
        return status

    def kill9(self):
        if self.running():
            self.process.kill()
            self.process.wait()

    def restart(self, kill=False, **changes):
        if kill:
            self.kill9()
        else:
            self.stop()
        return self.start(**changes)

    def pause(self):
        """It stands still (SIGSTOP), as a hung host would: connections stay, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.kill9()
        self._http.close()

    # --- look ---

    def log_text(self):
        return self.log.read_text(errors="replace")

    def wait_log(self, text, seconds=10):
        wait_until(lambda: text in self.log_text(), seconds, lambda: f"{text!r} in the log\n{tail(self.log)}")

    def rss_bytes(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def metrics(self):
        """/metrics as {'name{label="value"}': number}, labels as the service writes them."""
        answer = self._http.get("/metrics")
        answer.raise_for_status()
        found = {}
        for line in answer.text.splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                found[series] = float(value)
        return found

    def metric(self, name, **labels):
        """The sum of a metric's series that have all these labels."""
        return sum(value for series, value in self.metrics().items()
                   if series.split("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()))
