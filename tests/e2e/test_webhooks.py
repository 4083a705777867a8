"""webhook-workers: an account's endpoints get its events, signed, again and again until they take them."""

import base64
import os
import re
import time
import uuid

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from lib.util import PROJECT, SLOWNESS, wait_until
from lib.verify import execute, faults_of, run_verify, verify_ok
from lib.webhook import WebhookTarget

# No call runs into its time-out unless a test is about that, however busy the machine is.
pytestmark = pytest.mark.settings(
    GROUPS_ENABLED="webhook-workers", WEBHOOK_ALLOW_PRIVATE="on", WEBHOOK_TIMEOUT_MS=60000,
    WEBHOOK_RETRY_SCHEDULE="1ms,1ms,1ms", WEBHOOK_WORKER_POOL_SIZE=6, WEBHOOK_ENDPOINT_CALLS=2)
NEVER = "40h"  # as a wait: what comes in a test's time has another reason


@pytest.fixture
def target():
    target = WebhookTarget()
    yield target
    target.close()


class Hooks:
    """An account's webhooks, over HTTP."""

    def __init__(self, env, target, **changes):
        self.env, self.target = env, target
        self.service = env.start(**changes)
        self.api = env.api()
        self.campaign = self.api.create_campaign()["campaign_id"]

    def call(self, method, path="", json=None, expect=200, **options):
        return self.api.request(method, f"/v1/webhooks{path}", json=json, **options).expect(expect)

    def create(self, url=None, **fields):
        return self.call("POST", json={"url": url or self.target.url(), **fields}, expect=201)

    def get(self, hook):
        return self.call("GET", f"/{hook['webhook_id']}").body

    def patch(self, hook, **fields):
        return self.call("PATCH", f"/{hook['webhook_id']}", fields).body

    def log(self, hook, query=""):
        return self.call("GET", f"/{hook['webhook_id']}/deliveries{query}")["items"]

    def delivery(self, hook, delivery_id):
        return self.call("GET", f"/{hook['webhook_id']}/deliveries/{delivery_id}").body

    def signup(self, name="ada"):
        return self.api.signup(self.campaign, f"{name}@example.com")

    def wait_log(self, hook, *statuses, seconds=20):
        """Until the deliveries' statuses, newest first, are these; the log."""
        wait_until(lambda: [d["status"] for d in self.log(hook)] == list(statuses), seconds, lambda: (statuses, self.log(hook)))
        return self.log(hook)


@pytest.fixture
def make_hooks(env, target):
    yield lambda **changes: Hooks(env, target, **changes)
    target.heal()  # before the services stop


@pytest.fixture
def hooks(make_hooks):
    return make_hooks()


# --- what is sent ---


