"""What Tidings is compared with in the same run: the HTTP limit (a bare libh2o endpoint), the store's limit (sign-ups straight
into the lanes), and other relays. loadtest/peers has the programs; loadtest/peers/run runs this alone."""

import argparse
import contextlib
import http.client
import itertools
import json
import pathlib
import subprocess
import sys
import types
import urllib.parse

from . import check, cpu, generator, relays
from .peer_tools import install, make_campaigns, must_live, named, process, process_cpu_s, program
from .relays import median_of
from .service import Service
from .shell import PROJECT, allow_open_files, end_on_signals, run as output_of, say
from .stack import Stack

PARTS = ("http", "lanes", *relays.NAMES)
CAMPAIGNS = 100
HTTP_CONNECTIONS = (64, 256)
OUTSTANDING = (16, 64, 256, 1024)
DATABASE = "peers"

tags = itertools.count(1)


class Lengths:
    def __init__(self, quick, repeats):
        self.repeats = 1 if quick else repeats
        self.seconds = 3 if quick else 8
        self.outstanding = (16, 256) if quick else OUTSTANDING
        self.relays = relays.Lengths(quick, repeats)


# --- HTTP -------------------------------------------------------------------------------------------------------------

def answer_bytes(service, campaign):
    """Of a sign-up's body."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(service.base).netloc, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", f"/v1/campaigns/{campaign}/users", json.dumps({"email": "0000000-1-123456@example.com"}),
                           {"Authorization": f"Bearer {service.key}", "Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 201:
        sys.exit(f"loadtest: a sign-up was answered {answer.status} {body}")
    return len(body)


@contextlib.contextmanager
def endpoint(directory, size):
    log = directory / "endpoint.log"
    with process([program("endpoint"), size], log, stdout=subprocess.PIPE, text=True) as started:
        base = started.stdout.readline().strip()
        must_live(started, "endpoint", log)
        yield types.SimpleNamespace(base=base, key="none", process=started)


def sign_ups(server, directory, connections, seconds):
    """The same load for both: requests a second, and the server's CPU time for one."""
    before = process_cpu_s(server.process.pid)
    wrk = generator.run_wrk(server, "signup", directory, connections, seconds, ["campaigns=campaigns"])
    used = process_cpu_s(server.process.pid) - before
    if wrk["bad_status"]:
        sys.exit(f"loadtest: {wrk['bad_status']} requests were refused")
    return {"per_s": wrk["requests"] / wrk["duration_s"], "cpu_us": 1e6 * used / max(wrk["requests"], 1), "p99_ms": wrk["p99_ms"]}


def http_limit(service, directory, campaigns, lengths):
    size = answer_bytes(service, campaigns[0])
    rows = []
    with endpoint(directory, size) as bare:
        for connections in HTTP_CONNECTIONS:
            runs = {"endpoint": [], "tidings": []}
            for i in range(lengths.repeats):
                say(f"bare libh2o endpoint and Tidings, {connections} connections, {i + 1} of {lengths.repeats}")
                for name, server in (("endpoint", bare), ("tidings", service)):
                    runs[name].append(sign_ups(server, directory, connections, lengths.seconds))
            rows.append({"connections": connections, "runs": runs, **{name: median_of(found) for name, found in runs.items()}})
    return {"answer_bytes": size, "points": rows}


# --- the store --------------------------------------------------------------------------------------------------------

def lanes_run(service, file, outstanding, seconds):
    marks, log = [], service.directory / "lanes.log"
    command = [program("lanes"), file, outstanding, seconds, f"lanes{next(tags)}"]
    with process(command, log, service.env, stdout=subprocess.PIPE, text=True) as started:
        for line in started.stdout:
            if line.startswith("count"):
                marks.append(cpu.of_process(service.stack.pids["postgres"]))
            else:
                break
        found = named(line + started.stdout.read())
        if started.wait(30) != 0 or len(marks) != 2:
            sys.exit(f"loadtest: lanes failed, with status {started.returncode}; see {log}:\n{log.read_text()}")
    return {**found, "postgres_us": 1e6 * (marks[1] - marks[0]) / max(found["sign_ups"], 1)}


def lanes_limit(service, directory, lengths):
    """The program has Tidings' lanes in it; Tidings itself is stopped."""
    file = directory / "lanes-campaigns"
    file.write_text(service.query("select c.id, a.no, a.id from campaigns c join accounts a on a.no = c.account") + "\n")
    points = []
    for outstanding in lengths.outstanding:
        runs = []
        for i in range(lengths.repeats):
            say(f"raw lane calls, {outstanding} outstanding, {i + 1} of {lengths.repeats}")
            runs.append(lanes_run(service, file, outstanding, lengths.seconds))
        points.append({"outstanding": outstanding, "runs": runs, **median_of(runs)})
    return points


