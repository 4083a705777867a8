"""The saga of an earned reward: reserved with the stock, delivered and confirmed, or given up and released. Whatever happens on
the way, it ends in exactly one of the two, and the stock is what is left."""

import contextlib
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lib.env import ACCOUNT_EMAIL
from lib.util import wait_until
from lib.verify import execute, faults_of, run_verify, verify_ok
from lib.webhook import WebhookTarget

SETTINGS = {"RETRY_BASE_MS": 20, "RETRY_MAX_MS": 200, "WEBHOOK_TIMEOUT_MS": 60000, "WEBHOOK_ALLOW_PRIVATE": "on", "SAGA_POLL_MS": 50}
ENDS = ("reward.delivered", "reward.released")
NEVER_MS = 3600000
LOCK_CLASS = 1953064037  # of the shards' locks


class Shop:
    """An env, its first service, and a campaign with users."""

    def __init__(self, env, target, **changes):
        self.env = env
        self.target = target
        self.service = env.start(**changes)
        self.api = env.api()
        self.campaign = self.api.create_campaign()["campaign_id"]
        self.users = 0

    def user(self, referral_code=None):
        self.users += 1
        return self.api.signup(self.campaign, f"u{self.users}@example.com", referral_code=referral_code)["user_id"]

    def reward(self, path="/hook", **fields):
        return self.api.create_reward(self.campaign, delivery="webhook", url=self.target.url(path), **fields)["reward_id"]

    def grant(self, user, reward, **options):
        return self.api.grant_reward(self.campaign, user, reward, **options)

    def read_reward(self, reward):
        item = self.api.read(f"{self.campaign}/rewards/{reward}")
        return {name: item[name] for name in ("stock", "earned", "released")}

    def of_user(self, user, **query):
        return self.api.read_all(f"{self.campaign}/users/{user}/rewards", **query)

    def sagas(self, **query):
        return self.api.read_all(f"{self.campaign}/sagas", **query)

    def states(self):
        return dict(Counter(s["state"] for s in self.sagas()))

    def wait_states(self, seconds=30, **wanted):
        return wait_until(lambda: self.states() == wanted, seconds, lambda: f"sagas {wanted}; they are {self.sagas()}")

    def events(self, *types):
        """(type, data) of the table's events of these types, in order."""
        numbers = {"reward.earned": 5, "reward.released": 13, "reward.exhausted": 14, "reward.delivered": 15}
        names = {number: name for name, number in numbers.items()}
        rows = self.env.query("select e.type, e.data from events e join campaigns c on c.no = e.aggregate where c.id = %s "
                              "order by e.version", self.campaign)
        return [(names[number], json.loads(data)) for number, data in rows if names.get(number) in (types or numbers)]

    def check_stock(self, reward, stock):
        """At no moment is more given than there is, and each time that the last one goes an event says so."""
        held, ended = 0, set()
        events = [(kind, data) for kind, data in self.events() if data["reward_id"] == reward]
        for i, (kind, data) in enumerate(events):
            follows = events[i + 1][0] if i + 1 < len(events) else None
            if kind in ENDS:
                assert data["user_reward_id"] not in ended, f"{data} ends twice"
                ended.add(data["user_reward_id"])
            held += {"reward.earned": 1, "reward.released": -1}.get(kind, 0)
            assert 0 <= held <= stock
            if kind == "reward.earned":
                assert (follows == "reward.exhausted") == (held == stock), events[:i + 2]
        return held


@pytest.fixture
def target():
    target = WebhookTarget()
    yield target
    target.close()


@pytest.fixture
def make_shop(target, make_env):
    def make(**changes):
        return Shop(make_env(settings={**SETTINGS, "GROUPS_ENABLED": "reward-workers", **changes}), target)

    yield make
    target.heal()  # before the services stop


# --- how it ends ---


def test_delivered_is_confirmed(make_shop):
    shop = make_shop()
    user, reward = shop.user(), shop.reward(stock=3)
    answer = shop.grant(user, reward)
    shop.wait_states(confirmed=1)
    [saga] = shop.sagas()
    assert saga.pop("changed_at") >= saga["earned_at"]
    assert saga == {"user_reward_id": answer["user_reward_id"], "user_id": user, "campaign_id": shop.campaign, "reward_id": reward,
                    "state": "confirmed", "attempts": 1, "reason": None, "earned_at": answer["earned_at"]}
    names = ("user_reward_id", "user_id", "campaign_id", "reward_id")
    told = {name: answer[name] for name in names}
    assert shop.events() == [("reward.earned", told), ("reward.delivered", told)]
    [item] = shop.of_user(user)
    assert (item["status"], item["released_at"], item["error"]) == ("delivered", None, None)


