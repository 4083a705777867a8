"""reward-workers: every reward that is earned is delivered, by mail or by a signed webhook, whatever the target does."""

import base64
import datetime
import json
import os
import subprocess
import time
import uuid

import pytest

from lib.kafka import hash_class
from lib.smtp import PERMANENT
from lib.util import SLOWNESS, wait_until
from lib.webhook import WebhookTarget

TIMEOUT_MS = 1500 * SLOWNESS
settings = {"RETRY_BASE_MS": 20, "RETRY_MAX_MS": 200, "WEBHOOK_TIMEOUT_MS": TIMEOUT_MS, "WEBHOOK_ALLOW_PRIVATE": "on",
            "MAIL_TRANSPORT": "maildir"}


# --- a campaign with rewards ---


def numbered(number):
    """A UUID that carries a number in its last four bytes."""
    return str(uuid.UUID(bytes=uuid.uuid4().bytes[:12] + number.to_bytes(4, "big")))


def new_secret():
    return "whsec_" + base64.b64encode(os.urandom(24)).decode()


def produce_event(env, kind, campaign, data, at=None, version=1000, event_id=None):
    """An event of the test's own in the campaign's partition; the checker passes over it. Its id."""
    event_id = event_id or str(uuid.uuid4())
    at = at or datetime.datetime.now(datetime.timezone.utc)
    value = {"id": event_id, "type": kind, "account_id": env.account_id, "campaign_id": campaign, "data": data,
             "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "version": version}
    env.produce(json.dumps(value).encode(), campaign.encode(), partition=hash_class(campaign, 10))
    return event_id


def execute(env, sql, *args):
    with env.db() as connection:
        connection.execute(sql, args)


class Shop:
    """An env with a service, a campaign and users in it."""

    def __init__(self, env, **changes):
        self.env = env
        self.service = env.start(**changes)
        self.api = env.api()
        self.campaign = self.api.create_campaign("Launch \u2713")["campaign_id"]

    def user(self, email="ada@example.com"):
        return self.api.signup(self.campaign, email)["user_id"]

    def reward(self, url=None, name="T-shirt \u2713", message=None, secret=None):
        """A webhook's reward, or without a url one by mail."""
        secret = secret or (new_secret() if url else None)
        no = self.env.value("select coalesce(max(no), 0) + 1 from rewards")
        reward_id = numbered(no)
        execute(
            self.env, "insert into rewards (campaign, no, id, name, delivery, url, secret, message, created_at) select c.no, %s, %s, %s, "
            "%s, %s, %s, %s, now() from campaigns c where c.id = %s",
            no, reward_id, name, "webhook" if url else "email", url, secret, message, self.campaign)
        return {"reward_id": reward_id, "no": no, "secret": secret}

    def earn(self, user, reward, at=None, produce=True):
        """The user has earned it: {"user_reward_id", "event_id"}."""
        place = int(user[-8:], 16)
        user_reward_id = numbered(place)
        execute(
            self.env, "insert into user_rewards (campaign, reward, n, place, id, earned_at) select c.no, %s, coalesce((select max(n) from "
            "user_rewards u where u.campaign = c.no and u.reward = %s), 0) + 1, %s, %s, now() from campaigns c where c.id = %s",
            reward["no"], reward["no"], place, user_reward_id, self.campaign)
        earned = {"user_reward_id": user_reward_id, "user_id": user, "campaign_id": self.campaign,
                  "reward_id": reward["reward_id"]}
        return {**earned, "event_id": self.announce(earned, at) if produce else None}

    def announce(self, earned, at=None, event_id=None):
        data = {k: earned[k] for k in ("user_reward_id", "user_id", "campaign_id", "reward_id")}
        return produce_event(self.env, "reward.earned", earned["campaign_id"], data, at, event_id=event_id)

    def delivery(self, earned):
        """(status, attempts, http_status, error), or None."""
        rows = self.env.query("select status, attempts, http_status, error from deliveries where user_reward_id = %s",
                              earned["user_reward_id"])
        return rows[0] if rows else None

    def wait(self, earned, status, seconds=20):
        wait_until(lambda: (self.delivery(earned) or ("",))[0] == status, seconds,
                   lambda: f"{status}; it is {self.delivery(earned)}, dead letters: {self.dead()}")
        return self.delivery(earned)

    def dead(self, group="reward-workers"):
        return self.env.query("select event_id::text, reason, attempts from dead_letters where grp = %s order by id", group)

    def wait_dead(self, count=1, seconds=20):
        return wait_until(lambda: (lambda d: d if len(d) >= count else None)(self.dead()), seconds,
                          lambda: f"{count} dead letters; there are {self.dead()}")


@pytest.fixture
def target():
    target = WebhookTarget()
    yield target
    target.close()


@pytest.fixture
def make_shop(target, make_env):
    def make(**changes):
        env = make_env(settings={**settings, "GROUPS_ENABLED": "reward-workers", **changes})
        return Shop(env)

    yield make
    target.heal()  # before the services stop


@pytest.fixture
def shop(make_shop):
    return make_shop()


# --- what is delivered ---


def test_webhook(shop, target):
    user, reward = shop.user(), shop.reward(target.url())
    earned = shop.earn(user, reward)
    [request] = target.wait()
    assert request.verify(reward["secret"]) == request.json
    body = request.json
    assert body["type"] == "reward.earned" and body["timestamp"].endswith("Z") and set(body) == {"type", "timestamp", "data"}
    assert body["data"] == {
        "event_id": earned["event_id"], "user_reward_id": earned["user_reward_id"], "user_id": user,
        "campaign_id": shop.campaign, "reward_id": reward["reward_id"], "reward_name": "T-shirt \u2713",
        "email": "ada@example.com"}
    assert request.id == f"msg_{earned['user_reward_id']}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Tidings/")
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 30
    assert shop.wait(earned, "delivered") == ("delivered", 1, 200, None)
    row = shop.env.query("select event_id::text, campaign, reward, place, kind, target, delivered_at is not null from deliveries")
    assert row == [(earned["event_id"], 1, 1, 1, "webhook", target.url(), True)]
    assert shop.service.metric("tidings_deliveries_total", kind="webhook", outcome="delivered") == 1


