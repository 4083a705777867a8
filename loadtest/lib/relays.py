"""The relays' bench: Tidings' and its peers', one after another on the same Postgres and Kafka.

drain   events wait in Postgres, the relay starts: from the first one that shows in Kafka until all are there
live    new events at a steady rate, one a transaction: from an event's own timestamp, taken in its transaction, until a
        consumer has it; and the CPU time that the relay and its sessions in Postgres take for it
Both also with an old snapshot open, and with an open transaction that has written, in another database."""

import concurrent.futures
import contextlib
import itertools
import statistics
import subprocess
import sys
import time

from . import cpu, relay_kinds
from .peer_tools import must_live, named, process, program, sessions_cpu_s, threads_cpu_s
from .shell import lines_of, run, say

RATE = 3000
CONDITIONS = {"quiet": None, "old snapshot": "begin isolation level repeatable read; select count(*) from pg_class;",
              "open transaction": "begin; select pg_current_xact_id();"}
NAMES = {"tidings": "Tidings", "loop": "pgx + franz-go loop", "watermill": "Watermill forwarder", "debezium": "Debezium Server"}
WATERMILL_SHARE = 20  # it gets so many times fewer events to drain

topics = itertools.count(1)


class Lengths:
    def __init__(self, quick, repeats):
        self.events = 50_000 if quick else 500_000
        self.repeats = 1 if quick else repeats
        self.skip_s, self.live_s = (4, 5) if quick else (8, 15)
        self.stall_s = 10 if quick else 20


# --- what is around ---------------------------------------------------------------------------------------------------

def use_logical_wal(stack):
    """Debezium needs it; all are measured with it."""
    if run("psql", "-qAtX", stack.admin_url, "-c", "show wal_level").strip() == "logical":
        return
    run("psql", "-qX", stack.admin_url, "-c", "alter system set wal_level = logical")
    stack.tool("postgres", "stop")
    urls = lines_of(stack.tool("postgres", "start"))
    if urls["ADMIN_DATABASE_URL"] != stack.admin_url:
        sys.exit("loadtest: Postgres came back on another port")
    stack.pids["postgres"] = int(stack.tool("postgres", "pid"))