def test_failed_is_released(make_shop):
    """The unit comes back and is earned again, by others and, by hand, by the same user; the account gets a mail."""
    shop = make_shop(GROUPS_ENABLED="all")
    shop.target.plan("/hook", 410)
    ada, bob, reward = shop.user(), shop.user(), shop.reward(name="Mug \u2713", stock=1)
    first = shop.grant(ada, reward)
    assert first["events"] == 2  # earned; exhausted
    shop.wait_states(released=1)
    [item] = shop.of_user(ada)
    assert item["status"] == "released" and item["released_at"] > item["earned_at"] and "410" in item["error"]
    assert "error" not in shop.of_user(ada, key="publishable")[0]
    assert shop.read_reward(reward) == {"stock": 1, "earned": 1, "released": 1}
    [(_, data)] = shop.events("reward.released")
    assert data == {**{n: first[n] for n in ("user_reward_id", "user_id", "campaign_id", "reward_id")}, "reason": item["error"]}
    mail = shop.env.wait_mail(ACCOUNT_EMAIL, subject="could not be delivered", seconds=30)[0]
    assert "Mug \u2713" in mail.subject and "410" in mail.text

    shop.target.plan("/hook", 200)
    assert shop.grant(bob, reward)["events"] == 2
    shop.wait_states(released=1, confirmed=1)
    assert shop.grant(ada, reward, expect=409).problem == "out-of-stock"
    assert shop.grant(bob, reward, expect=409)["user_reward_id"] == shop.of_user(bob)[0]["user_reward_id"]
    shop.check_stock(reward, 1)

    other = shop.reward("/other")
    shop.target.plan("/other", 410, 410, 200)
    for n, states in enumerate(({"released": 2}, {"released": 3}, {"released": 3, "confirmed": 2})):
        assert shop.grant(ada, other)["events"] == 1
        shop.wait_states(**{"confirmed": 1, **states})
    assert shop.grant(ada, other, expect=409).problem == "already-earned"
    items = shop.of_user(ada)
    assert [(i["reward_id"], i["status"]) for i in items] == [
        (reward, "released"), (other, "released"), (other, "released"), (other, "delivered")]
    assert shop.of_user(ada, limit=1) == items
    assert [s["user_reward_id"] for s in shop.sagas(state="released", limit=1)] == [
        i["user_reward_id"] for i in items if i["status"] == "released"]
    assert shop.api.read(f"{shop.campaign}/sagas", expect=422, state="lost")["field"] == "state"
    shop.api.read(f"{shop.campaign}/sagas", expect=403, key="publishable")
    assert len(shop.env.wait_mail(ACCOUNT_EMAIL, 3, "could not be delivered", 30)) == 3
    verify_ok(shop.env, "--wait", "60")


def test_retries_spent(make_shop):
    shop = make_shop(RETRY_MAX_ATTEMPTS=3)
    shop.target.plan("/hook", 500)
    shop.grant(shop.user(), shop.reward())
    shop.wait_states(released=1)
    assert shop.sagas()[0]["attempts"] == 3 and len(shop.target.to("/hook")) == 3


def test_a_refused_mail(make_shop, smtp):
    shop = make_shop(MAIL_TRANSPORT="smtp", SMTP_URL=smtp.url)
    smtp.fail("u1@example.com", "550 5.1.1 no such mailbox")
    reward = shop.api.create_reward(shop.campaign, stock=1)["reward_id"]
    shop.grant(shop.user(), reward)
    shop.wait_states(released=1)
    assert "550" in shop.sagas()[0]["reason"]
    shop.grant(shop.user(), reward)
    shop.wait_states(released=1, confirmed=1)
    assert len(smtp.to("u2@example.com")) == 1


