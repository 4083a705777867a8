"""docs/openapi.yaml and the service say the same: operations, answers, errors.

Every answer of all other tests is checked against the document too (lib/api.py)."""

import dataclasses
import json
import re
import subprocess
import sys
import uuid

import pytest
from openapi_spec_validator import validate

from lib import openapi
from lib.raw import Raw
from lib.util import PROJECT, SLOWNESS, wait_until

OPS_TOKEN = "a token of operators"
pytestmark = pytest.mark.settings(MAIL_TRANSPORT="discard", VERIFY_RESEND_SECONDS=0, VERIFY_RESEND_PER_DAY=1, OPS_TOKEN=OPS_TOKEN,
                                  WEBHOOKS_PER_ACCOUNT=3)
JSON, FORM = "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"
ACCESS = {"ACCESS_SECRET": {"secretKey"}, "ACCESS_ANY_KEY": {"secretKey", "publishableKey"}, "ACCESS_OPEN": set(),
          "ACCESS_OPS": {"opsToken"}}


@pytest.fixture(scope="module")
def document():
    return openapi.load()


# --- the document as such ---


def test_the_document_is_valid(document):
    validate(document.raw)
    used = set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', json.dumps(document.raw)))
    defined = {(kind, name) for kind, parts in document.raw["components"].items() for name in parts}
    assert used | {("securitySchemes", name) for name in document.raw["components"]["securitySchemes"]} == defined
    for operation in document.operations.values():
        assert operation.raw["summary"] and operation.raw["tags"], operation
        for response in operation.responses.values():
            for content in response.get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    assert not document.validate(content["schema"], document.resolve(example)["value"]), (operation, name)
        for content in (operation.body or {}).get("content", {}).values():
            for name, example in content.get("examples", {}).items():
                assert not document.validate(content["schema"], document.resolve(example)["value"]), (operation, name)


def routes():
    """(name, method, path, keys) of src/http/routes.c."""
    text = (PROJECT / "src/http/routes.c").read_text()
    macros = dict(re.findall(r'^#define (\w+) (.*)$', text, re.M))

    def path_of(expression):
        parts = re.findall(r'"([^"]*)"|(\w+)', expression)
        return "".join(literal if not macro else path_of(macros[macro]) for literal, macro in parts)

    found = re.findall(r'^\s*\{"([A-Z]+)",\s*(.*?),\s*"(\w+)",\s*(ACCESS_\w+),', text, re.M)
    return [(name, method, path_of(pattern), frozenset(ACCESS[access])) for method, pattern, name, access in found]


def test_the_types_of_events_are_those_of_the_contract_table(document):
    table = set(re.findall(r'X\(EVENT_\w+, +\d+, "([a-z_.]+)"', (PROJECT / "src/domain/event.h").read_text()))
    assert set(document.raw["components"]["schemas"]["EventType"]["enum"]) == table


def test_every_route_is_in_the_document_and_the_other_way_round(service, document):
    documented = {(o.name, o.method, o.path, frozenset(o.keys)) for o in document.operations.values()}
    assert documented == set(routes())
    # What the binary has, whatever its source looks like.
    series = re.findall(r'tidings_http_request_duration_seconds_count\{route="(\w+)"\}', "\n".join(service.metrics()))
    assert set(series) - {"none"} == set(document.operations)


def test_the_service_shows_the_document(api):
    answer = api.request("GET", "/openapi.yaml", key=None).expect(200)
    assert answer.text == openapi.PATH.read_text()


def spoiled(answer, status=None, headers=None, without=(), **members):
    """The answer with something else in it."""
    headers = {**answer.headers, **(headers or {})}
    body = {k: v for k, v in {**answer.body, **members}.items() if k not in without}
    return dataclasses.replace(answer, status=status or answer.status, body=body,
                               headers={k: v for k, v in headers.items() if k not in without})


def test_a_wrong_answer_is_noticed(env, api, document):
    campaign = api.create_campaign()
    good = api.get_user(campaign["campaign_id"], api.signup(campaign["campaign_id"], "ada@example.com")["user_id"], key="secret")
    refused = api.create_campaign(key=None, expect=401)
    again = "urn:tidings:problem:no-user"
    for wrong in (spoiled(good, extra=1), spoiled(good, without=["position"]), spoiled(good, position=0),
                  spoiled(good, created_at="2026-11-21T09:05:47Z"), spoiled(good, user_id="x"), spoiled(good, status=201),
                  spoiled(good, verified=None), spoiled(good, headers={"content-type": "text/html"}),
                  spoiled(good, without=["x-request-id"]), spoiled(good, headers={"location": "/v1/x"}),
                  spoiled(good, source={"x": 1}), spoiled(campaign, without=["location"]), spoiled(campaign, events="1"),
                  spoiled(refused, type=again), spoiled(refused, without=["www-authenticate"]), spoiled(refused, status=403),
                  spoiled(refused, without=["request_id"]), spoiled(refused, request_id="other"), spoiled(refused, status=402)):
        assert document.faults(wrong), wrong
    assert not any(map(document.faults, (good, campaign, refused)))


