"""The load: some dozens of connections that ask for a mix of actions and note every answer."""

import asyncio
import random
import threading
import time

from lib.api import Answer

from .client import Connection, Lost, NotSent
from .record import DONE, OPEN, REFUSED, UNKNOWN, Record

PAUSE_S = 0.05     # after an answer that says "not now", and between attempts under one key
EXPECTED = {       # refusals that the mix brings about by itself
    "email-taken": "again",
}


class Watch:
    """When a process answers again: the first sign-up begun after `since` (time.monotonic) that it acknowledged."""

    def __init__(self, since):
        self.since = since
        self.found = None  # (campaign, version, time.monotonic of the answer)


class Driver:
    """ports: where the processes answer. rate: actions a second, of all connections together. Starts with start();
    close() lets what is under way come to its end. Its own thread; watch() from any."""

    def __init__(self, ports, keys, ledger, mix, seed, rate, connections):
        self.record = Record()
        self._ports = ports
        self._keys = keys
        self._ledger = ledger
        self._mix = mix
        self._seed = seed
        self._interval = connections / rate
        self._count = connections
        self._watches = {}
        self._stopping = False
        self._give_up_at = float("inf")
        self._trouble = None
        self._thread = threading.Thread(target=self._run, name="driver", daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        """No new actions; what is in doubt is still asked for."""
        self._stopping = True

    def close(self, seconds):
        """Waits until every action under a key has its true answer, at most so long."""
        self._give_up_at = time.monotonic() + seconds
        self._stopping = True
        self._thread.join(seconds + 60)
        if self._trouble:
            raise self._trouble
        assert not self._thread.is_alive(), "the driver does not end"

    def watch(self, process):
        self._watches[process] = watch = Watch(time.monotonic())
        return watch

    # --- the driver's thread ---

    def _run(self):
        try:
            asyncio.run(self._all())
        except Exception as error:  # for close() to raise
            self._trouble = error

    async def _all(self):
        await asyncio.gather(*(self._work(i) for i in range(self._count)))

    async def _work(self, number):
        rng = random.Random(f"{self._seed} {number}")
        home = number % len(self._ports)
        connections = [Connection(port) for port in self._ports]
        due = time.monotonic() + rng.random() * self._interval
        while not self._stopping:
            await asyncio.sleep(max(0, due - time.monotonic()))
            # What was held up is not made up for: a burst after each fault would be another experiment.
            due = max(due + self._interval, time.monotonic())
            action = self._mix.next(rng)
            if action.state == DONE:
                await self._repeat(connections[home], home, action)
            else:
                self.record.add(action)
                await self._ask(connections, home, action, rng)
        for connection in connections:
            connection.close()

    async def _ask(self, connections, home, action, rng):
        """Until the outcome is known, if it has a key to ask under; else once."""
        process = home
        while action.state == OPEN and time.monotonic() < self._give_up_at:
            try:
                begin = time.monotonic()
                answer = await self._send(connections[process], action)
                self.record.slowest_s = max(self.record.slowest_s, time.monotonic() - begin)
                self._take(action, answer, process, begin)
            except NotSent:
                self.record.statuses["not sent"] += 1
                if not action.in_doubt:
                    action.state = REFUSED
            except Lost:
                self.record.statuses["lost"] += 1
                self._note_doubt(action)
            if action.state != DONE:
                await asyncio.sleep(PAUSE_S * (1 + rng.random()))
            process = rng.randrange(len(connections))

    async def _send(self, connection, action):
        kind = "secret" if action.secret else "publishable"
        headers = {"Authorization": f"Bearer {self._keys[kind]}", "Content-Type": "application/json"}
        if action.key:
            headers["Idempotency-Key"] = action.key
        status, headers, body, text = await connection.request(action.method, action.path, action.body, headers)
        answer = Answer(action.method, action.path, status, headers, text, body)
        self._ledger.note(answer)
        self.record.statuses[f"{status} {answer.problem}" if answer.problem else str(status)] += 1
        return answer

    def _note_doubt(self, action):
        self._ledger.note_unknown(action.campaign, f"{action.method} {action.path}: lost")
        action.in_doubt = True
        if not action.key:
            action.state = UNKNOWN

    def _take(self, action, answer, process, begin):
        action.status, action.problem = answer.status, answer.problem
        if 200 <= answer.status < 300:
            self._take_done(action, answer, process, begin)
        elif answer.problem == "outcome-unknown" or answer.status in (500, 502, 504):
            self._note_doubt(action)
        elif answer.status == 503 and action.in_doubt:
            pass  # this attempt had no effect; an earlier one may have had
        else:
            action.state = REFUSED
            if answer.status != 503 and EXPECTED.get(answer.problem) != action.ident[-1]:
                self.record.faults.append(f"{action.method} {action.path} {action.body.decode()}: {answer.status} {answer.text}")

    def _take_done(self, action, answer, process, begin):
        action.state, action.answer = DONE, answer.body
        self._mix.done(action)
        watch = self._watches.get(process)
        is_new = action.campaign and "idempotency-replayed" not in answer.headers
        if watch and not watch.found and begin >= watch.since and is_new:
            watch.found = (action.campaign, answer["version"], time.monotonic())

    async def _repeat(self, connection, process, action):
        """Asks again for what was acknowledged: the answer is the same, and nothing happens."""
        try:
            answer = await self._send(connection, action)
        except (NotSent, Lost):
            return
        if 200 <= answer.status < 300:
            action.repeats += 1
            if answer.body != action.answer or "idempotency-replayed" not in answer.headers:
                self.record.faults.append(f"{action.method} {action.path}: repeated, its answer is {answer.text},"
                                          f" not {action.answer}")
        elif answer.status != 503:
            self.record.faults.append(f"{action.method} {action.path}: repeated, the answer is {answer.status} {answer.text}")