def test_what_is_sent(hooks, target, env):
    hook = hooks.create(event_types=["user.signed_up", "campaign.updated"], description="CRM \u2713")
    others = hooks.create(target.url("/others"), event_types=["referral.created"])
    every = hooks.create(target.url("/all"))
    user = hooks.signup()
    [request] = target.wait()
    body = request.verify(hook["secret"])
    [(event_id, at)] = env.query("select id::text, tidings.rfc3339(at) from events where type = 1")
    assert body == {
        "type": "user.signed_up", "timestamp": at, "event_id": event_id, "account_id": env.account_id,
        "campaign_id": hooks.campaign, "version": user["version"],
        "data": {"user_id": user["user_id"], "campaign_id": hooks.campaign, "email": "ada@example.com"}}
    assert request.body.startswith(b'{"type":"user.signed_up","timestamp":"')
    assert request.id == f"msg_{event_id}" and abs(int(request.headers["webhook-timestamp"]) - time.time()) < 30
    assert request.headers["content-type"] == "application/json" and request.headers["user-agent"].startswith("Tidings/")
    with pytest.raises(WebhookVerificationError):
        request.verify(every["secret"])
    assert target.wait("/all")[0].verify(every["secret"]) == body
    # The lines that docs/webhooks.md gives to its readers.
    lines = {}
    exec(re.search(r"```python\n(.*?)```", (PROJECT / "docs/webhooks.md").read_text(), re.S).group(1), lines)
    lines["verify"](hook["secret"], request.headers, request.body)
    for wrong in ((every["secret"], request.headers, request.body), (hook["secret"], request.headers, request.body + b" "),
                  (hook["secret"], {**request.headers, "webhook-timestamp": "1700000000"}, request.body)):
        with pytest.raises(ValueError):
            lines["verify"](*wrong)
    [delivery] = hooks.wait_log(hook, "delivered")
    assert delivery == {
        "delivery_id": event_id, "event_id": event_id, "type": "user.signed_up", "status": "delivered", "attempts": 1,
        "http_status": 200, "error": None, "response": "answer 200 ", "being_tried": False, "created_at": delivery["created_at"],
        "tried_at": delivery["tried_at"], "next_attempt_at": None, "ended_at": delivery["ended_at"]}
    assert hooks.log(others) == [] and target.to("/others") == []
    assert env.value("select count(*) from events") == 2 and len(target.to("/all")) == 1
    wait_until(lambda: hooks.service.metric("tidings_webhook_attempts_total", outcome="delivered") == 2, 10, "both are counted")

    def entered(kind, age="0 s"):
        """How many deliveries come about when the record of the event comes again."""
        return env.value(
            "select webhook_fan_out(array_agg(e.id), array_agg(a.id), array_agg(c.id), array_agg(e.version), "
            "array_agg('campaign.updated'::text), array_agg(e.at - %s::interval), 30) from events e, accounts a, campaigns c "
            "where c.no = e.aggregate and a.no = c.account and e.type = %s", age, kind)

    # What happened before there were endpoints is not sent, nor what is older than the log, nor what has a delivery.
    assert entered(7) == 0
    execute(env, "update webhooks set since = '2020-01-01'")
    assert entered(1) == 0 and entered(7, "30 days 1 hour") == 0
    assert entered(7, "29 days") == 2  # to the two endpoints that want it
    hooks.wait_log(hook, "delivered", "delivered")
    hooks.wait_log(every, "delivered", "delivered")


def test_a_test_delivery(hooks, target):
    hook = hooks.create(event_types=["referral.created"])
    made = hooks.call("POST", f"/{hook['webhook_id']}/test", expect=202)
    assert made["type"] == "webhook.test" and made["event_id"] is None and made["status"] == "pending"
    [request] = target.wait()
    body = request.verify(hook["secret"])
    assert body["type"] == "webhook.test" and body["data"] == {} and body["campaign_id"] is body["version"] is None
    hooks.wait_log(hook, "delivered")
    assert hooks.delivery(hook, made["delivery_id"])["http_status"] == 200
    target.plan("/hook", 500)
    made = hooks.call("POST", f"/{hook['webhook_id']}/test", {}, expect=202)
    hooks.wait_log(hook, "failed", "delivered")  # at once: nobody waits for two days
    assert hooks.delivery(hook, made["delivery_id"])["error"].startswith("HTTP 500")
    assert hooks.get(hook)["failing_since"] is None


def test_a_rotated_secret_signs_beside_the_old_one_for_a_time(hooks, target, env):
    own = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    hook = hooks.create(secret=own)
    assert hook["secret"] == own and "secret" not in hooks.get(hook)
    key = {"Idempotency-Key": "r"}
    rotated, again = (hooks.call("POST", f"/{hook['webhook_id']}/rotate-secret", headers=key) for _ in range(2))
    assert rotated["secret"] != own and rotated["old_secret_until"] > rotated["updated_at"]
    assert again.body == rotated.body and again.headers["idempotency-replayed"] == "true"
    hooks.signup()
    [request] = target.wait()
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    assert request.verify(own) == request.verify(rotated["secret"])
    with env.db() as connection:  # the time passes
        connection.execute("update webhooks set old_until = now() - interval '1 s'")
    assert hooks.get(hook)["old_secret_until"] is None
    hooks.signup("bob")
    request = target.wait(count=2)[1]
    assert request.verify(rotated["secret"])
    with pytest.raises(WebhookVerificationError):
        request.verify(own)