def limits(result, stack, binary, parts, lengths):
    found = {}
    stack.create_database(DATABASE)
    with Service(stack, binary, DATABASE, "peers", groups="none") as service:
        service.start()
        campaigns = make_campaigns(service, CAMPAIGNS, service.directory)
        if "http" in parts:
            found["http"] = http_limit(service, service.directory, campaigns, lengths)
            result.setdefault("checks", []).append(check.check(service))
        service.stop()
        service.process = None
        if "lanes" in parts:
            found["lanes"] = lanes_limit(service, service.directory, lengths)
    return found


# --- the aims ---------------------------------------------------------------------------------------------------------

def aim(what, ratio, bound, least=False):
    """A ratio that must be at most (at least) the bound; None: not measured."""
    passed = None if ratio is None else ratio >= bound if least else ratio <= bound
    return {"aim": what, "figure": None if ratio is None else f"{ratio:.2f} ×" if ratio >= 0.1 else f"{ratio:.4f} ×", "passed": passed}


def figure(found, name, what, under, *figures):
    """The sum of some medians; None when the relay was not measured, stood still, or fell behind: then its figures say nothing."""
    part = found.get("relays", {}).get(name, {}).get(what, {}).get(under)
    if not part or part["stalled"] or keeps_up(part) == "NO" or any(f not in part["median"] for f in figures):
        return None
    return sum(part["median"][f] for f in figures)


COST = ("relay_cpu_s_per_million", "postgres_cpu_s_per_million")


def aims(found):
    def ratio(name, what, *figures, under="quiet"):
        ours, theirs = figure(found, "tidings", what, under, *figures), figure(found, name, what, "quiet", *figures)
        return ours / theirs if ours is not None and theirs else None
    made = []
    if "http" in found:
        most = max(p["tidings"]["cpu_us"] / p["endpoint"]["cpu_us"] for p in found["http"]["points"] if p["endpoint"]["cpu_us"])
        made.append(aim("CPU of tidings per sign-up ≤ 3 × the bare endpoint's", most, 3))
    if "relays" in found:
        made += [
            aim("live: CPU per event ≤ 1/2.5 of the loop's", ratio("loop", "live", *COST), 1 / 2.5),
            aim("live: CPU per event ≤ 1/20 of Debezium's", ratio("debezium", "live", *COST), 1 / 20),
            aim("live: p99 ≤ 1/4 of the loop's", ratio("loop", "live", "p99_ms"), 1 / 4),
            aim("live: p99 ≤ 1/15 of Debezium's", ratio("debezium", "live", "p99_ms"), 1 / 15),
            aim("catch-up ≥ 2 × the loop's", ratio("loop", "drain", "per_s"), 2, least=True),
        ]
        for under in ("old snapshot", "open transaction"):
            made += [aim(f"{under}: catch-up ≥ 0.8 of without", ratio("tidings", "drain", "per_s", under=under), 0.8, least=True),
                     aim(f"{under}: p99 ≤ 1.25 of without", ratio("tidings", "live", "p99_ms", under=under), 1.25)]
    return made


# --- tables -----------------------------------------------------------------------------------------------------------

