"""Runs wrk with one of the Lua scripts."""

import itertools
import json
import re
import subprocess
import sys
import time

from .shell import PROJECT

tags = itertools.count(1)


def threads_of(connections):
    """wrk gives each of its threads the same number of connections."""
    return 2 if connections % 2 == 0 else 1


def run_wrk(service, script, inputs, connections, seconds, arguments=(), rate=None, watch=None):
    """What common.lua's done() reports. watch, if given, is called ten times a second with the running wrk."""
    threads = threads_of(connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
               "-s", str(PROJECT / "loadtest" / f"{script}.lua"), service.base, "--",
               f"dir={inputs}", f"key={service.key}", f"tag=w{next(tags)}", f"threads={threads}", *arguments]
    if rate:
        command.append(f"rate={rate:.0f}")
    wrk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        while watch and wrk.poll() is None:
            watch(wrk)
            time.sleep(0.1)
        text = wrk.communicate(timeout=seconds + 120)[0]
    finally:
        if wrk.poll() is None:
            wrk.kill()
            wrk.wait()
    found = re.search(r"^RESULT (.*)$", text, re.M)
    if wrk.returncode != 0 or not found:
        sys.exit(f"loadtest/run: {' '.join(command)}\n{text}")
    return json.loads(found.group(1))