# --- every answer that the document has ---

# What needs a part to fail; tests/e2e/test_faults.py makes them.
FAILING = {"internal", "overloaded", "database-unavailable", "shutting-down", "outcome-unknown", "timeout"}
PAGES_FAILING = {("verify_link", 500), ("verify_link", 503), ("unsubscribe", 500), ("unsubscribe", 503), ("readyz", 503)}


class Walk:
    """Asks, and remembers what was reached: (operation, status, slug)."""

    def __init__(self, env, api, service, document):
        self.env, self.api, self.service, self.document = env, api, service, document
        self.reached = set()
        self.campaign = self.call("create_campaign", {"name": "Walk"}, want=201)["campaign_id"]
        self.ids = {"campaign_id": self.campaign}

    def path(self, operation, **ids):
        return operation.path.format(**{**self.ids, **ids})

    def note(self, answer):
        operation, _ = self.document.find(answer.method, answer.path)
        self.document.check(answer)
        self.reached.add((operation.name, answer.status, answer.problem))
        return answer

    def call(self, name, body=None, want=None, key="secret", idempotency_key=None, query="", **ids):
        """want: a status or a slug, or None for any."""
        operation = self.document.operations[name]
        ids = {**getattr(self, "ids", {}), **ids}
        key = OPS_TOKEN if operation.keys == {"opsToken"} and key == "secret" else key
        answer = self.note(self.api.request(operation.method, operation.path.format(**ids) + query, json=body, key=key,
                                            headers={"Idempotency-Key": idempotency_key} if idempotency_key else None))
        assert want in (None, answer.status, answer.problem), (name, want, answer)
        return answer

    def raw(self, operation, headers, body=b"", **ids):
        token = OPS_TOKEN if operation.keys == {"opsToken"} else self.api.keys["secret"]
        key = (f"Authorization: Bearer {token}",) if operation.keys else ()
        with Raw(self.service) as raw:
            return self.note(raw.ask(operation.method, self.path(operation, **ids), (*key, *headers), body))

    def token(self, user, **options):
        return self.env.make_token(self.campaign, user, **options)