def test_thresholds(make_shop):
    """Out of stock at a threshold: one event, however many users come too late. What came back goes to whoever comes next."""
    shop = make_shop(GROUPS_ENABLED="none")
    reward = shop.reward(stock=2, threshold=1)
    referrers = [shop.api.signup(shop.campaign, f"r{i}@example.com") for i in range(5)]

    def refer(i):
        user = shop.user(referral_code=referrers[i]["referral_code"])
        return shop.api.verify(shop.campaign, user, shop.env.make_token(shop.campaign, user))["events"]

    assert [refer(i) for i in range(4)] == [3, 4, 2, 2]
    assert shop.events("reward.exhausted") == [("reward.exhausted", {
        "reward_id": reward, "campaign_id": shop.campaign, "stock": 2})]
    shop.target.plan("/hook", 410, 410, 200)
    workers = shop.env.start(GROUPS_ENABLED="reward-workers")
    shop.wait_states(released=2)
    assert refer(0) == 2, "what could not be delivered is not earned again by itself"
    assert refer(4) == 3
    assert refer(2) == 4, "who was too late gets it with the next one"
    assert refer(3) == 2
    shop.wait_states(released=2, confirmed=2)
    assert shop.check_stock(reward, 2) == 2 and len(shop.events("reward.exhausted")) == 2
    workers.stop()


def test_ten_thresholds_at_once(make_shop):
    """As many events as one action can have."""
    shop = make_shop(GROUPS_ENABLED="none")
    ada = shop.api.signup(shop.campaign, "ada@example.com")
    rewards = [shop.reward(stock=1, threshold=1) for _ in range(10)]
    user = shop.user(referral_code=ada["referral_code"])
    answer = shop.api.verify(shop.campaign, user, shop.env.make_token(shop.campaign, user))
    assert answer["events"] == 22
    ids = [i for i, in shop.env.query("select id::text from events")]
    assert len(set(ids)) == len(ids) == answer["version"]
    items = shop.of_user(ada["user_id"])
    assert [i["reward_id"] for i in items] == rewards and len({i["user_reward_id"] for i in items}) == 10


def test_stock_is_never_oversold(make_shop):
    """Many want it, at two processes, while every other delivery fails: each unit ends with one user who got it."""
    shop = make_shop()
    apis = [shop.api, shop.env.api(shop.env.start(GROUPS_ENABLED="none"))]
    shop.target.plan("/hook", *[410, 200] * 6, 200)
    reward, users = shop.reward(stock=4), [shop.user() for _ in range(12)]
    full = threading.Event()

    def want(number):
        while not full.is_set():
            answer = apis[number % 2].grant_reward(shop.campaign, users[number], reward, expect=None)
            assert answer.status == 201 or answer.problem in ("out-of-stock", "already-earned")
            time.sleep(0.1)

    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(want, number) for number in range(12)]
        try:
            wait_until(lambda: shop.states().get("confirmed") == 4, 60, lambda: f"all are given; they are {shop.states()}")
        finally:
            full.set()
        for future in futures:
            future.result()
    states = shop.states()
    assert set(states) == {"confirmed", "released"} and states["released"] >= 3
    assert shop.check_stock(reward, 4) == 4
    assert shop.read_reward(reward) == {"stock": 4, "earned": 4 + states["released"], "released": states["released"]}
    verify_ok(shop.env)


# --- crashes: kill -9 at each step ---


def end_once(shop, state):
    """The one saga ends so, once."""
    shop.wait_states(60, **{state: 1})
    end = {"confirmed": "reward.delivered", "released": "reward.released"}[state]
    assert [kind for kind, _ in shop.events(*ENDS)] == [end]
    assert len({r.id for r in shop.target.to("/hook")}) == 1
    verify_ok(shop.env)


def test_kill_9_when_reserved(make_shop):
    shop = make_shop(GROUPS_ENABLED="none")
    shop.grant(shop.user(), shop.reward())
    shop.service.kill9()
    shop.service.start(GROUPS_ENABLED="all")
    end_once(shop, "confirmed")


def test_kill_9_while_delivering(make_shop):
    shop = make_shop(GROUPS_ENABLED="all")
    shop.target.plan("/hook", "hang", 410)
    shop.grant(shop.user(), shop.reward())
    shop.target.wait()
    shop.wait_states(delivering=1)
    shop.service.kill9()
    shop.service.start()
    end_once(shop, "released")


