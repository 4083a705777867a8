"""The command line."""

import argparse
import dataclasses
import pathlib

from . import inputs, picture

DESCRIPTION = """\
Measures Tidings over HTTP on a fresh Postgres and Kafka of its own, beside pgbench's one INSERT a transaction on the same
cluster: throughput, latency, CPU time, memory, the way to Kafka, and, with the consumer groups on, the rate that they keep
up with. Ends by checking that answers, Postgres and Kafka agree. docs/loadtest.md says how to read it."""

EPILOG = """\
scenarios, through all connection counts:
  signup     sign-ups over many campaigns
  one        sign-ups, all in one campaign
  referral   sign-ups that each carry a referral code
  mix        50 % sign-ups, 20 % reads of users, 15 % verifications, 5 % each: leaderboards, rewards, campaigns
  read       60 % reads of users, 20 % leaderboards, 10 % campaigns, 10 % sign-ups
scenarios of their own:
  idle       64 busy connections beside thousands of mostly idle ones
  processes  one process and two on one database
  snapshot   with an old snapshot held open
  size       a database of 10,000 users and one of millions

loadtest/run consumers measures how fast a consumer group gives records to its workers: see loadtest/run consumers --help

exit status: 0 all agrees; 1 answers, Postgres and Kafka disagree, or there were 5xx answers, or something failed"""

OWN = ("idle", "processes", "snapshot", "size")  # scenarios that are not climbs


@dataclasses.dataclass
class Lengths:
    """Seconds and counts, of a full run and of a quick one."""
    connections: str = "1,16,64,256,512,1024"
    seconds: int = 8
    repeats: int = 3
    scenarios: str = ",".join(inputs.CLIMBS + OWN)
    warm_up_s: int = 30  # or the broker's compiler takes a core
    referrers_each: int = 20
    group_steps: int = 5
    group_step_s: int = 8
    idle_connections: int = 5000
    snapshot_seconds: int = 300
    size: int = 10_000_000
    size_campaigns: int = 10_000  # small ones, beside the big one


QUICK = Lengths("1,64,512", 2, 1, "signup,one,idle", 2, 5, 3, 4, 5000, 20, 200_000, 1_000)


def numbers(text):
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def positive(text):
    return numbers(text.replace("_", ""))[0]


def check_files(p, options):
    """Not after minutes of measuring."""
    if options.picture and options.picture.suffix not in picture.TERMINALS:
        p.error(f"--picture {options.picture}: the name must end in .png or .svg")
    for file in filter(None, (options.json, options.picture, options.profile)):
        if not file.absolute().parent.is_dir():
            p.error(f"{file}: there is no such directory")
    if options.binary and not options.binary.is_file():
        p.error(f"--binary {options.binary}: there is no such file")
    if unknown := [name for name in options.scenario if name not in inputs.CLIMBS + OWN]:
        p.error(f"--scenario: {', '.join(unknown)}: there are {', '.join(inputs.CLIMBS + OWN)}")
    if options.size < 10_000:
        p.error("--size: at least 10000")


def parser():
    p = argparse.ArgumentParser(prog="loadtest/run", description=DESCRIPTION, epilog=EPILOG,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    full = Lengths()

    def lengths(name):
        return f"default {getattr(full, name)}; with --quick {getattr(QUICK, name)}"
    p.add_argument("--quick", action="store_true", help="under two minutes: fewer and shorter points, for a first look")
    p.add_argument("--scenario", metavar="LIST", help=lengths("scenarios"))
    p.add_argument("--connections", metavar="LIST", type=numbers, help=f"connections of each point, {lengths('connections')}")
    p.add_argument("--seconds", metavar="N", type=positive, help=f"of each point, {lengths('seconds')}")
    p.add_argument("--repeats", metavar="N", type=positive, help=f"of everything but snapshot, {lengths('repeats')}")
    p.add_argument("--campaigns", metavar="N", type=positive, default=100, help="that the sign-ups spread over, default 100")
    p.add_argument("--groups", action=argparse.BooleanOptionalAction, default=True,
                   help="search the rate that the consumer groups keep up with, too (the default)")
    p.add_argument("--peers", action="store_true", help="measure other relays and the parts of Tidings alone, too")
    p.add_argument("--snapshot-seconds", metavar="N", type=positive,
                   help=f"that the old snapshot is held, {lengths('snapshot_seconds')}")
    p.add_argument("--size", metavar="N", type=positive, help=f"users of the large database, {lengths('size')}")
    p.add_argument("--json", metavar="FILE", type=pathlib.Path, help="all figures as JSON")
    p.add_argument("--picture", metavar="FILE", type=pathlib.Path, help="a picture of the figures, .png or .svg")
    p.add_argument("--profile", metavar="DIR", type=pathlib.Path,
                   help="perf on tidings and Postgres over one more point: folded stacks and flame graphs")
    p.add_argument("--binary", metavar="FILE", type=pathlib.Path, help="measure this tidings; default: build a release")
    p.add_argument("--keep", action="store_true", help="stop the servers at the end, but leave their directory")
    return p


def parse(arguments):
    """The options, and the lengths they choose."""
    p = parser()
    options = p.parse_args(arguments)
    lengths = QUICK if options.quick else Lengths()
    options.scenario = (options.scenario or lengths.scenarios).split(",")
    options.climbs = [name for name in options.scenario if name in inputs.CLIMBS]
    options.connections = options.connections or numbers(lengths.connections)
    for name in ("seconds", "repeats", "snapshot_seconds", "size"):
        setattr(options, name, getattr(options, name) or getattr(lengths, name))
    check_files(p, options)
    return options, lengths


def about_minutes(options, lengths):
    """How long it will take on two cores, roughly: what is measured, and for each point what goes before and after."""
    point = options.seconds + 1
    s = 25 + lengths.warm_up_s + options.repeats * (3 * point + len(options.climbs) * len(options.connections) * point)
    if "mix" in options.climbs:
        s += options.repeats * len(options.connections) * 3
    if "signup" in options.climbs:
        s += options.repeats * point + (0 if options.quick else 4 * point)
    if options.groups:
        s += 10 + options.repeats * (2 * point + lengths.group_steps * (lengths.group_step_s + 2))
    if "idle" in options.scenario:
        s += 8 + options.repeats * (2 * point + 3)
    if "processes" in options.scenario:
        s += 10 + options.repeats * 2 * point
    if "snapshot" in options.scenario:
        s += 10 + options.snapshot_seconds * 5 / 3
    if "size" in options.scenario:
        s += 30 + options.size * 60e-6 + options.repeats * 4 * point
    if options.peers:
        s += 180 if options.quick else 1800
    return s / 60
