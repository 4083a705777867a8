"""`loadtest/run consumers`: how fast a consumer group gives records to its workers, beside Confluent's Parallel Consumer in the same
order (by key), on the same broker and the same records. The handler does nothing, or sleeps 5 ms as if it called somebody. The machine
itself does not end a sleep in time: what threads that only sleep get done is shown beside, as the most that anybody could have."""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
import time

from .peer_tools import CACHE, end, install, process_cpu_s, program
from .shell import PROJECT, end_on_signals, run, say, uninterrupted
from .stack import PARTITIONS, Stack

NAMES = {"tidings": "Tidings", "parallel": "Parallel Consumer"}
SLEEP_US = 5000
WORKERS = (10, 100, 200)
NO_OP_WORKERS = 10
KEYS = 10_000
NO_OP_AIM, CPU_AIM, IDEAL_AIM, RSS_AIM = 20, 10, 0.97, 100
START_S, STALL_S = 60, 20

groups = itertools.count(1)


class Lengths:
    def __init__(self, quick):
        self.records = 200_000 if quick else 1_000_000
        self.slow_s = 4 if quick else 10
        self.repeats = 1 if quick else 3


# --- one of them at work ----------------------------------------------------------------------------------------------

def command(name, stack, topic, group, workers, sleep_us):
    if name == "tidings":
        return [program("groups"), group, workers, sleep_us]
    return ["java", "-Xmx1g", "-cp", f"{CACHE}/parallel:{CACHE}/parallel/lib/*", "Parallel", stack.kafka_brokers, topic, group, workers,
            sleep_us]


