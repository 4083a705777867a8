"""Where the figures come from: the machine, versions and settings."""

import os
import pathlib
import platform
import re
import statistics
import subprocess
import time

from .shell import PROJECT, run

POSTGRES = ("server_version", "shared_buffers", "max_wal_size", "checkpoint_timeout", "fsync", "synchronous_commit")


def first(pattern, text, otherwise="unknown"):
    found = re.search(pattern, text, re.M)
    return found.group(1).strip() if found else otherwise


def fsync_us(directory, writes=200):
    """What it costs to get one page to the disk: the floor under every commit. The median."""
    times, page = [], bytes(8192)
    file = directory / "fsync"
    with open(file, "wb", buffering=0) as out:
        for _ in range(writes):
            os.pwrite(out.fileno(), page, 0)
            start = time.monotonic()
            os.fdatasync(out.fileno())
            times.append(1e6 * (time.monotonic() - start))
    file.unlink()
    return statistics.median(times)


def facts(stack, binary):
    memory_kb = int(first(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), "0"))
    shown = run("psql", "-qAtX", "-F", "=", stack.url, "-c",
                f"select name, current_setting(name) from unnest(array{list(POSTGRES)}) name")
    postgres = dict(line.split("=", 1) for line in shown.splitlines())
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": first(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text()),
        "memory_mb": memory_kb // 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "fdatasync_us": fsync_us(stack.directory),
        "postgres": postgres,
        "kafka": first(r"<kafka\.version>(.*?)<", (PROJECT / "deps/kafka/pom.xml").read_text()),
        "wrk": "wrk " + first(r"^wrk (\S+)", subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout),
        "tidings": run(binary, "--version").strip(),
    }


def changed_settings(service):
    """Settings of Tidings that differ from their defaults, without secrets and addresses."""
    found = re.findall(r"^\* ?(\w+)\s.*\snow (.*)$", run(service.binary, "config", env=service.env), re.M)
    aside = {"DATABASE_URL", "KAFKA_BROKERS", "KAFKA_TOPIC", "HTTP_LISTEN", "TOKEN_SECRET"}
    return {name: value.strip() for name, value in found if name not in aside}