def walk_successes(w):
    """Every operation does what it is for; the ids of what came of it are used from there on."""
    ada = w.call("sign_up", {"email": "ada@example.com", "source": {"utm_source": "x"}, "metadata": {"a": 1}}, 201)
    bob = w.call("sign_up", {"email": "bob@example.com", "referral_code": ada["referral_code"]}, 201, key="publishable")
    carol = w.call("sign_up", {"email": "carol@example.com"}, 201)
    w.ids.update(user_id=ada["user_id"], bob=bob["user_id"], carol=carol["user_id"], code=ada["referral_code"])
    w.call("request_verification", want=202, user_id=bob["user_id"])
    w.call("verify_user", {"token": w.token(bob["user_id"])}, 200, user_id=bob["user_id"], key="publishable")
    referral = w.call("create_referral", {"referrer_id": ada["user_id"], "referred_id": carol["user_id"]}, 201)
    w.ids["referral_id"] = referral["referral_id"]
    w.call("get_referral", want=200)
    w.call("verify_referral", want=200)
    w.call("verify_referral", {}, 200)
    w.call("get_referral", want=200)
    reward = w.call("create_reward", {"name": "Stickers", "delivery": "email", "message": "a\nb", "stock": 1}, 201)
    hook = w.call("create_reward", {"name": "Hook", "delivery": "webhook", "url": "http://127.0.0.1:9/x", "threshold": 2,
                                    "secret": None}, 201)
    w.ids.update(reward_id=reward["reward_id"], hook=hook["reward_id"])
    w.call("grant_reward", {"reward_id": reward["reward_id"]}, 201)
    w.call("get_reward", want=200)
    w.call("get_reward", want=200, reward_id=hook["reward_id"])
    w.call("update_campaign", {"name": "New", "landing_url": "https://x.example/"}, 200)
    w.call("update_campaign", {"reward_rules": [{"reward_id": reward["reward_id"], "threshold": 3}]}, 200)
    for read in ("list_campaigns", "get_campaign", "get_totals", "get_stats", "get_leaderboard", "list_users", "get_user",
                 "list_user_referrals", "list_rewards", "list_user_rewards", "list_sagas"):
        w.call(read, want=200)
        if "publishableKey" in w.document.operations[read].keys:
            w.call(read, want=200, key="publishable")
    for read, query in (("list_campaigns", "?status=open&limit=1"), ("list_users", "?limit=1&verified=true&utm_source=x"),
                        ("list_users", "?search=A"), ("list_users", "?email=ADA@example.com"), ("list_rewards", "?limit=1"),
                        ("get_stats", "?limit=1&resolution=day&from=2026-01-01T00:00:00Z"),
                        ("list_users", f"?referred_by={ada['user_id']}"), ("get_leaderboard", "?limit=1"),
                        ("list_user_referrals", "?status=verified&limit=1"), ("list_user_rewards", "?limit=1"),
                        ("list_sagas", "?state=confirmed")):
        page = w.call(read, want=200, query=query)
        while page["next_cursor"]:
            page = w.call(read, want=200, query=f"{query}&cursor={page['next_cursor']}")
    w.ids["template"] = "user.verified"
    w.call("put_template", {"subject": "Hi {{email}}", "text": "a\nb", "html": "<p>{{email}}</p>"}, 200)
    w.call("put_template", {"subject": "Hi {{email}}", "text": "a\nb", "html": None}, 200)
    for body in (None, {}, {"subject": "x", "text": "{{reward}}"}):
        w.call("preview_template", body, 200)
    w.call("get_template", want=200)
    assert len(w.call("list_templates", want=200)["items"]) == 1
    unsubscribe = w.env.make_unsubscribe_token(w.campaign, ada["user_id"])
    w.call("unsubscribe_page", want=200, key=None, query=f"?token={unsubscribe}")
    w.raw(w.document.operations["unsubscribe"], (FORM,), f"token={unsubscribe}")
    hook = w.call("create_webhook", {"url": "https://x.example/", "event_types": ["user.signed_up"], "secret": None}, 201)
    w.ids["webhook_id"] = hook["webhook_id"]
    w.ids["delivery_id"] = w.call("test_webhook", want=202)["delivery_id"]
    w.call("update_webhook", {"description": "x", "event_types": ["*"]}, 200)
    for name, status in (("get_webhook", 200), ("list_webhooks", 200), ("list_webhook_deliveries", 200),
                         ("get_webhook_delivery", 200), ("redeliver_webhook", 202), ("rotate_webhook_secret", 200)):
        w.call(name, want=status)
    w.call("delete_webhook", want=200, webhook_id=w.call("create_webhook", {"url": "https://y.example/"}, 201)["webhook_id"])
    for name in ("healthz", "readyz", "metrics", "openapi"):
        w.call(name, want=200, key=None)
    token = w.token(w.ids["carol"])
    w.call("verify_page", want=200, key=None, query=f"?token={token}")
    w.env.ledger.not_accounted(w.campaign)  # the page does not say what it did
    w.raw(w.document.operations["verify_link"], (FORM,), f"token={token}")


def walk_dead_letters(w):
    """A record that is no event: every group gives it up."""
    w.env.produce(b"nonsense", b"k")
    wait_until(lambda: w.env.value("select count(*) from dead_letters") == 4, 15, "four groups give it up")
    ids = [row[0] for row in w.env.query("select id from dead_letters order by id desc")]
    w.ids["dead_letter_id"] = ids[0]
    for query in ("", "?state=dead&limit=1", "?group=email-workers&state=dead"):
        page = w.call("list_dead_letters", want=200, query=query)
        found = page["items"]
        while page["next_cursor"]:
            page = w.call("list_dead_letters", want=200, query=f"{query}&cursor={page['next_cursor']}")
            found = found + page["items"]
        assert len(found) == 1 if "email" in query else [x["dead_letter_id"] for x in found] == ids
    whole = w.call("get_dead_letter", want=200)
    assert whole["value"] is None and whole["value_base64"] == "bm9uc2Vuc2U=" and whole["reason"].startswith("malformed")
    assert w.call("retry_dead_letter", want=200, dead_letter_id=ids[1])["state"] == "retry"
    wait_until(lambda: w.env.query("select 1 from dead_letters where id = %s and state = 'dead'", ids[1]), 15, "dead again")
    w.call("discard_dead_letter", want=200, dead_letter_id=ids[1])
    w.call("get_dead_letter", want="no-dead-letter", dead_letter_id=ids[1])
    with w.env.db() as connection:
        connection.execute("update dead_letters set leased_until = now() + interval '1 hour' where id = %s", (ids[2],))
    for name in ("retry_dead_letter", "discard_dead_letter"):
        w.call(name, want="dead-letter-busy", dead_letter_id=ids[2])