def test_mail_and_notification(make_shop):
    """reward-workers send the reward, email-workers that there is one: two mails of one event."""
    shop = make_shop(GROUPS_ENABLED="all")
    user = shop.user()
    earned = shop.earn(user, shop.reward(message="Your code: ABC\u2713\nUse it soon.\r\nBye"))
    assert shop.wait(earned, "delivered")[:2] == ("delivered", 1)
    mail = shop.env.wait_mail("ada@example.com", subject="Your reward")[0]
    assert "T-shirt \u2713" in mail.subject and "Launch \u2713" in mail.subject
    assert "Your code: ABC\u2713\nUse it soon.\nBye\n" in mail.text.replace("\r\n", "\n")
    assert mail.message_id == f"<{earned['user_reward_id']}.reward@127.0.0.1>"
    notice = shop.env.wait_mail("ada@example.com", subject="You have earned")[0]
    assert "T-shirt \u2713" in notice.subject and notice.message_id == f"<{earned['event_id']}.email@127.0.0.1>"
    assert len(shop.env.wait_mail("ada@example.com", 3)) == 3  # and the welcome
    assert shop.env.value("select kind || ' ' || target from deliveries") == "email ada@example.com"


def test_own_template(make_shop, directory):
    (directory / "templates").mkdir()
    (directory / "templates" / "reward.txt").write_text("Subject: {{reward}} for {{email}}\n\n>{{message}}<\n")
    shop = make_shop(TEMPLATES_DIR=directory / "templates")
    shop.earn(shop.user(), shop.reward(name="Mug"))
    mail = shop.env.wait_mail("ada@example.com")[0]
    assert mail.subject == "Mug for ada@example.com" and mail.text.strip() == "><"


def test_discarded_mails_count_as_delivered(make_shop, target):
    shop = make_shop(MAIL_TRANSPORT="discard")
    user = shop.user()
    by_mail = shop.earn(user, shop.reward())
    by_webhook = shop.earn(user, shop.reward(target.url()))
    assert shop.wait(by_mail, "delivered")[:2] == ("delivered", 1)
    shop.wait(by_webhook, "delivered")
    assert len(target.wait()) == 1


def test_late_rewards_are_still_owed(shop, target):
    at = datetime.datetime(2021, 1, 1, tzinfo=datetime.timezone.utc)
    earned = shop.earn(shop.user(), shop.reward(target.url()), at)
    shop.wait(earned, "delivered")
    assert target.wait()[0].json["timestamp"] == "2021-01-01T00:00:00.000000Z"


