"""What was asked and what was answered: the driver's own record, which the judge holds against Postgres and Kafka."""

import threading
from collections import Counter
from dataclasses import dataclass, field

OPEN, DONE, REFUSED, UNKNOWN = "open", "done", "refused", "unknown"


@dataclass(slots=True)
class Action:
    """One thing that a client wants, however often it asks for it.

    ident: (event type, campaign, …) that no other action has: how its first event is known. Unknown are those whose outcome
    was never told: they have no Idempotency-Key under which to ask again."""

    method: str
    path: str
    body: bytes
    ident: tuple
    companions: tuple = ()    # types of events that come with it for certain
    secret: bool = False      # which API key
    key: str | None = None    # Idempotency-Key
    state: str = OPEN
    in_doubt: bool = False    # an earlier attempt may have had an effect
    status: int = 0
    problem: str | None = None
    answer: dict | None = None
    repeats: int = 0          # answers under the same key after the first one
    subject: object = None    # what the driver keeps of it

    @property
    def campaign(self):
        return self.ident[1]


@dataclass
class Record:
    """Of all actions. The driver's thread writes it; others read it when the driver has stopped, or a number of it."""

    actions: list = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)  # answers, by status and problem
    faults: list = field(default_factory=list)          # answers that are wrong by themselves
    slowest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, action):
        self.actions.append(action)
        return action

    def counts(self):
        return Counter(a.state for a in self.actions)

    def in_state(self, *states):
        return [a for a in self.actions if a.state in states]