def rss_mb(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")) / 1024


class Consumer:
    """Its process, and what it has said: .assigned, .first (times), .marks [(handled, time, CPU seconds)]."""

    def __init__(self, name, stack, topic, group, workers, sleep_us, log):
        env = {**os.environ, "KAFKA_BROKERS": stack.kafka_brokers, "KAFKA_TOPIC": topic, "KAFKA_GROUP_PREFIX": "",
               "DATABASE_URL": stack.url}
        self.name, self.log, self.assigned, self.first, self.marks = name, log, None, None, []
        self.started = time.monotonic()
        with uninterrupted(), open(log, "ab") as out:
            self.process = subprocess.Popen([str(c) for c in command(name, stack, topic, group, workers, sleep_us)], env=env,
                                            stdout=subprocess.PIPE, stderr=out, text=True, start_new_session=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            what, *rest = line.split()
            if what == "assigned":
                self.assigned = self.assigned or float(rest[0])
            elif what == "first":
                self.first = float(rest[0])
            else:
                with contextlib.suppress(OSError, IndexError):
                    self.marks.append((int(rest[0]), float(rest[1]), process_cpu_s(self.process.pid)))

    def handled(self):
        return self.marks[-1][0] if self.marks else 0

    def wait(self, reached, seconds, what):
        deadline = time.monotonic() + seconds
        while not reached():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"loadtest: {NAMES[self.name]}: {what}; the end of {self.log}:\n"
                         + "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]))
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGCONT)
        with uninterrupted():
            end(self.process)


def rate(marks):
    """Of the middle of what was handled: without the first tenth, in which a compiler warms up, and the last."""
    total = marks[-1][0]
    inside = [m for m in marks if total / 10 <= m[0] <= total * 9 / 10]
    if len(inside) < 2:
        inside = marks
    (first, begun, cpu), (last, ended, cpu_end) = inside[0], inside[-1]
    count, seconds = max(last - first, 1), max(ended - begun, 1e-6)
    return count / seconds, 1e6 * (cpu_end - cpu) / count


def drain(name, stack, topic, count, workers, log):
    """A no-op handler, from the first record to the last."""
    with Consumer(name, stack, topic, f"{name}-{next(groups)}", workers, 0, log) as consumer:
        consumer.wait(lambda: consumer.handled() > 0, START_S, "it handles nothing")
        consumer.wait(lambda: consumer.handled() >= count, 10 * START_S, "it does not get to the end")
        per_s, cpu_us = rate(consumer.marks)
        return {"per_s": per_s, "cpu_s_per_million": cpu_us, "rss_mb": rss_mb(consumer.process.pid),
                "whole_per_s": count / max(consumer.marks[-1][1] - consumer.first, 1e-6),
                "start_s": consumer.first - consumer.started}


def slow(name, stack, topic, workers, seconds, log):
    """A handler that waits 5 ms, for a time."""
    with Consumer(name, stack, topic, f"{name}-{next(groups)}", workers, SLEEP_US, log) as consumer:
        consumer.wait(lambda: consumer.handled() > 0, START_S, "it handles nothing")
        time.sleep(1)
        at = len(consumer.marks)
        time.sleep(seconds)
        marks = consumer.marks[at:]
        (first, begun, cpu), (last, ended, cpu_end) = marks[0], marks[-1]
        per_s = (last - first) / (ended - begun)
        return {"per_s": per_s, "of_ideal": per_s / (workers * 1e6 / SLEEP_US), "cpu_s_per_million": 1e6 * (cpu_end - cpu) / (last - first),
                "rss_mb": rss_mb(consumer.process.pid)}


def bare(workers, seconds):
    return int(run(program("sleepers"), str(workers), str(SLEEP_US), str(seconds)))


def rebalance(name, stack, topic, workers, log):
    """A second member joins: how long from its start until it has its first record."""
    group = f"{name}-{next(groups)}"
    with Consumer(name, stack, topic, group, workers, SLEEP_US, log) as one:
        one.wait(lambda: one.handled() > 0, START_S, "it handles nothing")
        with Consumer(name, stack, topic, group, workers, SLEEP_US, log) as two:
            two.wait(lambda: two.first is not None, START_S, "the second member gets nothing")
            return {"joined_s": two.first - two.started, "from_assignment_s": two.first - (two.assigned or two.first)}


# --- all --------------------------------------------------------------------------------------------------------------

def middle(runs):
    return {name: statistics.median(r[name] for r in runs) for name in runs[0]}


def measure(stack, names, lengths):
    topic = "consumers"
    stack.create_topic(topic)
    say(f"{lengths.records:,} records over {KEYS:,} keys and {PARTITIONS} partitions")
    run(program("topic"), stack.kafka_brokers, topic, "fill", str(lengths.records), str(KEYS))
    limits = {w: [] for w in WORKERS}
    found = {name: {"no_op": [], "slow": {w: [] for w in WORKERS}, "rebalance": []} for name in names}
    for i in range(lengths.repeats):
        for name in names:  # in turns, so that both see the same machine
            log = pathlib.Path(stack.directory) / f"{name}.log"
            say(f"{NAMES[name]}: no-op, {NO_OP_WORKERS} workers, {i + 1} of {lengths.repeats}")
            found[name]["no_op"].append(drain(name, stack, topic, lengths.records, NO_OP_WORKERS, log))
        for workers in WORKERS:
            limits[workers].append(bare(workers, min(lengths.slow_s, 5)))
            for name in names:
                say(f"{NAMES[name]}: 5 ms, {workers} workers, {i + 1} of {lengths.repeats}")
                found[name]["slow"][workers].append(
                    slow(name, stack, topic, workers, lengths.slow_s, pathlib.Path(stack.directory) / f"{name}.log"))
        for name in names:
            say(f"{NAMES[name]}: a second member joins, {i + 1} of {lengths.repeats}")
            found[name]["rebalance"].append(rebalance(name, stack, topic, 10, pathlib.Path(stack.directory) / f"{name}.log"))
    return {name: {"runs": of, "no_op": middle(of["no_op"]), "slow": {w: middle(of["slow"][w]) for w in WORKERS},
                   "rebalance": middle(of["rebalance"])} for name, of in found.items()
            }, {w: statistics.median(of) for w, of in limits.items()}


def show(found, limits):
    print(f"\nno-op handler, {NO_OP_WORKERS} workers{'':22}events/s   CPU-s/million   RSS MB   start s")
    for name, of in found.items():
        n = of["no_op"]
        print(f"  {NAMES[name]:<42}{n['per_s']:>12,.0f}{n['cpu_s_per_million']:>16.2f}{n['rss_mb']:>9.0f}{n['start_s']:>10.2f}")
    for workers in WORKERS:
        print(f"\n5 ms handler, {workers} workers (ideal {workers * 200:,}/s){'':8}events/s   of the ideal   CPU-s/million   RSS MB")
        for name, of in found.items():
            n = of["slow"][workers]
            print(f"  {NAMES[name]:<42}{n['per_s']:>9,.0f}{n['of_ideal']:>14.1%}{n['cpu_s_per_million']:>16.1f}{n['rss_mb']:>9.0f}")
        print(f"  {'threads that only sleep':<42}{limits[workers]:>9,.0f}{limits[workers] / (workers * 1e6 / SLEEP_US):>14.1%}")
    print("\na second member joins: s until it handles")
    for name, of in found.items():
        print(f"  {NAMES[name]:<42}{of['rebalance']['joined_s']:>9.2f}  (from its assignment {of['rebalance']['from_assignment_s']:.2f})")


def aims(found, limits):
    ours, theirs = found["tidings"], found.get("parallel")
    rss = max([ours["no_op"]["rss_mb"], *(s["rss_mb"] for s in ours["slow"].values())])
    made = [(f"memory ≤ {RSS_AIM} MB", f"{rss:.0f} MB", rss <= RSS_AIM)]
    for w, s in ours["slow"].items():
        of_limit = s["per_s"] / limits[w]
        made.append((f"5 ms, {w} workers: ≥ {IDEAL_AIM:.0%} of the ideal", f"{s['of_ideal']:.1%}, {of_limit:.1%} of what sleeping threads get",
                     max(s["of_ideal"], of_limit) >= IDEAL_AIM))
    if theirs:
        faster = ours["no_op"]["per_s"] / theirs["no_op"]["per_s"]
        cheaper = theirs["no_op"]["cpu_s_per_million"] / max(ours["no_op"]["cpu_s_per_million"], 1e-9)
        made += [(f"no-op: ≥ {NO_OP_AIM} × the Parallel Consumer's rate", f"{faster:.1f} ×", faster >= NO_OP_AIM),
                 (f"no-op: ≤ 1/{CPU_AIM} of its CPU time", f"1/{cheaper:.1f}", cheaper >= CPU_AIM)]
    return [{"aim": what, "figure": figure, "passed": passed} for what, figure, passed in made]


def parse(arguments):
    p = argparse.ArgumentParser(prog="loadtest/run consumers", description=__doc__.replace("`loadtest/run consumers`: ", "").capitalize())
    p.add_argument("--quick", action="store_true", help="fewer records, shorter, once")
    p.add_argument("--only", metavar="NAME", choices=list(NAMES), help="only one of them: tidings or parallel")
    p.add_argument("--repeats", metavar="N", type=int, help="default 3; with --quick 1")
    p.add_argument("--json", metavar="FILE", type=pathlib.Path, help="all figures as JSON")
    return p.parse_args(arguments)


def main(arguments, build):
    options = parse(arguments)
    end_on_signals()
    if subprocess.run([PROJECT / "deps/install", "build", "run", "load"]).returncode != 0:
        sys.exit(1)
    binary = build()
    wanted = ["programs"] + (["parallel"] if options.only != "tidings" else [])
    there = install(wanted, binary.parent)
    names = [n for n in NAMES if options.only in (None, n) and (n == "tidings" or "parallel" in there)]
    lengths = Lengths(options.quick)
    lengths.repeats = options.repeats or lengths.repeats
    stack = Stack()
    try:
        stack.start()
        found, limits = measure(stack, names, lengths)
    finally:
        stack.close(keep=False)
    show(found, limits)
    made = aims(found, limits) if "tidings" in found else []
    print("\naims")
    for a in made:
        print(f"  {'pass' if a['passed'] else 'MISS':<6}{a['aim']:<50}{a['figure']}")
    if options.json:
        options.json.write_text(json.dumps({"found": found, "limits": limits, "aims": made}, indent=2) + "\n")