def test_repeated_records_are_one_delivery(shop, target):
    user = shop.user()
    hook, mail = shop.earn(user, shop.reward(target.url())), shop.earn(user, shop.reward())
    shop.wait(hook, "delivered")
    shop.wait(mail, "delivered")
    for _ in range(3):
        shop.announce(hook, event_id=hook["event_id"])
        shop.announce(mail, event_id=mail["event_id"])
    wait_until(lambda: shop.service.metric("tidings_handled_total", group="reward-workers", outcome="skipped") == 6, 15,
               "the repeats are skipped")
    assert len(target.to("/hook")) == 1 and len(shop.env.mails("ada@example.com")) == 1
    shop.service.restart()
    time.sleep(1)
    assert len(target.to("/hook")) == 1 and shop.dead() == []


# --- targets that fail ---


@pytest.mark.parametrize("word", [500, 503, 404, 400, 429, 408, "drop", "garbage", "hang", "drip", "giant:500"])
def test_failure_then_success(shop, target, word):
    target.plan("/hook", word, 200)
    reward = shop.reward(target.url())
    earned = shop.earn(shop.user(), reward)
    status, attempts, http_status, error = shop.wait(earned, "delivered")
    assert (attempts, http_status, error) == (2, 200, None)
    first, second = target.wait(count=2)
    assert first.id == second.id and first.body == second.body
    first.verify(reward["secret"]), second.verify(reward["secret"])
    assert shop.dead() == []


@pytest.mark.parametrize("word", ["giant:200", "short", "trickle:200", 201, 204])
def test_any_2xx_is_success(shop, target, word):
    """Whatever becomes of the answer's body, which nobody needs."""
    target.plan("/hook", word)
    before = shop.service.rss_bytes()
    earned = shop.earn(shop.user(), shop.reward(target.url()))
    assert shop.wait(earned, "delivered")[1] == 1
    assert len(target.to("/hook")) == 1
    assert shop.service.rss_bytes() - before < 20_000_000 * SLOWNESS


def test_redirects_are_not_followed(make_shop, target):
    shop = make_shop(RETRY_MAX_ATTEMPTS=2)
    target.plan("/hook", f"redirect:{target.url('/elsewhere')}")
    earned = shop.earn(shop.user(), shop.reward(target.url()))
    status, attempts, http_status, error = shop.wait(earned, "failed")
    assert (attempts, http_status) == (2, 302) and "not followed" in error
    assert target.to("/elsewhere") == []


def test_gone_is_final(shop, target):
    target.plan("/hook", 410)
    earned = shop.earn(shop.user(), shop.reward(target.url()))
    status, attempts, http_status, error = shop.wait(earned, "failed")
    assert (attempts, http_status) == (1, 410) and "410" in error
    assert shop.wait_dead()[0][0] == earned["event_id"]


def test_retry_after(shop, target):
    target.plan("/hook", "later:503:2", 200)
    shop.wait(shop.earn(shop.user(), shop.reward(target.url())), "delivered")
    first, second = target.to("/hook")
    assert second.at - first.at >= 1.99 and first.id == second.id  # by itself it would have taken 20 ms


def test_attempts_are_spent(make_shop, target):
    shop = make_shop(RETRY_MAX_ATTEMPTS=3)
    target.plan("/hook", 500)
    user = shop.user()
    earned = shop.earn(user, shop.reward(target.url()))
    status, attempts, http_status, error = shop.wait(earned, "failed")
    assert (attempts, http_status) == (3, 500) and "answer 500" in error
    assert [(d[0], d[2]) for d in shop.wait_dead()] == [(earned["event_id"], 3)]
    assert len(target.to("/hook")) == 3
    shop.wait(shop.earn(user, shop.reward(target.url("/other"))), "delivered")  # and on it goes


def test_target_down_and_up(make_shop, target):
    shop = make_shop(RETRY_MAX_ATTEMPTS=1000)
    target.down()
    user = shop.user()
    earned = shop.earn(user, shop.reward(target.url()))
    wait_until(lambda: (shop.delivery(earned) or (0, 0))[1] >= 2, 15, lambda: f"attempts: {shop.delivery(earned)}")
    status, _, http_status, error = shop.delivery(earned)
    assert status == "sending" and http_status is None and "connect" in error.lower()
    target.up()
    shop.wait(earned, "delivered")


