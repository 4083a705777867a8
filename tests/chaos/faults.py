"""How each kind of fault begins and ends: a generator each, which begins it, yields once, and ends it."""

import os
import random
import signal

import psycopg

from lib.util import wait_until

from .stack import ACCOUNT_PATH, REWARD_PATH

SESSIONS = ("tidings-lane-%", "tidings-relay%", "tidings-read-%", "tidings worker", "tidings%")
CLOCK_JUMP_S = 3600


class Faults:
    def __init__(self, stack):
        self.stack = stack
        self.postgres, self.kafka = stack.postgres, stack.kafka

    def begin(self, fault):
        """Begins it; what is given back ends it when called."""
        steps = getattr(self, f"_{fault.kind.replace('-', '_')}")(fault)
        next(steps)
        return lambda: next(steps, None)

    def _service(self, fault):
        return self.stack.hosts[fault.target].service

    def _proxy(self, fault):
        return self.stack.hosts[fault.target].proxy

    # --- processes ---

    def _process_kill(self, fault):
        self._service(fault).kill9()
        yield
        self._service(fault).start(ready=False)

    def _process_pause(self, fault):
        self._service(fault).pause()
        yield
        self._service(fault).resume()

    def _process_stop(self, fault):
        self._service(fault).stop()
        yield
        self._service(fault).start(ready=False)

    def _rebalance(self, fault):
        extra = self.stack.add_process()
        yield
        extra.stop()

    def _clock_jump(self, fault):
        host = self.stack.hosts[fault.target]
        host.set_clock(round((2 * fault.amount - 1) * CLOCK_JUMP_S))
        yield
        host.set_clock(0)

    # --- Postgres ---

    def _sessions(self, pattern):
        return [pid for pid, in self.stack.env.query("select pid from pg_stat_activity where datname = %s and application_name"
                                                     " like %s order by application_name, pid", self.stack.env.database, pattern)]

    def _pg_terminate(self, fault):
        rng = random.Random(fault.amount)
        pids = self._sessions(rng.choice(SESSIONS))
        for pid in rng.sample(pids, min(len(pids), rng.randint(1, 4))):
            self.stack.env.query("select pg_terminate_backend(%s)", pid)
        yield

    def _pg_crash(self, fault):
        pids = self._sessions("tidings%")
        os.kill(pids[int(fault.amount * len(pids))], signal.SIGKILL)
        yield
        wait_until(self._postgres_answers, 30, "Postgres has recovered")

    def _pg_restart(self, fault):
        self.postgres.stop("immediate")
        yield
        self.postgres.start()

    def _pg_full(self, fault):
        self.stack.servers.disk.fill()
        yield
        self.stack.servers.disk.free()
        # Without room for its log it ends itself, perhaps only now.
        wait_until(self._postgres_answers, 30, "Postgres runs again", 0.2)

    def _promote(self, fault):
        self.stack.servers.promote()
        yield

    def _postgres_answers(self):
        try:
            self.postgres.heal()
            self.postgres.execute("select 1")
            return True
        except (psycopg.OperationalError, RuntimeError):
            return False

    def _pg_reset(self, fault):
        self._proxy(fault).reset()
        yield

    def _pg_stall(self, fault):
        yield from self._stall(self._proxy(fault))

    def _pg_delay(self, fault):
        yield from self._delay(self._proxy(fault), fault)

    # --- Kafka ---

    def _kafka_pause(self, fault):
        self.kafka.pause()
        yield
        self.kafka.resume()

    def _kafka_kill(self, fault):
        self.kafka.kill9()
        yield
        self.kafka.start()

    def _kafka_reset(self, fault):
        self.stack.servers.network.reset()
        yield

    def _kafka_stall(self, fault):
        yield from self._stall(self.stack.servers.network)

    def _kafka_delay(self, fault):
        yield from self._delay(self.stack.servers.network, fault)

    def _broker_kill(self, fault):
        self.kafka.kill9_node(fault.target + 1)
        yield
        self.kafka.start()
        # A second one that went while the first one lags would be more than Kafka is asked to bear.
        self.kafka.wait_in_sync(self.stack.env.topic)

    # --- the far sides of effects ---

    def _mail_hang(self, fault):
        self.stack.smtp.hang()
        yield
        self.stack.smtp.heal()

    def _reward_hang(self, fault):
        self.stack.target.plan(REWARD_PATH, "hang")
        self.stack.target.plan(ACCOUNT_PATH, "hang")
        yield
        self.stack.target.heal()

    # --- networks ---

    @staticmethod
    def _stall(proxy):
        proxy.hang()
        yield
        proxy.heal()

    @staticmethod
    def _delay(proxy, fault):
        proxy.latency = 0.02 + 0.18 * fault.amount
        yield
        proxy.latency = 0.0
