"""Runs wrk with one of the Lua scripts."""

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import time

from .shell import PROJECT

tags = itertools.count(1)


def threads_of(connections):
    """wrk gives each of its threads the same number of connections."""
    return 2 if connections % 2 == 0 else 1


def start(service, script, inputs, connections, seconds, arguments=(), rate=None):
    threads = threads_of(connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
               "-s", str(PROJECT / "loadtest" / f"{script}.lua"), service.base, "--",
               f"dir={inputs}", f"key={service.key}", f"tag=w{next(tags)}", f"threads={threads}", *arguments]
    if rate:
        command.append(f"rate={rate:.0f}")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def finish(wrk, timeout_s):
    """What common.lua's done() reports."""
    text = wrk.communicate(timeout=timeout_s)[0]
    found = re.search(r"^RESULT (.*)$", text, re.M)
    if wrk.returncode != 0 or not found:
        sys.exit(f"loadtest/run: {' '.join(wrk.args)}\n{text}")
    result = json.loads(found.group(1))
    at = dict(result["quantiles"])
    result.update(p50_ms=at[0.5], p90_ms=at[0.9], p99_ms=at[0.99], p99_9_ms=at[0.999])
    return result


@contextlib.contextmanager
def stopped_at_the_end(*running):
    try:
        yield
    finally:
        for wrk in running:
            if wrk.poll() is None:
                wrk.kill()
                wrk.wait()


def run_wrk(service, script, inputs, connections, seconds, arguments=(), rate=None, watch=None):
    """watch, if given, is called ten times a second with the running wrk."""
    wrk = start(service, script, inputs, connections, seconds, arguments, rate)
    with stopped_at_the_end(wrk):
        while watch and wrk.poll() is None:
            watch(wrk)
            time.sleep(0.1)
        return finish(wrk, seconds + 120)


def wait_open(service, connections, timeout_s=30):
    """Until the service counts as many connections."""
    deadline = time.monotonic() + timeout_s
    while service.metrics()["tidings_http_connections"] < connections:
        if time.monotonic() > deadline:
            sys.exit(f"loadtest/run: {connections} connections were not open after {timeout_s} s")
        time.sleep(0.2)


def interrupt(wrk):
    """It stops, and reports what it has seen."""
    wrk.send_signal(signal.SIGINT)