def test_what_is_left_of_a_deleted_campaign(hooks, target, env):
    """Closing and deleting a campaign are events too; what else was to be sent of a deleted one is not."""
    hook = hooks.create()
    failing = hooks.create(target.url("/failing"), event_types=["user.signed_up", "campaign.deleted"])
    target.plan("/failing", "later:503:3600", 200)
    hooks.signup()
    wait_until(lambda: [d["attempts"] for d in hooks.log(failing)] == [1], 15, "the first attempt")
    hooks.api.request("POST", f"/v1/campaigns/{hooks.campaign}/close").expect(200)
    hooks.wait_log(hook, "delivered", "delivered")
    hooks.api.request("DELETE", f"/v1/campaigns/{hooks.campaign}").expect(200)
    log = hooks.wait_log(hook, *["delivered"] * 3)
    assert [d["type"] for d in log] == ["campaign.deleted", "campaign.closed", "user.signed_up"]
    with env.db() as connection:
        connection.execute("update webhook_deliveries set next_at = now() where status = 'pending'")
    log = hooks.wait_log(failing, "delivered", "cancelled")
    assert log[1]["error"] == "the campaign was deleted" and log[1]["attempts"] == 1
    hooks.call("POST", f"/{failing['webhook_id']}/deliveries/{log[1]['delivery_id']}/redeliver", expect=202)
    hooks.wait_log(failing, "delivered", "cancelled")


# --- when a target does not take it ---


def test_retries_until_the_schedule_is_spent(hooks, target):
    hook = hooks.create()
    target.plan("/hook", 500, "drop", f"redirect:{target.url('/elsewhere')}", 404)
    hooks.signup()
    requests = target.wait(count=4)
    [delivery] = hooks.wait_log(hook, "failed")
    assert delivery["attempts"] == 4 and delivery["http_status"] == 404 and delivery["error"] == "HTTP 404: answer 404 "
    assert delivery["response"] == "answer 404 " and delivery["next_attempt_at"] is None
    assert len({(r.id, r.body) for r in requests}) == 1 and all(r.verify(hook["secret"]) for r in requests)
    assert target.to("/elsewhere") == [] and len(target.to("/hook")) == 4
    assert hooks.get(hook)["failing_since"]
    # By hand it is tried again, from the schedule's beginning.
    target.plan("/hook", "redirect:/x", 200)
    again = hooks.call("POST", f"/{hook['webhook_id']}/deliveries/{delivery['delivery_id']}/redeliver", expect=202)
    assert again["status"] == "pending" and again["attempts"] == 4
    [delivery] = hooks.wait_log(hook, "delivered")
    assert delivery["attempts"] == 6 and target.to("/hook")[-1].id == requests[0].id
    assert target.to("/hook")[-1].body == requests[0].body
    assert hooks.get(hook)["failing_since"] is None
    hooks.call("POST", f"/{hook['webhook_id']}/deliveries/{delivery['delivery_id']}/redeliver", expect=202)
    target.wait(count=7)
    assert hooks.wait_log(hook, "delivered")[0]["attempts"] == 7


def test_the_waits_and_retry_after(make_hooks, target, env):
    hooks = make_hooks(WEBHOOK_RETRY_SCHEDULE="30s,2h")
    said = {500: (30, 36), "later:503:7200": (7200, 8640), "later:429:99999999": (86400, 103680), "later:503:0": (30, 36),
            "later:503:soon": (30, 36)}
    made = [hooks.create(target.url(f"/{i}")) for i in range(len(said))]
    for i, word in enumerate(said):
        target.plan(f"/{i}", word)
    hooks.signup()

    def waits(attempts):
        """By endpoint, seconds from the last attempt to the next."""
        wait_until(lambda: env.value("select count(*) from webhook_deliveries where attempts = %s" % attempts) == len(said), 20,
                   f"{attempts} attempts each")
        return [w for w, in env.query("select extract(epoch from next_at - tried_at)::float from webhook_deliveries order by webhook")]

    for (word, (least, most)), wait in zip(said.items(), waits(1)):
        assert least <= wait <= most + 0.001, (word, wait)
    log = hooks.log(made[0])[0]
    assert log["status"] == "pending" and log["next_attempt_at"] > log["tried_at"] and log["ended_at"] is None
    with env.db() as connection:
        connection.execute("update webhook_deliveries set next_at = now()")
    assert 7200 <= waits(2)[0] <= 8640.001


