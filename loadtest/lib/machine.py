"""Where the figures come from: the machine, versions and settings."""

import os
import pathlib
import platform
import re

from .shell import PROJECT, run

POSTGRES = ("server_version", "shared_buffers", "max_wal_size", "checkpoint_timeout", "fsync", "synchronous_commit")


def first(pattern, text, otherwise="unknown"):
    found = re.search(pattern, text, re.M)
    return found.group(1).strip() if found else otherwise


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
        "postgres": postgres,
        "kafka": first(r"<kafka\.version>(.*?)<", (PROJECT / "deps/kafka/pom.xml").read_text()),
        "tidings": run(binary, "--version").strip(),
    }


def changed_settings(service):
    """Settings of Tidings that differ from their defaults, without secrets and addresses."""
    found = re.findall(r"^\* ?(\w+)\s.*\snow (.*)$", run(service.binary, "config", env=service.env), re.M)
    aside = {"DATABASE_URL", "KAFKA_BROKERS", "HTTP_LISTEN", "TOKEN_SECRET"}
    return {name: value.strip() for name, value in found if name not in aside}
