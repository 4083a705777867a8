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
scenarios: signup    sign-ups over many campaigns
           one       sign-ups, all in one campaign
           referral  sign-ups that each carry a referral code
           mix       50 % sign-ups, 20 % reads of users, 15 % verifications, 5 % each: leaderboards, rewards, campaigns

exit status: 0 all agrees; 1 answers, Postgres and Kafka disagree, or there were 5xx answers, or something failed"""


@dataclasses.dataclass
class Lengths:
    """Seconds and counts, of a full run and of a quick one."""
    connections: str = "1,16,64,128,256,512,1024"
    seconds: int = 10
    scenarios: str = "signup,one,referral,mix"
    warm_up_s: int = 5
    referrers_each: int = 20
    group_steps: int = 5
    group_step_s: int = 8


QUICK = Lengths("16,256,1024", 3, "signup,mix", 2, 5, 3, 4)


def numbers(text):
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def positive(text):
    return numbers(text)[0]


def check_files(p, options):
    """Not after minutes of measuring."""
    if options.picture and options.picture.suffix not in picture.TERMINALS:
        p.error(f"--picture {options.picture}: the name must end in .png or .svg")
    for file in filter(None, (options.json, options.picture)):
        if not file.absolute().parent.is_dir():
            p.error(f"{file}: there is no such directory")
    if options.binary and not options.binary.is_file():
        p.error(f"--binary {options.binary}: there is no such file")
    if unknown := [name for name in options.scenario if name not in inputs.NAMES]:
        p.error(f"--scenario: {', '.join(unknown)}: there are {', '.join(inputs.NAMES)}")


def parse(arguments):
    """The options, and the lengths they choose."""
    p = argparse.ArgumentParser(prog="loadtest/run", description=DESCRIPTION, epilog=EPILOG,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    full = Lengths()
    p.add_argument("--quick", action="store_true", help="under two minutes: fewer and shorter points, for a first look")
    p.add_argument("--scenario", metavar="LIST", help=f"default {full.scenarios}; with --quick {QUICK.scenarios}")
    p.add_argument("--connections", metavar="LIST", type=numbers,
                   help=f"connections of each point, default {full.connections}; with --quick {QUICK.connections}")
    p.add_argument("--seconds", metavar="N", type=positive,
                   help=f"of each point, default {full.seconds}; with --quick {QUICK.seconds}")
    p.add_argument("--campaigns", metavar="N", type=positive, default=100, help="that the sign-ups spread over, default 100")
    p.add_argument("--groups", action=argparse.BooleanOptionalAction, default=True,
                   help="search the rate that the consumer groups keep up with, too (the default)")
    p.add_argument("--json", metavar="FILE", type=pathlib.Path, help="all figures as JSON")
    p.add_argument("--picture", metavar="FILE", type=pathlib.Path, help="a picture of the figures, .png or .svg")
    p.add_argument("--binary", metavar="FILE", type=pathlib.Path, help="measure this tidings; default: build a release")
    p.add_argument("--keep", action="store_true", help="stop the servers at the end, but leave their directory")
    options = p.parse_args(arguments)
    lengths = QUICK if options.quick else full
    options.scenario = (options.scenario or lengths.scenarios).split(",")
    options.connections = options.connections or numbers(lengths.connections)
    options.seconds = options.seconds or lengths.seconds
    check_files(p, options)
    return options, lengths