def test_endpoints_that_are_disabled(hooks, target, env):
    gone, days = hooks.create(), hooks.create(target.url("/days"))
    target.plan("/hook", 410)
    target.plan("/days", 500)
    hooks.signup()
    [delivery] = hooks.wait_log(gone, "failed")
    assert delivery["http_status"] == 410 and delivery["attempts"] == 1
    now = hooks.get(gone)
    assert now["status"] == "disabled" and now["disabled_reason"] == "it answered 410 Gone" and now["disabled_at"]
    for path in ("/test", f"/deliveries/{delivery['delivery_id']}/redeliver"):
        assert hooks.call("POST", f"/{gone['webhook_id']}{path}", expect=409).problem == "webhook-disabled"
    # Two failures with days of silence between them are not days of failing.
    hooks.wait_log(days, "failed")
    with env.db() as connection:
        connection.execute("update webhooks set failing_since = now() - interval '9 days', failed_at = now() - interval '3 days'")
    hooks.signup("bob")
    hooks.wait_log(days, "failed", "failed")
    assert hooks.get(days)["status"] == "enabled"
    # Nothing has got through for five days: what was still to be tried is not.
    with env.db() as connection:
        connection.execute("update webhooks set failing_since = now() - interval '5 days', failed_at = now() - interval '1 day'")
    hooks.signup("carol")
    hooks.wait_log(days, "cancelled", "failed", "failed")
    assert hooks.log(days)[0]["error"] == "the webhook was disabled" and hooks.log(days)[0]["attempts"] == 1
    assert hooks.get(days)["disabled_reason"].startswith("nothing has got through since 20")
    # Enabled again it gets what happens from then on.
    target.heal()
    enabled = hooks.patch(gone, status="enabled")
    assert enabled["status"] == "enabled" and enabled["disabled_reason"] is enabled["disabled_at"] is None
    hooks.signup("dan")
    hooks.wait_log(gone, "delivered", "failed")
    assert target.to("/hook")[-1].json["data"]["email"] == "dan@example.com"


def test_what_waited_stays_unsent(make_hooks, target, env):
    """Disabled and enabled again before anybody had time to cancel what waited. And another URL has another past."""
    hooks = make_hooks(WEBHOOK_RETRY_SCHEDULE=NEVER)
    hook = hooks.create()
    target.plan("/hook", 500)
    hooks.signup()
    wait_until(lambda: hooks.get(hook)["failing_since"], 20, "the first attempt failed")
    with env.db() as connection:
        connection.execute("update webhooks set since = clock_timestamp()")
    [delivery] = hooks.wait_log(hook, "cancelled")
    assert delivery["error"] == "the webhook was disabled"
    assert hooks.patch(hook, description="x")["failing_since"]
    assert hooks.patch(hook, url=target.url("/moved"))["failing_since"] is None
    again = hooks.call("POST", f"/{hook['webhook_id']}/deliveries/{delivery['delivery_id']}/redeliver", expect=202)
    assert again["status"] == "pending"
    hooks.wait_log(hook, "delivered")
    assert len(target.to("/hook")) == len(target.to("/moved")) == 1


# --- hostile targets ---


def test_answers_without_end(make_hooks, target):
    """Bodies and headers are bounded in bytes and time; a status that came counts, whatever follows it."""
    hooks = make_hooks(WEBHOOK_TIMEOUT_MS=4000 * SLOWNESS)
    kinds = {"giant:200": "delivered", "trickle:200": "delivered", "short": "delivered", "giant:500": "failed", "drip": "failed",
             "garbage": "failed"}
    made = {word: hooks.create(target.url(f"/{i}")) for i, word in enumerate(kinds)}
    for i, word in enumerate(kinds):
        target.plan(f"/{i}", word)
    for hook in made.values():
        hooks.call("POST", f"/{hook['webhook_id']}/test", expect=202)  # one attempt
    for word, status in kinds.items():
        [delivery] = hooks.wait_log(made[word], status, seconds=40)
        assert len(delivery["response"] or "") <= 1024
    assert hooks.log(made["giant:500"])[0]["response"].startswith("\u00e9" * 400)
    assert hooks.log(made["drip"])[0]["http_status"] is None


