"""Sign-ups from several threads while parts fail, and what must be true of them afterwards."""

import threading
import time
from dataclasses import dataclass

from .util import wait_until


@dataclass(frozen=True)
class Sample:
    """One answer: when it came (time.monotonic()), how long it took, and 201, (status, problem) or an error's name."""

    at: float
    seconds: float
    kind: object


class Load:
    """Sign-ups from several threads until stopped; keeps what was answered."""

    def __init__(self, api, campaigns, threads=16):
        self.api, self.campaigns = api, campaigns
        self.acknowledged, self.statuses, self.samples = [], {}, []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, thread):
        number = 0
        while not self._stop.is_set():
            number += 1
            campaign = self.campaigns[(thread + number) % len(self.campaigns)]
            begin = time.monotonic()
            try:
                answer = self.api.signup(campaign, f"u{thread}-{number}@example.com", expect=None)
                kind = answer.status if answer.status == 201 else (answer.status, answer.problem)
            except Exception as error:  # the service is gone for the moment
                answer, kind = None, type(error).__name__
                time.sleep(0.02)
            with self._lock:
                now = time.monotonic()
                self.samples.append(Sample(now, now - begin, kind))
                self.statuses[kind] = self.statuses.get(kind, 0) + 1
                if answer is not None and answer.status == 201:
                    self.acknowledged.append((campaign, answer["user_id"]))
            if kind != 201:
                time.sleep(0.005)

    def wait_acknowledged(self, more, seconds=20):
        goal = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= goal, seconds, lambda: f"{more} more sign-ups; so far {self.statuses}")

    def between(self, begin, end=None):
        """The samples whose answers came in that time."""
        with self._lock:
            return [s for s in self.samples if begin <= s.at and (end is None or s.at <= end)]


def p99(samples):
    """Seconds."""
    return sorted(s.seconds for s in samples)[int(0.99 * len(samples))]


def longest_silence(samples, begin, end):
    """The longest time within begin … end without a 201, in seconds."""
    times = [begin, *sorted(s.at for s in samples if s.kind == 201 and begin <= s.at <= end), end]
    return max(later - earlier for earlier, later in zip(times, times[1:]))


def campaigns_of(api, count=8):
    return [api.create_campaign(f"c{i}")["campaign_id"] for i in range(count)]


def assert_users(env, load):
    """Everybody who was told so is there."""
    there = {str(row[0]) for row in env.query("select id from users")}
    lost = [user for _, user in load.acknowledged if user not in there]
    assert not lost, f"{len(lost)} acknowledged users are not in the database"


def assert_all_mailed(env, seconds=30):
    """Each sign-up has its mail's row, once; the row knows what became of it."""
    def missing():
        return env.value("select count(*) from events e where e.type = 1 and not exists"
                         " (select from mails m where m.event_id = e.id and m.status in ('sent', 'discarded'))")

    wait_until(lambda: missing() == 0, seconds, lambda: f"every sign-up is mailed; {missing()} are not")