@contextlib.contextmanager
def condition(relay, name):
    """A session that does nothing more, in the relay's database (the snapshot) or another one (the transaction)."""
    if not CONDITIONS[name]:
        yield
        return
    database = relay.database if name == "old snapshot" else "postgres"
    url = relay.stack.admin_url.rsplit("/", 1)[0] + "/" + database
    with process(["psql", "-qAtX", url], relay.directory / "session.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                 text=True) as session:
        session.stdin.write(CONDITIONS[name] + "\n")
        session.stdin.flush()
        if not session.stdout.readline().strip():
            sys.exit(f"loadtest: the {name} could not be opened")
        yield


def topic_tool(relay, *arguments, **options):
    return [program("topic"), relay.stack.kafka_brokers, relay.topic, *arguments]


# --- drain ------------------------------------------------------------------------------------------------------------

def drain(relay, under, count, stall_s):
    relay.reset(f"drain-{next(topics)}")
    with condition(relay, under):
        relay.fill(count)
        run("psql", "-qX", relay.stack.admin_url, "-c", "checkpoint")
        begun = time.monotonic()
        with relay.running() as started:
            with process(topic_tool(relay, "wait", count, relay.start_s, stall_s), relay.log,
                         stdout=subprocess.PIPE, text=True) as wait:
                marks = []
                for line in wait.stdout:
                    what, number, at = line.split()
                    marks.append((what, int(number), float(at), relay.cpu_s(started), cpu.of_process(relay.stack.pids["postgres"])))
            must_live(started, relay.name, relay.log)
    return drained(relay, count, begun, marks)


def drained(relay, count, begun, marks):
    what, number, at, cpu, postgres = marks[-1]
    if what != "all" or len(marks) < 2:
        return {"events": number, "stalled": True}
    first = marks[0]
    events, seconds = number - first[1], at - first[2]
    checked = named(run(*topic_tool(relay, "check")))
    return {"events": count, "stalled": False, "start_s": first[2] - begun, "drain_s": seconds,
            "per_s": events / seconds if events else 0.0,
            "relay_cpu_s_per_million": 1e6 * (cpu - first[3]) / max(events, 1),
            "postgres_cpu_s_per_million": 1e6 * (postgres - first[4]) / max(events, 1), "topic": checked}


# --- live -------------------------------------------------------------------------------------------------------------

def readings(relay, started):
    return {"at": time.monotonic(), "relay": relay.cpu_s(started), "threads": threads_cpu_s(started.pid),
            "sessions": sessions_cpu_s(relay.stack.admin_url, relay.sessions),
            "postgres": cpu.of_process(relay.stack.pids["postgres"]), "made": relay.made()}


def grown(before, after):
    found = {name: after[name] - before[name] for name in ("at", "relay", "sessions", "postgres", "made")}
    return {**found, "threads": {name: after["threads"][name] - before["threads"].get(name, 0) for name in after["threads"]}}


def live(relay, under, lengths, **how):
    """Latency and CPU time over lengths.live_s, after lengths.skip_s of the same load."""
    relay.reset(f"live-{next(topics)}")
    relay.nothing_waits()
    with condition(relay, under), relay.running(**how) as started:
        if not relay.wait_running(**how):
            return {"stalled": True, "records": 0}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with process(topic_tool(relay, "follow", lengths.skip_s, lengths.live_s), relay.log, stdout=subprocess.PIPE,
                         text=True) as follow:
                if follow.stdout.readline().strip() != "ready":
                    sys.exit(f"loadtest: the topic cannot be followed; see {relay.log}")
                writing = pool.submit(relay.write, RATE, lengths.skip_s + lengths.live_s + 1)
                time.sleep(lengths.skip_s)
                before = readings(relay, started)
                time.sleep(lengths.live_s)
                used = grown(before, readings(relay, started))
                arrived = named(follow.stdout.read())
                must_live(started, relay.name, relay.log)
            writing.result()
    return {"stalled": arrived["records"] == 0 and how.get("kafka", True), "asked_per_s": RATE, "seconds": used["at"],
            **arrived, "used": used,
            "keeps_up": arrived["records"] >= 0.95 * RATE * lengths.live_s}


def per_million(found, relay_s):
    """CPU-seconds per million events: the relay, and its sessions in Postgres."""
    events = max(found["records"], 1)
    return {"relay_cpu_s_per_million": 1e6 * relay_s / events, "postgres_cpu_s_per_million": 1e6 * found["used"]["sessions"] / events}


def tidings_live(relay, under, lengths):
    """Tidings does other work in the same process: its relay is librdkafka's threads, and what the loop's thread uses more
    than for as many events with Kafka away, when the relay has nothing to do."""
    on, off = live(relay, under, lengths), live(relay, under, lengths, kafka=False)
    if on["stalled"] or off["stalled"]:
        return {"stalled": True, "records": 0}
    made = max(on["used"]["made"], 1)
    loop = on["used"]["threads"]["main"] - off["used"]["threads"]["main"] * made / max(off["used"]["made"], 1)
    librdkafka = sum(s for name, s in on["used"]["threads"].items() if name.startswith("rdk:"))
    # A difference may be noise; nothing costs less than nothing.
    return {**on, "without": off["used"], "loop_cpu_s_per_million": 1e6 * loop / made,
            "librdkafka_cpu_s_per_million": 1e6 * librdkafka / made, **per_million(on, max(loop, 0.0) + librdkafka)}


def peer_live(relay, under, lengths):
    found = live(relay, under, lengths)
    return found if found.get("stalled") else {**found, **per_million(found, found["used"]["relay"])}


# --- all --------------------------------------------------------------------------------------------------------------

def median_of(runs):
    """Of each figure that all runs have."""
    return {name: statistics.median(r[name] for r in runs) for name in runs[0]
            if all(isinstance(r.get(name), (int, float)) and not isinstance(r.get(name), bool) for r in runs)}


def measure(relay, what, under, repeats, one):
    runs = []
    for i in range(repeats):
        say(f"{relay.name}: {what}, {under}" + (f", {i + 1} of {repeats}" if repeats > 1 else ""))
        runs.append(one())
        if runs[-1].get("stalled"):
            break
    return {"runs": runs, "median": median_of(runs), "stalled": any(r.get("stalled") for r in runs)}


def make_relays(stack, binary, names, events):
    tidings = relay_kinds.Tidings(stack, binary)
    total = tidings.make_events(events)
    made = {"tidings": tidings}
    makers = {"loop": lambda: relay_kinds.Loop(stack, tidings), "debezium": lambda: relay_kinds.Debezium(stack, tidings),
              "watermill": lambda: relay_kinds.Watermill(stack, tidings, WATERMILL_SHARE)}
    for name in names:
        if name in makers:
            made[name] = makers[name]()
    return {name: made[name] for name in names}, total


def run_all(stack, binary, names, lengths):
    """{name: {"drain": {condition: …}, "live": {condition: …}}}. All drains first: live events would add to what waits."""
    use_logical_wal(stack)
    say(f"making {lengths.events:,} events, and the relays' databases")
    relays, total = make_relays(stack, binary, names, lengths.events)
    found = {name: {"drain": {}, "live": {}} for name in relays}
    for under in CONDITIONS:
        repeats = lengths.repeats if under == "quiet" else 1
        for name, relay in relays.items():
            count = total // relay.share
            found[name]["drain"][under] = measure(relay, f"{count:,} events wait", under, repeats,
                                                  lambda r=relay, c=count, u=under: drain(r, u, c, lengths.stall_s))
    for under in CONDITIONS:
        repeats = lengths.repeats if under == "quiet" else 1
        for name, relay in relays.items():
            one = tidings_live if name == "tidings" else peer_live
            found[name]["live"][under] = measure(relay, f"{RATE:,} events a second", under, repeats,
                                                 lambda r=relay, u=under, o=one: o(r, u, lengths))
    if "debezium" in relays:
        relays["debezium"].drop_slot()
    return found