def table(title, header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n{title}")
    for row in [header, *rows]:
        print("  " + "  ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip())
    sys.stdout.flush()


def number(value, decimals=1):
    return "–" if value is None else f"{value:,.{decimals}f}"


def show_http(found):
    rows = []
    for p in found["points"]:
        bare, ours = p["endpoint"], p["tidings"]
        rows.append([p["connections"], number(bare["per_s"], 0), number(bare["cpu_us"]), number(ours["per_s"], 0),
                     number(ours["cpu_us"]), number(ours["cpu_us"] / bare["cpu_us"], 2) if bare["cpu_us"] else "–"])
    table(f"the HTTP limit: libh2o alone, 201 with {found['answer_bytes']} bytes; CPU us per request",
          ["connections", "bare/s", "bare us", "tidings/s", "tidings us", "×"], rows)


def show_lanes(points):
    table("the store's limit: sign-ups straight into the lanes; CPU us per sign-up",
          ["outstanding", "per s", "lanes us", "postgres us", "batch"],
          [[p["outstanding"], number(p["per_s"], 0), number(p["cpu_us"]), number(p["postgres_us"]), number(p["batch_mean"], 0)]
           for p in points])


def cells(part, columns):
    if not part:
        return ["–"] * len(columns)
    if part["stalled"]:
        return ["stands still"] + ["–"] * (len(columns) - 1)
    return [number(part["median"].get(name), decimals) for name, decimals in columns]


def show_relays(found):
    drain = [("per_s", 0), ("relay_cpu_s_per_million", 1), ("postgres_cpu_s_per_million", 1), ("start_s", 1)]
    live = [("p50_ms", 1), ("p99_ms", 1), ("relay_cpu_s_per_million", 1), ("postgres_cpu_s_per_million", 1)]
    for under in relays.CONDITIONS:
        table(f"relays, catch-up, {under}: CPU-seconds per million events",
              ["", "events/s", "relay", "Postgres", "start s"],
              [[relays.NAMES[name], *cells(of["drain"].get(under), drain)] for name, of in found.items()])
    for under in relays.CONDITIONS:
        table(f"relays, {relays.RATE:,} events a second, {under}: from the event's timestamp to a consumer; CPU-seconds per million",
              ["", "p50 ms", "p99 ms", "relay", "its sessions", "keeps up"],
              [[relays.NAMES[name], *cells(of["live"].get(under), live), keeps_up(of["live"].get(under))] for name, of in found.items()])


def keeps_up(part):
    return "–" if not part or part["stalled"] else "yes" if all(r.get("keeps_up", True) for r in part["runs"]) else "NO"


def show(result):
    found = result["peers"]
    for name in found["missing"]:
        print(f"\nMEASURED WITHOUT {name.upper()}: it could not be installed")
    if "http" in found:
        show_http(found["http"])
    if "lanes" in found:
        show_lanes(found["lanes"])
    if "relays" in found:
        show_relays(found["relays"])


# --- how it is called -------------------------------------------------------------------------------------------------

def measure(result, stack, binary, parts, lengths):
    """Fills result["peers"]; result["checks"] gets what becomes of the sign-ups over HTTP."""
    build = pathlib.Path(binary).resolve().parent
    peers = [name for name in ("loop", "watermill", "debezium") if name in parts]
    there = install(["programs", *peers], build)
    found = result["peers"] = {"missing": [name for name in ["programs", *peers] if name not in there], "aims": []}
    if "programs" not in there:
        return
    if {"http", "lanes"} & set(parts):
        found.update(limits(result, stack, binary, parts, lengths))
    wanted = [name for name in relays.NAMES if name in parts and name not in found["missing"]]
    if wanted:
        found["relays"] = relays.run_all(stack, binary, wanted, lengths.relays)
    found["aims"] = aims(found)


def run(result, stack, binary, options, _lengths):
    measure(result, stack, binary, PARTS, Lengths(options.quick, options.repeats))


def parse(arguments):
    p = argparse.ArgumentParser(prog="loadtest/peers/run", description="Measures Tidings beside its peers, on a Postgres and a Kafka "
                                "of its own; loadtest/peers/README.md says what they are.")
    p.add_argument("--quick", action="store_true", help="fewer events, shorter, once")
    p.add_argument("--only", metavar="LIST", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; default all")
    p.add_argument("--repeats", metavar="N", type=int, default=3, help="of what is not quick; the table has medians; default 3")
    p.add_argument("--json", metavar="FILE", type=pathlib.Path, help="all figures as JSON")
    p.add_argument("--binary", metavar="FILE", type=pathlib.Path,
                   help="measure this tidings, with its library beside it; default: build a release")
    options = p.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := [name for name in options.only if name not in PARTS]:
        p.error(f"--only: {', '.join(unknown)}: there are {', '.join(PARTS)}")
    if options.binary and not options.binary.is_file():
        p.error(f"--binary {options.binary}: there is no such file")
    return options


def build_release():
    say("building a release")
    output_of("cmake", "--preset", "release", cwd=PROJECT)
    output_of("cmake", "--build", "build/release", cwd=PROJECT)
    return PROJECT / "build/release/tidings"


def main(arguments):
    options = parse(arguments)
    end_on_signals()
    allow_open_files(2000)
    if subprocess.run([PROJECT / "deps/install", "build", "run", "load"]).returncode != 0:
        sys.exit(1)
    binary = options.binary.resolve() if options.binary else build_release()
    result, stack = {}, Stack()
    try:
        stack.start()
        measure(result, stack, binary, options.only, Lengths(options.quick, options.repeats))
    finally:
        stack.close(keep=False)
    show(result)
    print("\naims")
    for a in result["peers"]["aims"]:
        print(f"  {'not measured' if a['passed'] is None else 'pass' if a['passed'] else 'MISS':<12}  {a['aim']:<50} {a['figure'] or ''}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(1 if result["peers"]["missing"] or not all(c["agree"] for c in result.get("checks", [])) else 0)