def walk_refusals(w):
    """What an operation in particular refuses."""
    ada, bob, nobody = w.ids["user_id"], w.ids["bob"], str(uuid.uuid4())
    w.call("sign_up", {"email": "ADA@example.com"}, "email-taken")
    w.call("sign_up", {"email": "x@example.com", "referral_code": "ZZZZZZZZ"}, "unknown-referral-code")
    w.call("verify_user", {"token": "A" * 75}, "bad-token")
    w.call("verify_user", {"token": w.token(ada, expires_s=1)}, "token-expired")
    w.call("request_verification", want="already-verified", user_id=bob)
    w.call("request_verification", want=202)
    w.call("request_verification", want="too-soon")
    w.call("create_referral", {"referrer_id": ada, "referred_id": bob}, "has-referrer")
    w.call("create_referral", {"referrer_id": ada, "referred_id": ada}, "self-referral")
    w.call("create_referral", {"referral_code": w.ids["code"], "referred_id": nobody}, "no-user")
    w.call("create_referral", {"referrer_id": nobody, "referred_id": ada}, "no-user")
    w.call("create_referral", {"referral_code": "ZZZZZZZZ", "referred_id": ada}, "unknown-referral-code")
    w.call("grant_reward", {"reward_id": w.ids["reward_id"]}, "already-earned")
    w.call("grant_reward", {"reward_id": w.ids["reward_id"]}, "out-of-stock", user_id=bob)
    w.call("grant_reward", {"reward_id": nobody}, "no-reward")
    w.call("update_campaign", {"name": "Newer", "expected_version": 1}, "version-conflict")
    w.call("update_campaign", {"reward_rules": [{"reward_id": nobody, "threshold": 3}]}, "no-reward")
    for i in range(8):
        last = w.call("create_reward", {"name": f"R{i}", "delivery": "email", "threshold": 5}, 201)
    w.call("create_reward", {"name": "R9", "delivery": "email", "threshold": 5}, "limit-reached")
    last = w.call("create_reward", {"name": "R9", "delivery": "email"}, 201)
    w.call("update_campaign", {"reward_rules": [{"reward_id": last["reward_id"], "threshold": 3}]}, "limit-reached")
    for i in range(2):
        w.call("create_webhook", {"url": f"https://{i}.example/"}, 201)
    w.call("create_webhook", {"url": "https://z.example/"}, "limit-reached")
    w.call("update_webhook", {"status": "disabled"}, 200)
    w.call("test_webhook", want="webhook-disabled")
    w.call("redeliver_webhook", want="webhook-disabled")
    w.call("update_webhook", {"status": "enabled"}, 200)
    page, link = w.document.operations["verify_page"], w.document.operations["verify_link"]
    w.call(page.name, want=422, key=None, query="?token=x")
    w.raw(link, (FORM,), "token=x")
    w.raw(link, (JSON,), "{}")
    w.raw(link, (FORM,), f"token={w.token(nobody)}")
    w.raw(link, (FORM,), b"token=" + b"x" * 70000)
    page, link = w.document.operations["unsubscribe_page"], w.document.operations["unsubscribe"]
    w.call(page.name, want=422, key=None, query="?token=x")
    w.raw(link, (FORM,), "token=x")
    w.raw(link, (JSON,), "{}")
    w.raw(link, (FORM,), f"token={w.env.make_unsubscribe_token(w.campaign, nobody)}")
    w.raw(link, (FORM,), b"token=" + b"x" * 70000)
    w.call("put_template", {"subject": "x", "text": "{{x}}"}, "invalid")