@pytest.mark.parametrize("answer, before, after", [(200, "delivered", "confirmed"), (410, "compensating", "released")])
def test_kill_9_before_the_lane(make_shop, answer, before, after):
    shop = make_shop(GROUPS_ENABLED="all", SAGA_POLL_MS=NEVER_MS)
    shop.target.plan("/hook", answer)
    shop.grant(shop.user(), shop.reward())
    shop.wait_states(**{before: 1})
    shop.service.kill9()
    shop.service.start(GROUPS_ENABLED="none", SAGA_POLL_MS=50)  # nobody has to deliver anything any more
    end_once(shop, after)


@contextlib.contextmanager
def shard_locked(env):
    """The campaign's shard is locked by a session that is at work: one that only waits is ended by the lanes."""
    with env.db() as connection:
        connection.execute("select pg_advisory_lock(%s, (select shard from campaigns))", (LOCK_CLASS,))

        def work():
            with contextlib.suppress(psycopg.errors.QueryCanceled):
                connection.execute("select pg_sleep(600)")

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: env.value("select count(*) from pg_stat_activity where state = 'active' and query like %s "
                                     "and pid = %s", "select pg_sleep%", connection.info.backend_pid), 20, "it sleeps")
        try:
            yield
        finally:
            connection.cancel()
            thread.join()


@pytest.mark.parametrize("answer, after", [(200, "confirmed"), (410, "released")])
def test_kill_9_within_the_lane(make_shop, answer, after):
    """The lane's transaction is on its way when its process dies, and may be committed after that."""
    shop = make_shop(GROUPS_ENABLED="all", SAGA_POLL_MS=NEVER_MS)
    shop.target.plan("/hook", answer)
    shop.grant(shop.user(), shop.reward())
    wait_until(lambda: shop.states().keys() & {"delivered", "compensating"}, 30, "it is delivered, or not")
    with shard_locked(shop.env):
        driver = shop.env.start(GROUPS_ENABLED="none", SAGA_POLL_MS=50)
        wait_until(lambda: shop.env.value("select count(*) from pg_locks where locktype = 'advisory' and not granted and classid = %s "
                                          "and database = (select oid from pg_database where datname = current_database())",
                                          LOCK_CLASS), 30, "the lane waits for the shard")
        driver.kill9()
        shop.service.kill9()
    shop.service.start(GROUPS_ENABLED="none", SAGA_POLL_MS=50)
    end_once(shop, after)


# --- deadlines ---


def test_deadline_of_what_nobody_delivers(make_shop):
    shop = make_shop(GROUPS_ENABLED="none", REWARD_DEADLINE_SECONDS=1)
    reward = shop.reward(stock=1)
    shop.grant(shop.user(), reward)
    shop.wait_states(released=1)
    assert shop.sagas()[0]["reason"] == "not delivered within 1 seconds" and shop.sagas()[0]["attempts"] == 0
    workers = shop.env.start(GROUPS_ENABLED="reward-workers")
    wait_until(lambda: workers.metric("tidings_handled_total", group="reward-workers", outcome="skipped") == 1, 30, "it is skipped")
    assert shop.target.requests == [] and shop.read_reward(reward) == {"stock": 1, "earned": 1, "released": 1}
    assert faults_of(run_verify(shop.env)) == {}
    workers.stop()


def test_deadline_between_attempts(make_shop):
    """A target that refuses for too long: it is released, and not called any more."""
    shop = make_shop(REWARD_DEADLINE_SECONDS=0, RETRY_MAX_ATTEMPTS=1000)
    shop.target.plan("/hook", 500)
    user = shop.user()
    shop.grant(user, shop.reward())
    wait_until(lambda: shop.sagas()[0]["attempts"] > 3, 30, "it is tried, and held")
    shop.service.restart(REWARD_DEADLINE_SECONDS=1)
    shop.wait_states(released=1)
    assert shop.sagas()[0]["reason"] == "not delivered within 1 seconds"
    shop.target.plan("/hook", 200)
    wait_until(lambda: shop.env.query("select 1 from dead_letters") == [], 30, "it is not held any more")
    assert shop.env.query("select status from deliveries") == [("expired",)] and shop.states() == {"released": 1}
    assert shop.of_user(user)[0]["status"] == "released"
    assert shop.service.metric("tidings_deliveries_after_release_total") == 0


