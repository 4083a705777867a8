"""Where the CPU time goes: perf on tidings and its Postgres backends while one point is measured."""

import os
import shutil
import signal
import subprocess
import sys

from . import tools
from .points import measure
from .shell import say

INFERNO = ("inferno", "0.12.8", ("cli",))
HERTZ = 499
STACK_BYTES = 8192  # of each sample, to find the callers by DWARF: Debian's Postgres keeps no frame pointers


def check(directory):
    if shutil.which("perf") is None:
        sys.exit("loadtest/run: --profile needs perf (Debian: linux-perf)")
    directory.mkdir(parents=True, exist_ok=True)


def backends(service):
    return service.query("select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()").split()


def run(result, service, inputs, options):
    best = result["best"].get("signup")
    connections = best["connections"] if best else 256
    say(f"profile: sign-ups, {connections} connections, {options.seconds} s")
    of = {"tidings": [str(service.process.pid)], "postgres": backends(service)}
    recorders = {name: record(options.profile / name, pids) for name, pids in of.items()}
    try:
        measure(service, inputs, "signup", connections, options.seconds)
    finally:
        for recorder in recorders.values():
            recorder.send_signal(signal.SIGINT)
            recorder.wait()
    result["profile"] = {name: show(options.profile / name) for name in of}


def record(path, pids):
    return subprocess.Popen(["perf", "record", "-q", "-o", f"{path}.perf", "-e", "cpu-clock", "-F", str(HERTZ),
                             "--call-graph", f"dwarf,{STACK_BYTES}", "-p", ",".join(pids)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def show(path):
    """Folded stacks and a flame graph; without inferno, perf's own report. The files that there are now."""
    collapse = tools.cargo(*INFERNO[:2], "inferno-collapse-perf", INFERNO[2])
    say(f"reading {path}.perf")
    if collapse is None:
        return [written(f"{path}.txt", ["perf", "report", "-i", f"{path}.perf", "--stdio", "--no-inline", "-g", "caller"])]
    folded = written(f"{path}.folded", ["perf", "script", "--no-inline", "-i", f"{path}.perf"], [collapse])
    graph = written(f"{path}.svg", [collapse.with_name("inferno-flamegraph"), "--title", path.name, folded])
    os.unlink(f"{path}.perf")  # large, and says no more
    return [folded, graph]


def written(file, *commands):
    """The last command's output, each reading the one before."""
    text = b""
    for command in commands:
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"loadtest/run: {command[0]}: {done.stderr.decode()[-2000:]}")
        text = done.stdout
    with open(file, "wb") as out:
        out.write(text)
    return file
