"""Which faults come when. The plan is a function of the seed and the options alone."""

import random
from dataclasses import dataclass

WARM_UP_S = 2.0
PAUSE_S = (0.5, 2.0)   # between two faults, at least: from when the first one is overcome
RECOVERY_S = 1.5       # what a fault is expected to need after its end


@dataclass(frozen=True)
class Kind:
    target: str        # "process": one of those that serve; "broker": one of several; else the part as a whole
    seconds: tuple     # how long it lasts, least and most
    help: str
    beside: bool = False  # others come while it lasts
    needs: str = ""    # something that not every run has, or not every machine
    once: bool = False


KINDS = {
    "process-kill": Kind("process", (0.2, 2), "kill -9, and started again"),
    "process-pause": Kind("process", (1, 8), "SIGSTOP and SIGCONT; some for longer than sessions may be idle"),
    "process-stop": Kind("process", (0.2, 1.5), "SIGTERM, which must end it in time and with status 0, and started again"),
    "rebalance": Kind("process", (2, 5), "one more process comes and goes"),
    "pg-terminate": Kind("postgres", (0, 0), "pg_terminate_backend of some of the sessions"),
    "pg-crash": Kind("postgres", (0, 0), "kill -9 of one session's backend, and so a crash of all of Postgres",
                     needs="one Postgres"),
    "pg-restart": Kind("postgres", (0.5, 3), "an immediate stop, and started again", needs="one Postgres"),
    "pg-full": Kind("postgres", (2, 5), "no room left on Postgres's disk", needs="a small disk"),
    "pg-reset": Kind("process", (0, 0), "every connection of one process to Postgres is reset", needs="one Postgres"),
    "pg-stall": Kind("process", (1, 6), "its connections to Postgres stay open and nothing passes", needs="one Postgres"),
    "pg-delay": Kind("process", (3, 6), "each way to Postgres takes 20 to 200 ms", needs="one Postgres"),
    "kafka-pause": Kind("kafka", (1, 6), "SIGSTOP and SIGCONT of the broker", needs="one broker"),
    "kafka-kill": Kind("kafka", (0.5, 3), "kill -9 of the broker, and started again", needs="one broker"),
    "kafka-reset": Kind("kafka", (0, 0), "every connection to the broker is reset", needs="one broker"),
    "kafka-stall": Kind("kafka", (1, 6), "connections to the broker stay open and nothing passes", needs="one broker"),
    "kafka-delay": Kind("kafka", (3, 6), "each way to the broker takes 20 to 200 ms", needs="one broker"),
    "broker-kill": Kind("broker", (1, 4), "kill -9 of one of three brokers, and started again", needs="three brokers"),
    "promote": Kind("postgres", (0, 0), "kill -9 of the primary; the standby is promoted", needs="a standby", once=True),
    "mail-hang": Kind("mail server", (4, 8), "the mail server accepts and does not answer", beside=True),
    "reward-hang": Kind("reward's target", (4, 8), "the target of webhooks accepts and does not answer", beside=True),
    "clock-jump": Kind("process", (2, 5), "the wall clock of one process jumps, up to an hour either way", needs="another clock"),
}


@dataclass(frozen=True)
class Fault:
    number: int        # from 1
    at: float          # seconds from the start of the load, at the earliest
    kind: str
    target: int        # number of a process or broker, from 0; 0 where there is only one
    duration: float    # seconds
    amount: float      # 0 … 1: how much of what the kind does

    def __str__(self):
        what = KINDS[self.kind]
        where = f"{what.target} {self.target + 1}" if what.target in ("process", "broker") else what.target
        lasts = f" for {self.duration:.1f} s" if self.duration else ""
        return f"#{self.number} {self.kind} ({where}){lasts}"


def make_plan(seed, seconds, kinds, processes, brokers=1):
    """The faults of a run of about `seconds`. Every kind comes once before one comes twice."""
    rng = random.Random(f"tidings {seed} {processes} {brokers} {','.join(kinds)}")
    faults, at, deck, spent, lasts = [], WARM_UP_S, [], set(), {}
    while kinds:
        if not deck:
            deck = [k for k in kinds if k not in spent]
            rng.shuffle(deck)
            if not deck:
                break
        kind = deck.pop()
        what = KINDS[kind]
        duration = round(rng.uniform(*what.seconds), 2)
        target = rng.randrange({"process": processes, "broker": brokers}.get(what.target, 1))
        if what.once:
            spent.add(kind)
        if at < lasts.get(kind, 0):
            continue  # the one before still lasts
        lasts[kind] = at + duration + RECOVERY_S
        if at + (0 if what.beside else duration) > seconds - RECOVERY_S:
            break
        faults.append(Fault(len(faults) + 1, round(at, 2), kind, target, duration, round(rng.random(), 4)))
        at += rng.uniform(*PAUSE_S) + (0 if what.beside else duration + RECOVERY_S)
    return faults
