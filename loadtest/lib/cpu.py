"""CPU time of processes and of threads, from /proc."""

import os
import pathlib

TICKS = os.sysconf("SC_CLK_TCK")


def fields(stat):
    """A stat file's fields after the name, and the name; None when the process has ended."""
    try:
        before, after = stat.read_text().rsplit(")", 1)
    except OSError:
        return None
    return before.split("(", 1)[1], after.split()


def of_process(pid):
    """Seconds of a process and the children that it has or had."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        if found := fields(stat):
            if stat.parent.name == str(pid):
                ticks += sum(map(int, found[1][11:15]))  # with the children that have ended
            elif int(found[1][1]) == pid:
                ticks += sum(map(int, found[1][11:13]))
    return ticks / TICKS


def of_threads(pid):
    """Seconds of a tidings' threads: the loop, librdkafka's, and all others."""
    parts = {"loop": 0.0, "librdkafka": 0.0, "others": 0.0}
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        if found := fields(stat):
            name, values = found
            part = "loop" if stat.parent.name == str(pid) else "librdkafka" if name.startswith("rdk:") else "others"
            parts[part] += sum(map(int, values[11:13])) / TICKS
    return parts