def walk_idempotency_keys(w):
    """Each operation that takes a key: a repeat is the first answer again, another request is refused."""
    user, reward = w.ids["user_id"], {"name": "Again", "delivery": "webhook", "url": "https://x.example/"}
    bodies = {  # a good one, and another
        "create_campaign": ({"name": "Again"}, {"name": "Other"}),
        "sign_up": ({"email": "dan@example.com"}, {"email": "dan@example.com", "metadata": {}}),
        "verify_user": ({"token": w.token(user)}, {"token": w.token(user, expires_s=2**32)}),
        "create_referral": ({"referral_code": w.ids["code"], "referred_id": w.ids["bob"]},
                            {"referral_code": w.ids["code"], "referred_id": w.ids["carol"]}),
        "create_reward": (reward, {**reward, "name": "Other"}),
        "create_webhook": ({"url": "https://i.example/"}, {"url": "https://j.example/"}),
        "grant_reward": ({"reward_id": w.ids["hook"]}, {"reward_id": w.ids["reward_id"]})}
    elsewhere = w.call("create_campaign", {"name": "Elsewhere"}, 201)["campaign_id"]
    for operation in w.document.operations.values():
        if not operation.takes("Idempotency-Key"):
            continue
        good, other = bodies.get(operation.name, (None, {}))
        ids = {"campaign_id": elsewhere} if operation.name == "close_campaign" else {}
        first, again = (w.call(operation.name, good, idempotency_key=f"{operation.name}~1", **ids) for _ in range(2))
        assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
        assert again.status == first.status and {**again.body, "request_id": 0} == {**first.body, "request_id": 0}
        assert again.headers.get("location") == first.headers.get("location")
        w.call(operation.name, other, "idempotency-key-reused", idempotency_key=f"{operation.name}~1", **ids)
        for bad in ("x" * 256, "a b"):
            refused = w.call(operation.name, good, "invalid", idempotency_key=bad, **ids)
            assert refused["field"] == "Idempotency-Key"


def walk_what_all_refuse(w):
    """What any operation refuses, as far as the document says so."""
    nowhere = str(uuid.uuid4())
    for operation in w.document.operations.values():
        answers = operation.responses
        takes_json = "application/json" in (operation.body or {}).get("content", {})
        send = {} if takes_json else None
        if operation.keys:
            w.call(operation.name, send, "unauthorized", key=None)
            w.call(operation.name, send, "unauthorized", key="tk_sec_" + "A" * 43)
        if operation.keys == {"secretKey"}:
            w.call(operation.name, send, "forbidden", key="publishable")
        w.raw(operation, ("Host: again",))
        for id_name in re.findall(r"\{(\w+)\}", operation.path):
            bodies = {"verify_user": lambda **ids: {"token": w.env.make_token(ids["campaign_id"], ids["user_id"])},
                      "sign_up": lambda **ids: {"email": "eve@example.com"},
                      "create_referral": lambda **ids: {"referrer_id": nowhere, "referred_id": nowhere},
                      "create_reward": lambda **ids: {"name": "x", "delivery": "email"},
                      "put_template": lambda **ids: {"subject": "x", "text": "y"},
                      "update_webhook": lambda **ids: {},
                      "grant_reward": lambda **ids: {"reward_id": w.ids["hook"]}}
            for value in (nowhere, "x"):
                ids = {**w.ids, id_name: value}
                body = bodies.get(operation.name, lambda **ids: send)(**{**w.ids, id_name: nowhere})
                w.call(operation.name, body, "no-" + id_name.removesuffix("_id").replace("_", "-"), **ids)
        if 413 in answers and takes_json:
            w.raw(operation, (JSON,), b'{"x":"' + b"x" * 70000 + b'"}')
        if takes_json:
            w.raw(operation, ("Content-Type: text/plain",), "{}")
            w.raw(operation, (JSON,), "{")
            assert w.call(operation.name, {"nonsense": 1}, "invalid")["detail"]
        if operation.raw.get("parameters") and operation.method == "GET" and operation.keys:
            assert w.call(operation.name, want="invalid", query="?nonsense=1")["field"] == "nonsense"
            assert w.call(operation.name, want="invalid", query="?limit=0")["field"] == "limit"
            assert w.call(operation.name, want="invalid", query="?cursor=x")["field"] == "cursor"


def walk_the_end(w):
    w.call("delete_template", want=204)
    for name in ("delete_template", "get_template"):
        w.call(name, want="no-template")
    w.call("delete_campaign", want="campaign-open")
    w.call("close_campaign", want=200)
    w.call("close_campaign", {}, 200)
    w.call("sign_up", {"email": "late@example.com"}, "campaign-closed")
    w.call("create_referral", {"referrer_id": w.ids["carol"], "referred_id": w.ids["user_id"]}, "campaign-closed")
    w.call("get_campaign", want=200)
    w.call("list_campaigns", want=200, query="?status=closed")
    w.call("delete_campaign", want=200)
    w.call("get_campaign", want="no-campaign")
    w.call("delete_campaign", want="no-campaign")


