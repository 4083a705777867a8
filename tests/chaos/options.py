"""The command line."""

import argparse
import random
import shlex

from .plan import KINDS
from .stack import binary_is_breakable, clock_can_be_faked, disk_can_be_mounted

EXAMPLES = """
examples:
  tests/chaos/run                                   a minute of all faults on two processes
  tests/chaos/run --seed 7 --minutes 10             longer; the seed decides which faults come when
  tests/chaos/run --faults process-kill,pg-restart --seconds 30
  tests/chaos/run --brokers 3 --faults broker-kill --processes 1
  tests/chaos/run --standby --faults promote,process-kill
  tests/chaos/run --break skip-event --seconds 12   a deliberate bug (in a binary built with TIDINGS_BREAKABLE): must be found

kinds of faults:
"""
BUGS = ("skip-event", "swap-events", "commit-early", "ack-before-commit", "double-effect")


def parse(arguments):
    kinds = "\n".join(f"  {name:14} {kind.help}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="tests/chaos/run", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES + kinds,
        description="Runs processes of tidings under load, on a Postgres and a Kafka of their own, while parts are killed, "
                    "stopped, cut off and slowed down at random. Afterwards all must settle by itself, and every answer that was "
                    "given is held against Postgres, Kafka and what the groups sent. Exit status: 0 only if nothing is wrong.")
    parser.add_argument("--seed", type=int, help="decides which faults come when (default: a random one, which is said)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=60, help="length of the load with its faults (60)")
    length.add_argument("--minutes", type=float)
    parser.add_argument("--processes", type=int, choices=(1, 2, 3), default=2, help="of tidings serve (2)")
    parser.add_argument("--faults", default="all", metavar="LIST", help="kinds, comma-separated, or all, or none")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="of Kafka (1)")
    parser.add_argument("--standby", action="store_true", help="Postgres has a synchronous standby, which promote needs")
    parser.add_argument("--rate", type=float, default=200, metavar="N", help="actions a second at most (200)")
    parser.add_argument("--connections", type=int, default=32, metavar="N", help="of the clients (32)")
    parser.add_argument("--patience", type=float, default=60, metavar="SECONDS",
                        help="until a fault must be overcome, and without any change at the end (60)")
    parser.add_argument("--json", metavar="FILE", help="writes the result there as well")
    parser.add_argument("--keep", action="store_true", help="keeps the directory and leaves the servers running")
    parser.add_argument("--break", dest="bug", choices=BUGS, help="a deliberate bug: proves that it is noticed")
    options = parser.parse_args(arguments)
    options.given = list(arguments)
    if options.minutes:
        options.seconds = options.minutes * 60
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(100000)
        options.given += ["--seed", str(options.seed)]
    if options.bug and not binary_is_breakable():
        parser.error("this binary has no deliberate bugs: build it with -DTIDINGS_BREAKABLE=ON")
    options.kinds, options.skipped = choose_kinds(options, parser)
    return options


def choose_kinds(options, parser):
    """(kinds, {kind that was left out: why}). What was named must be possible; of all, what is possible is taken."""
    names = list(KINDS) if options.faults == "all" else [] if options.faults == "none" else options.faults.split(",")
    for name in names:
        if name not in KINDS:
            parser.error(f"there is no fault {name}")
    can = {
        "a small disk": "it is for runs without --standby" if options.standby else disk_can_be_mounted(),
        "another clock": clock_can_be_faked(),
        "one Postgres": "it is for runs without --standby" if options.standby else None,
        "one broker": None if options.brokers == 1 else "it is for --brokers 1",
        "three brokers": None if options.brokers == 3 else "it needs --brokers 3",
        "a standby": None if options.standby else "it needs --standby",
        "": None,
    }
    return ([n for n in names if not can[KINDS[n].needs]],
            {n: can[KINDS[n].needs] for n in names if can[KINDS[n].needs]})


def replay(options):
    """The command that does the same again."""
    return shlex.join(["tests/chaos/run", *options.given])
