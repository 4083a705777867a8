"""What peers.py and the relays' bench share: where the peers are, processes that end with the block, CPU time."""

import contextlib
import os
import pathlib
import subprocess
import sys

from .shell import PROJECT, run, say, uninterrupted

CACHE = PROJECT / "var/peers"
INSTALL = PROJECT / "loadtest/peers/install"
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 15


def install(names, build):
    """Those of the peers that can be had. What cannot be is said at once, and left out."""
    there = []
    for name in names:
        done = subprocess.run([INSTALL, "--build", build, name], start_new_session=True)
        if done.returncode == 0:
            there.append(name)
        else:
            say(f"WITHOUT {name.upper()}: it could not be installed")
    return there


def program(name):
    return CACHE / "programs" / name


def make_campaigns(service, count, directory):
    """Their ids, also as the file "campaigns" that the sign-up scenario reads."""
    ids = [service.client.get_it("POST", "/v1/campaigns", {"name": f"Campaign {i}"})["campaign_id"] for i in range(count)]
    (directory / "campaigns").write_text("".join(i + "\n" for i in ids))
    return ids


# --- processes --------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def process(command, log, env=None, **options):
    """A server that is ended with the block. What it writes is in the file log."""
    with uninterrupted(), open(log, "ab") as out:
        options = {"stdout": out, "stderr": subprocess.STDOUT, **options}
        started = subprocess.Popen([str(c) for c in command], env=env, start_new_session=True, **options)
    try:
        yield started
    finally:
        with uninterrupted():
            end(started)


def end(started):
    if started.poll() is None:
        started.terminate()
        try:
            started.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def must_live(started, what, log):
    if started.poll() is not None:
        sys.exit(f"loadtest: {what} ended by itself, with status {started.returncode}; the end of {log}:\n"
                 + "\n".join(pathlib.Path(log).read_text(errors="replace").splitlines()[-15:]))


def named(text):
    """Lines of NAME VALUE as a dictionary; numbers are numbers."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        try:
            found[name] = float(value) if "." in value else int(value)
        except ValueError:
            found[name] = value
    return found


# --- CPU time ---------------------------------------------------------------------------------------------------------

def process_cpu_s(pid):
    """Of a process, with its threads that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def threads_cpu_s(pid):
    """Of a process' threads by name; the first one's is "main". To the nanosecond, where the kernel counts so."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            ns = int((task / "schedstat").read_text().split()[0])
            name = "main" if task.name == str(pid) else (task / "comm").read_text().strip()
        except OSError:
            continue  # it has ended since
        found[name] = found.get(name, 0) + ns / 1e9
    return found


def sessions_cpu_s(admin_url, which):
    """Of the Postgres sessions that an SQL condition on pg_stat_activity names, together."""
    pids = run("psql", "-qAtX", admin_url, "-c", f"select pid from pg_stat_activity where {which}").split()
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(threads_cpu_s(pid).values())
    return total
