"""One run: load and faults, then quiet, then the verdict."""

import json
import subprocess
import time

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from lib.util import SLOWNESS, wait_until

from . import effects, judge
from .driver import Driver
from .faults import Faults
from .mix import Field, Mix
from .plan import KINDS, make_plan
from .record import DONE, Action
from .report import result
from .stack import Stack

CAMPAIGNS = 10
PROGRESS_S = 5
GROUPS = ("email-workers", "reward-workers", "position-workers", "webhook-workers", "analytics-workers")
VERIFY_S = 40       # times SLOWNESS
TOKEN_S = 86400     # longer than any clock jumps


class Storm:
    """say(text) gets what happens, a line at a time. run() gives the result (report.py); nothing is left running, nor with
    drop anything on the servers."""

    def __init__(self, servers, directory, name, options, say=print):
        self.options = options
        self.say = say
        self.plan = make_plan(options.seed, options.seconds, options.kinds, options.processes, options.brokers)
        settings = {"TIDINGS_BREAK": options.bug} if options.bug else {}
        self.stack = Stack(servers, directory, name, options.processes, "clock-jump" in options.kinds, settings)
        self.faults = Faults(self.stack)
        self.recoveries = {}   # by number of the fault
        self.trouble = []      # sentences
        self.beside = []       # (when it ends, fault, end): faults that last while others come
        self.lookers = {}      # by consumer group: a client that only asks for its offsets
        self.driver = None
        self.began = self.reported = 0.0

    def run(self, drop=True):
        good = False
        try:
            self._load()
            self._storm()
            self._settle()
            outcome = self._judge()
            good = not outcome["notes"]
            return outcome
        finally:
            for looker in self.lookers.values():
                looker.close()
            self.stack.close(drop and good)

    # --- the load ---

    def _load(self):
        """Campaigns with rewards, and then the driver on all processes."""
        env = self.stack.env
        api, actions = env.api(), []

        def note(ident, answer):
            actions.append(Action(answer.method, answer.path, b"", ident, state=DONE, status=answer.status, answer=answer.body))
            return answer

        fields = []
        api.request("POST", "/v1/webhooks", json={"url": self.stack.account_url, "event_types": effects.SUBSCRIBED}).expect(201)
        for i in range(CAMPAIGNS):
            campaign = note(("campaign.created", None, f"c{i}"), api.create_campaign(f"c{i}"))["campaign_id"]
            for name, more in (("earned", {"delivery": "webhook", "url": self.stack.reward_url, "threshold": 2}),
                               ("called", {"delivery": "webhook", "url": self.stack.reward_url}), ("mailed", {})):
                reward = note(("reward.created", campaign, name), api.create_reward(campaign, name, **more))["reward_id"]
                if name == "called":
                    fields.append(Field(campaign, [reward]))
                elif name == "mailed":
                    fields[-1].rewards.append(reward)
        mix = Mix(fields, self.stack.reward_url, lambda campaign, user: env.make_token(campaign, user, time.time() + TOKEN_S))
        self.driver = Driver([h.service.port for h in self.stack.hosts], env.keys, env.ledger, mix, self.options.seed,
                             self.options.rate, self.options.connections)
        self.driver.record.actions += actions
        self.driver.start()

    def _now(self):
        return time.monotonic() - self.began

    def _say(self, text):
        self.say(f"{self._now():6.1f} s  {text}")

    def _progress(self):
        if self._now() - self.reported >= PROGRESS_S:
            self.reported = self._now()
            counts = self.driver.record.counts()
            self._say(f"{counts['done']} acknowledged, {counts['refused']} refused, {counts['unknown']} unknown; "
                      f"{len(self.recoveries)} of {len(self.plan)} faults overcome")

    # --- the faults ---

    def _storm(self):
        self.began = time.monotonic()
        for kind, why in self.options.skipped.items():
            self.say(f"skipped: {kind}: {why}")
        for fault in self.plan:
            self.say(f"plan: at {fault.at:5.1f} s {fault}")
        for fault in self.plan:
            self._wait(max(fault.at, self._now() + 0.2))
            if not self._inflict(fault):
                break
        self._wait(self.options.seconds)
        while self.beside:
            self._wait(min(at for at, _, _ in self.beside))

    def _wait(self, until):
        """Until so many seconds have passed since the start; faults that lasted meanwhile come to their end."""
        while True:
            now = self._now()
            for one in [b for b in self.beside if b[0] <= now]:
                self.beside.remove(one)
                self._end_beside(*one)
            self._progress()
            if now >= until:
                return
            time.sleep(min(0.05, until - now))

    def _inflict(self, fault):
        """False: it was not overcome, and no more shall come."""
        try:
            self._say(str(fault))
            end = self.faults.begin(fault)
            if KINDS[fault.kind].beside:
                self.beside.append((self._now() + fault.duration, fault, end))
                return True
            self._wait(self._now() + fault.duration)
            end()
            self._say(f"#{fault.number} is over")
            self.recoveries[fault.number] = self._recover()
            self._say(f"#{fault.number} overcome after {self.recoveries[fault.number]:.2f} s")
            return True
        except (AssertionError, OSError, RuntimeError, psycopg.Error, subprocess.SubprocessError) as error:
            self.trouble.append(f"{fault}: {error}")
            self._say(self.trouble[-1])
            return False

    def _end_beside(self, _, fault, end):
        """A far side works again: something must get there."""
        arrived = lambda: len(self.stack.smtp.mails if fault.kind == "mail-hang" else self.stack.target.requests)  # noqa: E731
        before, begin = arrived(), time.monotonic()
        end()
        self._say(f"#{fault.number} is over")
        try:
            # Other faults come meanwhile, and nothing may get there before they are over.
            wait_until(lambda: arrived() > before, 3 * self.options.patience,
                       f"{fault}: something gets to the {KINDS[fault.kind].target} again")
            self.recoveries[fault.number] = time.monotonic() - begin
        except AssertionError as error:
            self.trouble.append(str(error))

    def _recover(self):
        """Until every process has acknowledged an action begun from now on, and Kafka its events. Seconds that took."""
        begin = time.monotonic()
        watches = [self.driver.watch(host.number) for host in self.stack.hosts]

        def found():
            self._progress()
            for host in self.stack.hosts:
                host.service.check_end()
            return all(w.found for w in watches)

        wait_until(found, self.options.patience,
                   lambda: f"every process answers again: {[h.service.ready() for h in self.stack.hosts]}")
        wait_until(lambda: all(self._is_sent(*w.found[:2]) for w in watches), self.options.patience,
                   lambda: f"what they answer gets to Kafka: {[h.service.ready() for h in self.stack.hosts]}")
        return time.monotonic() - begin

    def _is_sent(self, campaign, version):
        return self.stack.env.value(
            "select exists (select from campaigns c join events e on e.aggregate = c.no and e.version = %s"
            " join relay_cursors r on r.shard = e.shard and r.seq >= e.seq where c.id = %s)", version, campaign)

    # --- the end ---

    def _settle(self):
        """No load and no faults any more: everything comes to its end by itself."""
        self.driver.stop()
        try:
            self.stack.heal()
        except (AssertionError, RuntimeError) as error:
            self.trouble.append(f"after the faults: {error}")
        self.driver.close(30 * SLOWNESS)
        begin = changed = time.monotonic()
        left = self._left()
        while any(count for what, count in left.items() if what != "done"):
            before, left = left, self._left()
            if left != before:
                changed = time.monotonic()
            if time.monotonic() - changed > self.options.patience * SLOWNESS:
                self.trouble.append(f"not all settles; nothing changes any more, and there is left: {left}")
                break
            time.sleep(1)
        self._say(f"settled after {time.monotonic() - begin:.1f} s" if not self.trouble else self.trouble[-1])

    def _left(self):
        """What is not done yet, and how much is done: a backlog may take its time as long as it gets less."""
        env = self.stack.env
        try:
            outbox, mails, deliveries, webhooks, done = env.query(
                "select (select count(*) from outbox), (select count(*) from mails where status = 'sending'),"
                " (select count(*) from deliveries where status = 'sending')"
                " + (select count(*) from sagas where state not in ('confirmed', 'released')),"
                " (select count(*) from webhook_deliveries where status = 'pending'),"
                " (select count(*) from mails where status = 'sent') + (select count(*) from webhook_deliveries where status = 'delivered')"
                " + (select count(*) from deliveries where status = 'delivered') + (select count(*) from handled)")[0]
            return {"outbox": outbox, "mails": mails, "deliveries": deliveries, "webhooks": webhooks, "done": done,
                    **{group: self._lag(env.settings["KAFKA_GROUP_PREFIX"] + group) for group in GROUPS}}
        except (psycopg.Error, KafkaException) as error:
            return {"a server": str(error)}

    def _lag(self, group):
        """Records past the offsets that a group has committed."""
        topic = self.stack.env.topic
        if group not in self.lookers:
            self.lookers[group] = Consumer({"bootstrap.servers": self.stack.kafka.brokers, "group.id": group,
                                            "enable.auto.commit": False, "log_level": 2})
        looker, lag = self.lookers[group], 0
        partitions = len(looker.list_topics(topic, timeout=10).topics[topic].partitions)
        for at in looker.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=10):
            low, high = looker.get_watermark_offsets(TopicPartition(topic, at.partition), timeout=10)
            lag += high - max(at.offset, low)
        return lag

    def _verify(self):
        """What the service's own checker says."""
        try:
            done = self.stack.env.tidings("verify", "--json", "--wait", "1" if self.trouble else "10", timeout=VERIFY_S)
        except subprocess.TimeoutExpired:
            self.trouble.append("tidings verify does not come to an end")
            return None
        if done.returncode != 0:
            self.trouble.append(f"tidings verify ended with status {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None

    def _judge(self):
        env, record, verdict = self.stack.env, self.driver.record, judge.Verdict()
        verify = self._verify()
        with env.postgres.connect(env.database) as connection:
            table = judge.read_table(connection)
            judge.judge_record(verdict, record, table)
            judge.judge_state(verdict, connection, table)
            judge.judge_records(verdict, table, env.records())
            effects.judge_effects(verdict, connection, table, self.stack)
        try:
            if not any(verdict.counts.values()):
                env.check()  # the tests' own checker, which knows nothing of faults
            env.stop()
        except AssertionError as error:
            self.trouble.append(str(error))
        return result(self.options, self.plan, self.recoveries, record, verdict, self.trouble, verify)