def test_certificate_must_be_good(make_shop, target, directory):
    import ssl
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
                    "-keyout", directory / "key.pem", "-out", directory / "cert.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    target._server.socket = context.wrap_socket(target._server.socket, server_side=True)
    shop = make_shop(RETRY_MAX_ATTEMPTS=2)
    earned = shop.earn(shop.user(), shop.reward(target.url(host="localhost").replace("http:", "https:")))
    status, attempts, http_status, error = shop.wait(earned, "failed")
    assert (attempts, http_status) == (2, None) and "certificate" in error.lower()
    assert target.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"])
def test_private_addresses_are_refused(make_shop, target, host):
    shop = make_shop(WEBHOOK_ALLOW_PRIVATE="off")
    earned = shop.earn(shop.user(), shop.reward(target.url(host=host)))
    status, attempts, http_status, error = shop.wait(earned, "failed")
    assert (attempts, http_status) == (1, None) and "address" in error and "WEBHOOK_ALLOW_PRIVATE" in error
    assert len(shop.wait_dead()) == 1 and target.requests == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/passwd", "nonsense", "http://"])
def test_urls_that_are_none(shop, url):
    earned = shop.earn(shop.user(), shop.reward(url))
    assert shop.wait(earned, "failed")[1:3] == (1, None)


def test_no_proxies_from_the_environment(make_shop, target):
    proxy = "http://127.0.0.1:1"
    shop = make_shop(http_proxy=proxy, HTTP_PROXY=proxy, ALL_PROXY=proxy, all_proxy=proxy)
    shop.wait(shop.earn(shop.user(), shop.reward(target.url())), "delivered")


def test_slow_target_holds_up_nobody_else(make_shop, target):
    """Forty rewards for a target that hangs, in front of forty for one that does not."""
    shop = make_shop(WEBHOOK_TIMEOUT_MS=60000)
    other = WebhookTarget()
    try:
        target.plan("/slow", "hang")
        slow, fast = shop.reward(target.url("/slow")), shop.reward(other.url("/fast"))
        by_mail = shop.reward()
        users = [shop.user(f"u{i}@example.com") for i in range(40)]
        late = [shop.earn(user, slow) for user in users]
        target.wait("/slow", 3)
        begin = time.monotonic()
        mails = [shop.earn(user, by_mail) for user in users]
        hooks = [shop.earn(user, fast) for user in users]
        for earned in hooks + mails:
            shop.wait(earned, "delivered")
        assert time.monotonic() - begin < 12 * SLOWNESS
        assert len(target.to("/slow")) == 3, "a quarter of ten workers"
        assert shop.service.metric("tidings_deliveries_total", outcome="postponed") > 0
        target.heal()
        for earned in late:
            shop.wait(earned, "delivered", 60)
        assert len({r.id for r in target.to("/slow")}) == 40 and shop.dead() == []
    finally:
        other.close()


def test_stop_ends_a_call(make_shop, target):
    """A clean stop does not wait for a target that hangs; the call is made again, under the same id."""
    shop = make_shop(WEBHOOK_TIMEOUT_MS=60000, SHUTDOWN_TIMEOUT_MS=4000 * SLOWNESS)
    target.plan("/hook", "hang", 200)
    earned = shop.earn(shop.user(), shop.reward(target.url()))
    target.wait()
    shop.service.stop()
    assert shop.delivery(earned)[:2] == ("sending", 0)
    shop.service.start()
    assert shop.wait(earned, "delivered")[:2] == ("delivered", 1)
    assert len({r.id for r in target.wait(count=2)}) == 1


def test_kill_9_between_call_and_record(shop, target):
    target.plan("/hook", "hang", 200)
    earned = shop.earn(shop.user(), shop.reward(target.url()))
    target.wait()
    assert shop.delivery(earned)[0] == "sending"
    shop.service.kill9()
    shop.service.start()
    shop.wait(earned, "delivered", 60)  # the group waits for the dead member's session
    assert len({r.id for r in target.wait(count=2)}) == 1


# --- mail servers that fail ---