def test_a_slow_target_holds_up_nobody_else(make_hooks, target, env):
    """It has WEBHOOK_ENDPOINT_CALLS at a time, of all processes together; one whose last call failed has one."""
    hooks = make_hooks(WEBHOOK_RETRY_SCHEDULE=NEVER)
    second = env.start(WEBHOOK_RETRY_SCHEDULE=NEVER)
    hanging, good, failing = (hooks.create(target.url(path)) for path in ("/hanging", "/good", "/failing"))
    target.plan("/failing", 500, "hang")
    hooks.signup("first")
    wait_until(lambda: hooks.get(failing)["failing_since"], 15, "a call failed")
    hooks.wait_log(hanging, "delivered")
    target.plan("/hanging", "hang")
    for i in range(12):
        hooks.signup(f"u{i}")
    target.wait("/good", 13)
    hooks.wait_log(good, *["delivered"] * 13)
    wait_until(lambda: env.value("select count(*) from webhook_deliveries") == 39, 15, "all are entered")
    for hook, path, calls in ((hanging, "/hanging", 1 + 2), (failing, "/failing", 1 + 1)):
        assert len(target.wait(path, calls)) == calls
        assert sum(d["being_tried"] for d in hooks.log(hook)) == calls - 1
    target.heal()
    hooks.wait_log(hanging, *["delivered"] * 13)
    hooks.wait_log(failing, *["delivered"] * 12, "pending")
    assert len({r.id for r in target.to("/hanging")}) == len(target.to("/hanging")) == 13
    assert second.running()


# --- processes that end ---


def test_a_process_that_ends_in_mid_delivery(make_hooks, target, env):
    """What was under way is called again, with the same id and bytes: after a clean stop at once, after kill -9 when its lease has
    ended, by whoever finds it."""
    hooks = make_hooks(WEBHOOK_RETRY_SCHEDULE=NEVER, SHUTDOWN_TIMEOUT_MS=4000 * SLOWNESS)
    hook = hooks.create()
    target.plan("/hook", "hang", "hang", 200)
    hooks.signup()
    target.wait()
    hooks.service.stop()
    assert env.query("select status, attempts, leased_until from webhook_deliveries") == [("pending", 0, None)]
    hooks.service.start()
    target.wait(count=2)
    hooks.service.kill9()
    assert env.query("select status, attempts, leased_until > now() from webhook_deliveries") == [("pending", 0, True)]
    hooks.api = env.api(env.start())
    execute(env, "update webhook_deliveries set (next_at, leased_until) = (now(), now())")  # the lease's time passes
    [delivery] = hooks.wait_log(hook, "delivered")
    requests = target.to("/hook")
    assert delivery["attempts"] == 1 and len(requests) == 3 and len({(r.id, r.body) for r in requests}) == 1
    assert requests[2].verify(hook["secret"])
    hooks.service.start()


# --- over HTTP ---


