"""Small things: time, ports, processes."""

import itertools
import os
import pathlib
import random
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]
SANITIZER = os.environ.get("TIDINGS_TEST_SANITIZER", "")

# Tests may run in several processes at once (pytest-xdist): "gw0", "gw1", …; "" when there is only one.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

# How much longer things may take in this build. Waiting longer costs a passing test nothing.
SLOWNESS = {"": 1, "address": 2, "thread": 4}[SANITIZER]


_numbers = itertools.count(1)


def unique():
    """A short name that no other caller in this run gets; good in file, topic, group and database names."""
    return f"{WORKER}n{next(_numbers)}"


def wait_until(condition, seconds, what, every=0.02):
    """Calls condition() until it is true and returns what it gave; AssertionError "timed out: <what>" after `seconds`
    (times SLOWNESS). `what` may be a function, called when time is up, so that it can say how far things came."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(f"timed out after {seconds * SLOWNESS} s: {what() if callable(what) else what}")
        time.sleep(every)


def port_is_taken(port):
    """Whether anyone listens there; read from /proc, so that no listener is bothered."""
    suffix = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = pathlib.Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            if state == "0A" and local.endswith(suffix):
                return True
    return False


_given = set()


def free_port():
    """A TCP port that nobody listens on and that was not given before. Below the range of outgoing connections, and each
    test process has a part of it, so that nobody else takes it while what listens there is down."""
    first = 20000 + 2000 * (int(WORKER[2:] or 0) % 6)
    while True:
        port = random.randrange(first, first + 2000)
        if port not in _given and not port_is_taken(port):
            _given.add(port)
            return port


def tail(path, lines=60):
    try:
        text = pathlib.Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return f"(no {path})"
    return "\n".join(text.splitlines()[-lines:])


def children_of(pid):
    """The pids of a process's children."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def sanitizer_env(report_prefix):
    """Environment for a program that may be built with a sanitizer: reports go to files <report_prefix>.<pid>."""
    common = f"log_path={report_prefix}:exitcode=86"
    return {
        "ASAN_OPTIONS": f"{common}:halt_on_error=1:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
        "LSAN_OPTIONS": "report_objects=1",
        "UBSAN_OPTIONS": f"{common}:halt_on_error=1:print_stacktrace=1",
        "TSAN_OPTIONS": f"{common}:halt_on_error=0:second_deadlock_stack=1:suppressions={PROJECT}/tests/tsan.supp",
    }