def test_mail_server_away(make_shop, smtp, target):
    """It costs the mails no attempt, and webhooks go on."""
    shop = make_shop(MAIL_TRANSPORT="smtp", SMTP_URL=smtp.url, SMTP_TIMEOUT_MS=2000 * SLOWNESS, RETRY_MAX_ATTEMPTS=2)
    smtp.down()
    by_mail, by_webhook = shop.reward(), shop.reward(target.url())
    users = [shop.user(f"u{i}@example.com") for i in range(12)]
    mails = [shop.earn(user, by_mail) for user in users]
    time.sleep(1)
    for user in users:
        shop.wait(shop.earn(user, by_webhook), "delivered")
    assert [shop.delivery(m)[:2] for m in mails] == [("sending", 0)] * 12
    smtp.up()
    for i, earned in enumerate(mails):
        assert shop.wait(earned, "delivered", 40)[:2] == ("delivered", 1)
        assert len(smtp.to(f"u{i}@example.com")) == 1
    assert shop.dead() == []


def test_mail_server_stalls_at_one_mail(make_shop, smtp):
    """While others get through, it is that mail's own attempts."""
    shop = make_shop(MAIL_TRANSPORT="smtp", SMTP_URL=smtp.url, SMTP_TIMEOUT_MS=1000 * SLOWNESS, RETRY_MAX_ATTEMPTS=3)
    smtp.hang("bad@example.com")
    reward = shop.reward()
    bad = shop.earn(shop.user("bad@example.com"), reward)
    for i in range(200):
        if (shop.delivery(bad) or ("",))[0] == "failed":
            break
        shop.wait(shop.earn(shop.user(f"u{i}@example.com"), reward), "delivered")
    assert shop.delivery(bad)[:2] == ("failed", 3)
    assert len(shop.wait_dead()) == 1


def test_refused_mail_is_a_dead_letter(make_shop, smtp):
    shop = make_shop(MAIL_TRANSPORT="smtp", SMTP_URL=smtp.url)
    smtp.fail("ada@example.com", PERMANENT)
    earned = shop.earn(shop.user(), shop.reward())
    assert shop.wait(earned, "failed")[:2] == ("failed", 1)
    assert "550" in shop.wait_dead()[0][1]


# --- what does not exist ---


def test_what_is_missing_is_a_dead_letter(shop, target):
    user, reward = shop.user(), shop.reward(target.url())
    good = {"user_reward_id": numbered(1), "user_id": user, "campaign_id": shop.campaign, "reward_id": reward["reward_id"]}
    cases = {
        shop.announce({**good, "user_reward_id": numbered(1)}): "has not earned",
        shop.announce({**good, "user_id": numbered(1)}): "no user",
        shop.announce({**good, "user_id": numbered(2**32 - 1)}): "no user",
        shop.announce({**good, "reward_id": numbered(1)}): "no reward",
        shop.announce({**good, "reward_id": numbered(7)}): "no reward",
        shop.announce({**good, "campaign_id": str(uuid.uuid4())}): "does not exist",
    }
    dead = {d[0]: d[1] for d in shop.wait_dead(len(cases))}
    for event, reason in cases.items():
        assert reason in dead[event]
    assert shop.env.query("select * from deliveries") == [] and target.requests == []


def test_what_goes_missing_on_the_way_has_failed(shop, target):
    """A delivery that was begun does not look as if it were under way for ever."""
    target.plan("/hook", 500)
    earned = shop.earn(shop.user(), shop.reward(target.url()))
    target.wait()
    execute(shop.env, "delete from user_rewards")
    status, _, _, error = shop.wait(earned, "failed")
    assert "has not earned" in error
    assert shop.wait_dead()[0][0] == earned["event_id"]


def test_deleted_campaign_owes_nothing(make_shop, target):
    shop = make_shop(GROUPS_ENABLED="all")
    user, reward = shop.user(), shop.reward(target.url())
    shop.env.wait_mail("ada@example.com")
    earned = shop.earn(user, reward, produce=False)
    execute(shop.env, "update campaigns set closed_at = now(), deleted_at = now()")
    shop.announce(earned)
    for group in ("reward-workers", "email-workers"):
        wait_until(lambda: shop.service.metric("tidings_messages_total", group=group, type="reward.earned") == 1, 15, group)
    wait_until(lambda: shop.service.metric("tidings_group_lag_records") == 0, 15, "all is handled")
    assert shop.dead() == [] and shop.dead("email-workers") == []
    assert shop.delivery(earned) is None and target.requests == []
    assert len(shop.env.mails("ada@example.com")) == 1