def test_crud(make_hooks, target, env):
    hooks = make_hooks(WEBHOOKS_PER_ACCOUNT=2)
    hook = hooks.create(event_types=["user.signed_up"])
    assert hook.headers["location"] == f"/v1/webhooks/{hook['webhook_id']}"
    assert hook.body == {
        "webhook_id": hook["webhook_id"], "url": target.url(), "event_types": ["user.signed_up"], "description": None,
        "status": "enabled", "disabled_reason": None, "disabled_at": None, "failing_since": None, "old_secret_until": None,
        "created_at": hook["created_at"], "updated_at": hook["updated_at"], "secret": hook["secret"]}
    shown = {k: v for k, v in hook.body.items() if k != "secret"}
    assert hooks.get(hook) == shown
    key = {"Idempotency-Key": "once"}
    second = hooks.call("POST", json={"url": "https://x.example/", "description": "two"}, expect=201, headers=key)
    again = hooks.call("POST", json={"url": "https://x.example/", "description": "two"}, expect=201, headers=key)
    assert again.body == second.body and again.headers["idempotency-replayed"] == "true" and "secret" in again.body
    assert again.headers["location"] == second.headers["location"]
    assert hooks.call("POST", json={"url": "https://y.example/"}, expect=422, headers=key)["field"] == "Idempotency-Key"
    refused = hooks.call("POST", json={"url": target.url()}, expect=409)
    assert refused.problem == "limit-reached" and "2 webhooks" in refused["detail"]
    page = hooks.call("GET", "?limit=1")
    assert [w["webhook_id"] for w in page["items"]] == [second["webhook_id"]] and second["event_types"] == ["*"]
    page = hooks.call("GET", f"?limit=1&cursor={page['next_cursor']}")
    assert page["items"] == [shown] and page["next_cursor"] is None
    changed = hooks.patch(hook, url=target.url("/new"), event_types=["*"], description="d", status="disabled")
    assert changed["url"] == target.url("/new") and changed["event_types"] == ["*"] and changed["description"] == "d"
    assert changed["status"] == "disabled" and changed["disabled_reason"] == "disabled by the account"
    assert hooks.patch(hook, description=None)["description"] is None
    assert hooks.patch(hook)["url"] == target.url("/new")
    hooks.call("DELETE", f"/{hook['webhook_id']}")
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate-secret"),
                         ("GET", "/deliveries"), ("GET", f"/deliveries/{uuid.uuid4()}")):
        answer = hooks.call(method, f"/{hook['webhook_id']}{path}", {} if method == "PATCH" else None, expect=404)
        assert answer.problem == "no-webhook"
    assert [w["webhook_id"] for w in hooks.call("GET")["items"]] == [second["webhook_id"]]
    assert env.value("select count(*) from webhooks where secret like 'whsec_%%'") == 1
    hooks.create()
    assert hooks.call("GET", key="publishable", expect=403).problem == "forbidden"


def test_bad_input(hooks, target):
    hook, url = hooks.create(), target.url()
    for field, fields in [
            ("url", {}), ("url", {"url": "ftp://x.example/"}), ("url", {"url": 1}), ("url", {"url": "http://u:p@x.example/"}),
            ("url", {"url": "https://x.example/" + "x" * 1024}), ("url", {"url": "http://\u00e9.example/"}),
            ("event_types", {"url": url, "event_types": []}), ("event_types", {"url": url, "event_types": "user.signed_up"}),
            ("event_types", {"url": url, "event_types": ["nonsense"]}), ("event_types", {"url": url, "event_types": [1]}),
            ("event_types", {"url": url, "event_types": ["*", "user.signed_up"]}),
            ("event_types", {"url": url, "event_types": ["user.signed_up"] * 2}),
            ("event_types", {"url": url, "event_types": ["webhook.test"]}),
            ("description", {"url": url, "description": "x" * 201}), ("secret", {"url": url, "secret": "x"}),
            ("status", {"url": url, "status": "enabled"}), ("nonsense", {"url": url, "nonsense": 1})]:
        answer = hooks.call("POST", json=fields, expect=422)
        assert (answer.problem, answer["field"]) == ("invalid", field), fields
    for field, fields in [("url", {"url": ""}), ("event_types", {"event_types": [None]}), ("status", {"status": "on"}),
                          ("secret", {"secret": hook["secret"]})]:
        answer = hooks.call("PATCH", f"/{hook['webhook_id']}", fields, expect=422)
        assert (answer.problem, answer["field"]) == ("invalid", field), fields
    for field, query in (("status", "?status=x"), ("cursor", "?cursor=1"), ("limit", "?limit=0"), ("x", "?x=1")):
        assert hooks.call("GET", f"/{hook['webhook_id']}/deliveries{query}", expect=422)["field"] == field
    assert hooks.get(hook)["updated_at"] == hook["updated_at"]