def test_every_documented_answer(env, api, service, document):
    w = Walk(env, api, service, document)
    walk_successes(w)
    walk_dead_letters(w)
    walk_refusals(w)
    walk_what_all_refuse(w)
    walk_idempotency_keys(w)
    walk_the_end(w)
    documented = set()
    for operation in document.operations.values():
        for status in operation.responses:
            slugs = operation.problems(status)
            documented |= {(operation.name, status, slug) for slug in slugs} or {(operation.name, status, None)}
    for name in [o.name for o in document.operations.values() if o.keys == {"opsToken"}]:
        documented.discard((name, 404, "no-route"))  # test_ops_paths_are_not_there_without_a_token
    missing = {(name, status, slug) for name, status, slug in documented - w.reached
               if slug not in FAILING and (name, status) not in PAGES_FAILING}
    assert not missing, sorted(missing, key=str)


def test_ops_paths_are_not_there_without_a_token(env):
    service = env.start(OPS_TOKEN=None)
    with Raw(service) as raw:
        for method, path in (("GET", ""), ("PUT", ""), ("OPTIONS", ""), ("GET", "/1"), ("DELETE", "/1"), ("POST", "/1/retry")):
            answer = raw.ask(method, "/v1/ops/dead-letters" + path, (f"Authorization: Bearer {OPS_TOKEN}",))
            assert (answer.status, answer.problem) == (404, "no-route"), answer


# --- random requests ---

# good_requests_are_taken is lib/openapi_hooks.py's, in the place of positive_data_acceptance.
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance", "ignored_auth", "unsupported_method", "negative_data_rejection",
          "good_requests_are_taken")


def configuration(env, campaign, user, referral, reward, doomed, hooks, delivery):
    """schemathesis.toml: what is there, so that requests get past 404."""
    return f"""
hooks = "{PROJECT / 'tests/lib/openapi_hooks.py'}"
[auth.openapi.secretKey]
bearer = "{env.keys['secret']}"
[auth.openapi.publishableKey]
bearer = "{env.keys['publishable']}"
[auth.openapi.opsToken]
bearer = "{OPS_TOKEN}"

[parameters]
"path.campaign_id" = "{campaign}"
"path.user_id" = "{user}"
"path.referral_id" = "{referral}"
"path.reward_id" = "{reward}"
"path.template" = "user.verified"
"path.webhook_id" = "{hooks[0]}"
"path.delivery_id" = "{delivery}"

[[operations]]
include-operation-id = ["close_campaign", "delete_campaign"]
parameters = {{ "path.campaign_id" = "{doomed}" }}

[[operations]]
include-operation-id = ["delete_webhook"]
parameters = {{ "path.webhook_id" = "{hooks[1]}" }}
"""


@pytest.mark.settings(GROUPS_ENABLED="none")  # webhooks are not called, wherever they would go
def test_random_requests(env, api, service):
    campaign, doomed = (api.create_campaign()["campaign_id"] for _ in range(2))
    ada, bob = (api.signup(campaign, f"{name}@example.com")["user_id"] for name in ("ada", "bob"))
    referral = api.create_referral(campaign, bob, referrer_id=ada)["referral_id"]
    reward = api.create_reward(campaign)["reward_id"]
    hooks = [api.request("POST", "/v1/webhooks", json={"url": "https://x.example/"}).expect(201)["webhook_id"] for _ in range(2)]
    delivery = api.request("POST", f"/v1/webhooks/{hooks[0]}/test").expect(202)["delivery_id"]
    for one in (campaign, doomed):
        env.ledger.not_accounted(one)
    (env.directory / "schemathesis.toml").write_text(configuration(env, campaign, ada, referral, reward, doomed, hooks, delivery))
    # Deterministic: the same requests each time, but for ids.
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", openapi.PATH, "--url", service.url, "--checks", ",".join(CHECKS),
         "--generation-deterministic", "--no-shrink", "--max-examples", "6", "--phases", "examples,coverage,fuzzing,stateful",
         "--suppress-health-check", "all", "--request-timeout", str(10 * SLOWNESS), "--warnings", "off", "--no-color"],
        cwd=env.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=100 * SLOWNESS)
    assert done.returncode == 0, done.stdout[-20000:]
    counts = re.search(r"Test cases:\n +(\d+) generated", done.stdout)
    assert counts and int(counts.group(1)) > 500, done.stdout
