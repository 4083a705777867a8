"""Messages, commands, and signals that wait while something must not be left half done."""

import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def run(*command, **options):
    """A command's standard output; when it fails, the end of the load test with what it said."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"loadtest/run: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def lines_of(text):
    """NAME=value lines as a dictionary."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def end_on_signals():
    """SIGTERM, SIGHUP and Ctrl-C end Python by an exception, so that everything on the way out is removed."""
    def end(number, _frame):
        sys.exit(128 + number)
    for number in SIGNALS:
        signal.signal(number, end)


def allow_open_files(wanted):
    """For wrk and tidings: one file each for a connection. Shells often allow 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"loadtest/run: {wanted} open files are needed and this user may have {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@contextlib.contextmanager
def uninterrupted():
    """Signals wait until the end of the block: a server whose start is cut short would be nobody's."""
    waiting = []
    before = {number: signal.signal(number, lambda n, _: waiting.append(n)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if waiting:
        os.kill(os.getpid(), waiting[0])