def test_deadline_during_an_attempt(make_shop):
    """What may get through is not released, however late it is."""
    shop = make_shop(REWARD_DEADLINE_SECONDS=0)
    shop.target.plan("/hook", "hang")
    shop.grant(shop.user(), shop.reward())
    shop.target.wait()
    driver = shop.env.start(GROUPS_ENABLED="none", REWARD_DEADLINE_SECONDS=1)

    def looks():
        return driver.metric("tidings_read_seconds_count", query="sagas_due")

    wait_until(lambda: shop.env.value("select earned_at < now() - interval '2 seconds' from sagas"), 20, "the deadline has passed")
    before = looks()
    wait_until(lambda: looks() > before + 2, 20, "the driver has looked since")
    assert shop.states() == {"delivering": 1}
    shop.target.heal()
    shop.wait_states(confirmed=1)
    assert shop.service.metric("tidings_deliveries_after_release_total") == 0


# --- people ---


def test_discarded_dead_letters_are_released(make_shop):
    """Somebody gives up what would be tried again."""
    shop = make_shop(RETRY_QUICK_ATTEMPTS=1, RETRY_BASE_MS=60000, RETRY_MAX_MS=60000)
    shop.target.plan("/hook", 500)
    shop.grant(shop.user(), shop.reward())
    row = wait_until(lambda: shop.env.query("select id from dead_letters where state = 'retry'"), 20, "it is held")
    shop.env.run("dead-letters", "discard", str(row[0][0]))
    shop.wait_states(released=1)
    assert shop.sagas()[0]["reason"] == "discarded by an operator"


def test_dead_letters_retried_in_time(make_shop):
    """Before the lane has taken the reward back, a retry is one; afterwards the dead letter just goes."""
    shop = make_shop(SAGA_POLL_MS=NEVER_MS)
    shop.target.plan("/hook", 410, 200)
    user, reward = shop.user(), shop.reward()
    shop.grant(user, reward)
    shop.wait_states(compensating=1)
    assert shop.of_user(user)[0]["status"] == "failed"
    wait_until(lambda: shop.env.query("select 1 from dead_letters where state = 'dead'"), 20, "it is dead")
    shop.env.run("dead-letters", "retry", "--group", "reward-workers", "--all")
    shop.wait_states(delivered=1)
    shop.service.restart(SAGA_POLL_MS=50)
    end_once(shop, "confirmed")

    shop.target.plan("/hook", 410, 200)
    shop.grant(shop.user(), reward)
    shop.wait_states(confirmed=1, released=1)
    shop.env.run("dead-letters", "retry", "--group", "reward-workers", "--all")
    wait_until(lambda: shop.env.query("select 1 from dead_letters") == [], 30, "it goes")
    assert shop.states() == {"confirmed": 1, "released": 1} and len(shop.target.to("/hook")) == 3


def test_records_that_only_name_a_reward(make_shop):
    """A record that is not the event that began a saga does not end it when it is given up."""
    shop = make_shop(GROUPS_ENABLED="none")
    earned = shop.grant(shop.user(), shop.reward())["user_reward_id"]
    for event, state in (("gen_random_uuid()", "reserved"), ("(select event_id from sagas)", "released")):
        shop.env.query(f"select delivery_give_up(array[%s::uuid], array[{event}], array['for a test'])", earned)
        shop.wait_states(**{state: 1})


def test_earned_before_there_were_sagas(make_shop):
    shop = make_shop(GROUPS_ENABLED="none")
    shop.grant(shop.user(), shop.reward())
    execute(shop.env, "delete from sagas")
    workers = shop.env.start(GROUPS_ENABLED="reward-workers")
    shop.wait_states(confirmed=1)
    workers.stop()


def test_deleted_campaigns_have_none(make_shop):
    shop = make_shop(SAGA_POLL_MS=NEVER_MS, PURGE_DELAY_SECONDS=0, UPKEEP_INTERVAL_MS=100)
    shop.target.plan("/hook", 410)
    shop.grant(shop.user(), shop.reward())
    shop.wait_states(compensating=1)
    shop.api.close_campaign(shop.campaign)
    shop.api.delete_campaign(shop.campaign)
    shop.service.restart(SAGA_POLL_MS=50)
    for table in ("sagas", "reward_releases", "user_rewards"):
        wait_until(lambda: shop.env.value(f"select count(*) from {table}") == 0, 30, f"{table} is empty")
    assert shop.events(*ENDS) == []