@pytest.mark.settings(WEBHOOK_ALLOW_PRIVATE="off", WEBHOOK_RETRY_SCHEDULE=NEVER)
def test_targets_within_our_own_network(hooks, target, env):
    for url in ("http://127.0.0.1:1/", "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://localhost/x",
                "https://api.localhost./", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://10.1.2.3/", "http://169.254.169.254/",
                "http://192.168.1.1:8080/", "http://[fd00::1]/", "http://0.0.0.0/"):
        answer = hooks.call("POST", json={"url": url}, expect=422)
        assert (answer.problem, answer["field"]) == ("invalid", "url"), url
    hook = hooks.create("https://hooks.example/")
    answer = hooks.call("PATCH", f"/{hook['webhook_id']}", {"url": target.url()}, expect=422)
    assert answer["field"] == "url" and "a loopback address" in answer["detail"]
    # A name that leads there is found out when the connection is opened.
    with env.db() as connection:
        connection.execute("update webhooks set url = %s", (target.url(host="localhost"),))
    hooks.signup()
    wait_until(lambda: [d["attempts"] for d in hooks.log(hook)] == [1], 15, "an attempt")
    assert "is a loopback address" in hooks.log(hook)[0]["error"] and target.requests == []


def test_the_log(hooks, target, env):
    """In pages; checked by `tidings verify`; trimmed."""
    hook, gone = hooks.create(), hooks.create(target.url("/gone"), event_types=["user.signed_up"])
    for i in range(7):
        hooks.signup(f"u{i}")
    log = hooks.wait_log(hook, *["delivered"] * 7)
    hooks.wait_log(gone, *["delivered"] * 7)
    seen, cursor = [], ""
    while cursor is not None:
        page = hooks.call("GET", f"/{hook['webhook_id']}/deliveries?limit=3&status=delivered{cursor}")
        seen += page["items"]
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == log and hooks.log(hook, "?status=failed") == []

    wait_until(lambda: run_verify(env)["groups"]["webhook-workers"]["lag"] == 0, 20, "all is committed")
    report = verify_ok(env)["groups"]["webhook-workers"]
    assert report["expected"] == report["found"] == env.value("select count(*) from events") == 8
    execute(env, "update webhook_deliveries set version = version + 100 where (webhook, event_id) in "
            "(select webhook, event_id from webhook_deliveries limit 1)")
    assert faults_of(run_verify(env)) == {"webhook-workers doubled": 1}
    execute(env, "delete from webhook_deliveries where version > 100")
    assert faults_of(run_verify(env)) == {"webhook-workers missing": 1}
    of_hook = env.value("select count(*) from webhook_deliveries where webhook = 1")
    hooks.patch(hook, status="disabled")  # of which of the two it was is not known any more
    hooks.call("DELETE", f"/{gone['webhook_id']}")
    assert faults_of(run_verify(env)) == {}

    execute(env, "update webhook_deliveries set created_at = now() - interval '31 days' where webhook = 1 and event_id = %s",
            hooks.log(hook)[0]["delivery_id"])
    execute(env, "update trims set begun_at = '-infinity'")  # the service may trim too, at any time
    env.value("select webhook_trim(30, 86400, 1000)")
    assert env.value("select count(*) from webhook_deliveries where webhook = 1") == of_hook - 1
    assert env.query("select count(*), count(*) filter (where deleted_at is not null) from webhooks") == [(2, 1)]
    assert env.value("select count(*) from webhook_deliveries where webhook = 2") == 0
    execute(env, "update webhooks set deleted_at = deleted_at - interval '25 hours'")
    env.value("select webhook_trim(30, 86400, 1000)")
    assert env.value("select count(*) from webhooks") == 1


def test_a_bad_schedule_is_told_at_the_start(env):
    done = env.tidings("serve", WEBHOOK_RETRY_SCHEDULE="5s,1d")
    assert done.returncode == 2 and "WEBHOOK_RETRY_SCHEDULE: 1d is no wait" in done.stderr, done.stderr
