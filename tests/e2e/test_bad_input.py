"""Requests that say what they should not: each gets a clear 4xx that names what is wrong, and nothing is done."""

import itertools
import json
import random
import time
import unicodedata
import uuid

import pytest

from lib.hostile import JSON, fresh, key, problem
from lib.raw import Raw, request

pytestmark = [pytest.mark.settings(MAIL_TRANSPORT="discard"), pytest.mark.usefixtures("watch")]


@pytest.fixture
def campaign(api):
    return api.create_campaign()["campaign_id"]


class Operations:
    """What takes a body: how to call it, and bodies that are good."""

    names = ("create", "sign_up", "verify")

    def __init__(self, env, api):
        self.env, self.api = env, api
        self.campaign = api.create_campaign()["campaign_id"]
        self.user = api.signup(self.campaign, fresh())["user_id"]
        users = f"/v1/campaigns/{self.campaign}/users"
        self.paths = {"create": "/v1/campaigns", "sign_up": users, "verify": f"{users}/{self.user}/verify"}

    def good(self, operation):
        return {"create": lambda: {"name": "Launch"}, "sign_up": lambda: {"email": fresh()},
                "verify": lambda: {"token": self.env.make_token(self.campaign, self.user)}}[operation]()

    def send(self, operation, body):
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        return self.api.request("POST", self.paths[operation], content=content)

    def nothing_done(self):
        counts = self.env.query("select (select count(*) from campaigns), (select count(*) from users),"
                                " (select count(*) from verifications)")
        return counts == [(1, 1, 0)]


@pytest.fixture
def operations(env, api):
    return Operations(env, api)


# --- JSON ---

GOOD = b'{"email":"eve@example.com"}'
BAD_VALUES = [  # none is JSON that we take
    "", "nul", "TRUE", "undefined", "NaN", "-Infinity", "'x'", "01", "+1", ".5", "1.", "1e", "-", "0x10", "1_0", "1e999",
    "9" * 30, '"', '"x', '"\\"', '"\\x41"', '"\\u12"', '"\\u00zz"', '"\\ud800"', '"\\udc00x"', '"\\ud800\\u0041"',
    '"a\\u0000b"', '"a\nb"', '"a\tb"', '"a\x01b"', '"a\x00b"', "[1,]", "[1 2]", "{,}", '{"a":1,"a":2}', '{"a" 1}', "1,", "1 1",
    b'"\xff"', b'"\x80"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xf8\x88\x80\x80\x80"',
    "[" * 17 + "]" * 17, '{"a":' * 17 + "1" + "}" * 17, "[" * 60000, '{"a":' * 12000, '"\\"[[[' * 9, "]" * 60000,
]
BAD_BODIES = [
    b"", b" ", b"{", b"}", b"[}", b"{]", b"{}{}", b"\0", b"{\0}", b"\xef\xbb\xbf" + GOOD, GOOD + b"\0", b"\0" + GOOD,
    GOOD * 2, GOOD + b"x", b"//c\n" + GOOD, GOOD.decode().encode("utf-16"), GOOD.decode().encode("utf-32-le"),
    b"email=eve@example.com", b"<email/>", b'{"email":"eve@example.com",}', b'{email:"eve@example.com"}', b'{"email"}',
    b'{"em\0ail":1}', b'{"\\u0000":1}', b'{"\xff":1}', b'{"email":"a@example.com","email":"b@example.com"}',
    b'{"email":"a@example.com","\\u0065mail":"b@example.com"}', b"1", b'"x"', b"null", b"true",
    *[GOOD[:n] for n in range(len(GOOD))],
    *[b'{"email":' + (v if isinstance(v, bytes) else v.encode()) + b"}" for v in BAD_VALUES],
]


def test_not_json(operations):
    for operation, body in itertools.product(operations.names, BAD_BODIES):
        assert problem(operations.send(operation, body), 400, "malformed")["detail"]
    for operation, body in itertools.product(operations.names, (b"[]", b"[" + GOOD + b"]")):
        problem(operations.send(operation, body), 422, "invalid")
    assert operations.nothing_done()


CONTROLS = ["a\nb", "a\rb", "a\tb", "\x01", "a\x1f", "\x7f", "a\x85b", "\x9f"]
VALUES = {"string": "x", "integer": 7, "real": 7.5, "exponent": 1e3, "boolean": True, "null": None, "array": [], "object": {}}
MEMBERS = [  # operation, member, its type, whether it may be null, values of that type that are not good
    ("create", "name", "string", False, ["", " ", "     ", "x" * 201, "é" * 201, *CONTROLS]),
    ("create", "points_per_referral", "integer", True, [-1, 1000001, 2**31, 2**63 - 1, -(2**63)]),
    ("create", "milestones", "array", True, [
        [0], [-1], [2, 2], [3, 2], [1, "2"], [None], [[1]], [1.5], [1.0], [True], [10**9 + 1], [2**62], list(range(1, 52)),
        [{}] * 1000]),
    ("create", "landing_url", "string", True, [
        "", "x", "x.example", "//x.example", "ftp://x.example", "javascript:alert(1)", "data:text/html,x", "http:", "http://",
        "http:///x", "http://:80", "http://a b", "http://u:p@x.example", "http://x.example/<", 'http://x.example/"',
        "http://é.example", "http://x.example/" + "a" * 1024, "http://x.example/\u202e", *CONTROLS]),
    ("sign_up", "email", "string", False, ["x" * 255, "x" * 60000, *CONTROLS]),
    ("sign_up", "referral_code", "string", True, ["", "x", "x" * 64, "x" * 65, "é" * 60, "'; drop table users; --", *CONTROLS]),
    ("sign_up", "metadata", "object", True, [{"a": "x" * 4089}, {"x" * 4092: 1}, {str(i): i for i in range(1000)}]),
    ("verify", "token", "string", False, ["", "x", "x" * 256, "x" * 257, "é" * 75, *CONTROLS]),
]


def test_wrong_members(operations):
    """Wrong types, values out of range, members that are missing or unknown: the answer names the member."""
    slugs = {"invalid", "unknown-referral-code", "bad-token"}
    for operation, member, kind, nullable, bad in MEMBERS:
        others = [value for k, value in VALUES.items() if k != kind and not (nullable and value is None)]
        for value in others + bad:
            answer = problem(operations.send(operation, {**operations.good(operation), member: value}), 422, field=member)
            assert answer.problem in slugs, (member, value, answer)
        if not nullable:
            problem(operations.send(operation, {}), 422, "invalid", member)
    for operation in operations.names:
        def with_members(members):
            return operations.send(operation, {**operations.good(operation), **members})

        for name in ("x", "Email", "NAME", "token ", "é" * 10, "__proto__", "a\x01\u2028", "id", "user_id", "campaign_id"):
            problem(with_members({name: 1}), 422, "invalid", name)
        problem(with_members({"": 1}), 422, "invalid")
        assert len(problem(with_members({"é" * 20000: 1}), 422, "invalid", "é" * 32).text) < 500
        problem(with_members({f"m{i}": i for i in range(4000)}), 422, "invalid", "m0")
    assert operations.nothing_done()
    for operation in operations.names:  # null stands for a member that is not there
        nulls = {member: None for o, member, _, nullable, _ in MEMBERS if o == operation and nullable}
        assert operations.send(operation, {**operations.good(operation), **nulls}).status in (200, 201)


def test_mutated_sign_ups(env, api, campaign):
    """Small changes to good bodies: 201 only for what another reader understands in the same way, else 4xx."""
    rng = random.Random(20)
    bits = [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"\0", b"\xff", b"\xc3\xa9", b"\\u0000", b"\\ud83d", b" ",
            b"-1e5", b"@"]
    statuses = {}
    for _ in range(600):
        members = {"email": fresh(), "referral_code": None, "metadata": {"a": [1, "é"], "b": {"c": 1.5}}}
        body = bytearray(json.dumps(members).encode())
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(body))
            to = at + rng.choice((0, 0, 1, 1, 2, 20))
            body[at:to] = rng.choice((bytes([rng.randrange(256)]), rng.choice(bits), b"", bytes(body[at:to]) * 2))
        answer = api.request("POST", f"/v1/campaigns/{campaign}/users", content=bytes(body))
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if answer.status == 201:
            assert answer["email"] == json.loads(body.decode())["email"], body
        else:
            assert answer.status in (400, 409, 422) and answer.problem, (body, answer)
    assert min(statuses.get(status, 0) for status in (201, 400, 422)) > 30, statuses
    assert env.value("select count(*) from users") == statuses[201]


# --- what members may be ---

VALID_ADDRESSES = [
    "a@b.co", "a@localhost", "first.last+tag@sub.example.com", "o'brien@example.ie", "!#$%&'*+-/=?^_`{|}~@example.com",
    "-@example.com", "1@2.example", "UPPER@EXAMPLE.COM", "a@b-c.example", "a@xn--bcher-kva.example", "élodie@exämple.org",
    "用户@例子.广告", "हिन्दी@उदाहरण.भारत", "l" * 64 + "@example.com", "é" * 32 + "@example.com", "a@" + "d" * 63 + ".example",
    "l" * 64 + "@" + ".".join(["d" * 61] * 3) + ".co1",  # 254 bytes
]
INVALID_ADDRESSES = [
    "", " ", "a", "@", "a@", "@b.co", "a@b", "a@@b.co", "a@b@c.co", ".a@b.co", "a.@b.co", "a..b@c.co", "a@.b.co", "a@b..co",
    "a@b.co.", "a@.", "a@-b.co", "a@b-.co", "a b@c.co", "a@b c.co", " a@b.co", "a@b.co ", "a\t@b.co", "a@b.co\n",
    "a@b.co\r\nBcc: x@y.co", '"a"@b.co', '"a b"@c.co', "a(c)@b.co", "<a@b.co>", "A <a@b.co>", "a@b.co,c@d.co", "a@b.co;c@d.co",
    "a@[127.0.0.1]", "a@b_c.co", "a\\@b.co", "mailto:a@b.co", "a@b.co/x", "a@b.co?x", "a@b.co%", "a@b:25.co", "l" * 65 + "@b.co",
    "é" * 33 + "@b.co", "a@" + "d" * 64 + ".co", "l" * 64 + "@" + ".".join(["d" * 61] * 3) + ".co12",
    "é" * 32 + "@" + ".".join(["é" * 31] * 3) + ".éé", "a@b。co", "a＠b.co", "a\u202e@b.co", "a\u200b@b.co", "a\u00a0b@c.co",
    "a@b.co\u2028", "a@b\u00ad.co", "😀@b.co", "a@😀.co", "a@b.co\ufeff",
]


def test_addresses(env, api, campaign):
    for email in VALID_ADDRESSES:
        assert api.signup(campaign, email)["email"] == email
    for email in INVALID_ADDRESSES:
        problem(api.signup(campaign, email, expect=None), 422, "invalid", "email")
    for email in VALID_ADDRESSES:  # other spellings of the same; decomposed, one is too long
        problem(api.signup(campaign, email.swapcase(), expect=None), 409, "email-taken", "email")
        decomposed = api.signup(campaign, unicodedata.normalize("NFD", email), expect=None)
        problem(decomposed, 422 if "é" * 32 in email else 409, field="email")
    assert env.value("select count(*) from users") == len(VALID_ADDRESSES)


def test_metadata(api, campaign):
    """What is taken comes back as it was, up to the bounds of size and depth."""
    numbers = [0, -1, 1.5, 1e-7, 1e300, 2**63 - 1, -(2**63), True, False, None]
    for metadata in ({}, {"": ""}, {"a": "x" * 4088}, {str(i): i for i in range(350)}, {"n": numbers},
                     {"ключ": "\x01\x1f\x7f\u2028\ufffe😀\"\\/"}, {"a" * 4000: {}}):
        user = api.signup(campaign, fresh(), metadata=metadata)["user_id"]
        assert api.get_user(campaign, user, key="secret")["metadata"] == metadata
    for depth in (14, 15, 16, 17):
        nested = json.loads('{"a":' * depth + "1" + "}" * depth)
        assert api.signup(campaign, fresh(), metadata=nested, expect=None).status == (201 if depth < 16 else 400)


# --- bodies as such ---


def test_sizes_of_bodies(service, api, users):
    padded = GOOD + b" " * (65536 - len(GOOD))
    with Raw(service) as raw:  # the largest that is good
        assert raw.ask("POST", users, (key(api), JSON), padded).status == 201
    for size in (65537, 200000, 10**15):
        with Raw(service) as raw:
            raw.send(request("POST", users, (key(api), JSON, f"Content-Length: {size}")) + b" " * min(size, 300000))
            assert "65536" in problem(raw.answer(), 413, "too-large")["detail"]
            # What is still sent is read for a moment: a reset could reach the client before the answer.
            assert raw.send(b" " * 50000) and not time.sleep(0.05) and raw.send(b" " * 50000)
            assert raw.answer() is None, "the connection is closed"
    with Raw(service) as raw:
        raw.send(request("POST", users, (key(api), JSON, "Transfer-Encoding: chunked")))
        raw.send((b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 30)
        problem(raw.answer(), 413, "too-large")
        assert raw.answer() is None
    with Raw(service) as raw:
        raw.send(request("POST", users, (key(api), JSON, "Content-Length: 65537", "Expect: 100-continue")))
        problem(raw.answer(), 413, "too-large")
    with Raw(service) as raw:
        assert "Expect" in problem(raw.ask("POST", users, (key(api), JSON, "Expect: luck"), GOOD), 400, "malformed")["detail"]


def test_types_of_bodies(service, api, users):
    body = json.dumps({"email": fresh()})
    with Raw(service) as raw:
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
                     "json", "application/problem+json", "application/json; charset=latin1", "application/json x",
                     "application/json,text/plain", "*/*"):
            problem(raw.ask("POST", users, (key(api), f"Content-Type: {kind}"), body), 415, "media-type")
        problem(raw.ask("POST", users, (key(api),), body), 415, "media-type")
        problem(raw.ask("POST", users, (key(api), JSON)), 400, "malformed")  # no body at all
        assert raw.ask("POST", users, (key(api), 'content-type:APPLICATION/JSON ; a=b; charset="UTF-8"'), body).status == 201
        form = "Content-Type: application/x-www-form-urlencoded"
        for kind, body, status in ((form, "", 422), (form, "token", 422), (form, "token=%zz", 422), (form, "token=%00", 422),
                                   (form, b"token=\xff", 422), (form, "a=b&token=x", 422), (JSON, '{"token":"x"}', 415)):
            answer = raw.ask("POST", "/v1/verify", (kind,), body)
            assert answer.status == status and answer.headers["content-type"].startswith("text/html"), (body, answer)


# --- paths, methods, headers ---


def test_paths(service, api, campaign):
    user, secret = api.signup(campaign, fresh())["user_id"], key(api)
    with Raw(service) as raw:
        for bad in ("x", campaign[:-1], campaign + "0", campaign[:-1] + "g", f"{{{campaign}}}", "%", "%0", "%zz", "%00",
                    campaign[:-1] + "%3", campaign[:35] + "%00", "%ff" * 36, "%2e%2e", "..", "a" * 9000, b"\xff\xfe".decode("latin1"),
                    "é", "'", "%25" + campaign, campaign + "%20", "*", "-" * 36):
            for method, path in (("GET", ""), ("POST", "/users"), ("GET", f"/users/{user}"), ("POST", f"/users/{user}/verify")):
                problem(raw.ask(method, f"/v1/campaigns/{bad}{path}", (secret,)), 404, "no-campaign", "campaign_id")
            for method, path in (("GET", ""), ("POST", "/verify")):
                problem(raw.ask(method, f"/v1/campaigns/{campaign}/users/{bad}{path}", (secret,)), 404, "no-user", "user_id")
            problem(raw.ask("GET", f"/v1/campaigns/{bad}"), 401, "unauthorized")  # a stranger learns nothing
        for good in ("".join(f"%{ord(c):02x}" for c in campaign), campaign.upper(), campaign.replace("-", "%2D")):
            assert raw.ask("GET", f"/v1/campaigns/{good}?x=%zz&&=", (secret,)).status == 200
        for path in ("/", "/v1", "/v1/", "/v2/campaigns", "/v1/campaigns/", f"/v1/campaigns/{campaign}/", "//v1/campaigns",
                     f"/v1/campaigns/{campaign}/users/", "/v1//campaigns", "/v1/./campaigns", "/x/../v1/campaigns", "/V1/campaigns",
                     "/%76%31/campaigns", "/healthz/", "/healthz%00", "/healthz;x", "/healthz#x", "/metrics/x", "/" * 5000,
                     "/a" * 5000, "/" + "x" * 30000, "*", "healthz", "%", b"\xff", "http://", "http://x", "http://x/y",
                     "https:healthz", "/v1/campaigns/%2e%2e/campaigns", "/.git/config", "/..%2f..%2fetc/passwd"):
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                problem(raw.ask(method, path, (secret,)), 404, "no-route")
        for path in ("/healthz?", "/healthz?" + "x=%&" * 5000, "http://other.example/healthz", "HTTPS://x/healthz"):
            assert raw.ask("GET", path).status == 200, path
        for query in ("", "?token", "?token=", "?token=x", "?token=%", "?token=%zz", "?token=%00", "?token=" + "A" * 9000):
            answer = raw.ask("GET", "/v1/verify" + query)
            assert answer.status == 422 and answer.headers["content-type"].startswith("text/html"), answer


def test_methods(service, api, campaign):
    user, secret = api.signup(campaign, fresh())["user_id"], key(api)
    one, users = f"/v1/campaigns/{campaign}", f"/v1/campaigns/{campaign}/users"
    allowed = {"/v1/campaigns": "POST, GET, HEAD", one: "GET, HEAD, PATCH, DELETE", users: "POST, GET, HEAD",
               f"{users}/{user}": "GET, HEAD", f"{users}/{user}/verify": "POST", f"{one}/close": "POST", "/v1/verify": "GET, HEAD, POST", "/healthz": "GET, HEAD", "/metrics": "GET, HEAD"}
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "FOO", "M" * 2000, "PRI")
    with Raw(service) as raw:
        for path, allow in allowed.items():
            for method in set(methods) - set(allow.split(", ")):
                answer = raw.ask(method, path, (secret,))
                assert answer.status == 405 and answer.headers["allow"] == f"{allow}, OPTIONS", (method, path, answer)
                assert method == "HEAD" or path == "/v1/verify" or problem(answer, 405, "method-not-allowed")
        for path, status in ((one, 200), (f"{users}/{user}", 200), ("/healthz", 200), ("/v1/verify", 422), ("/x", 404)):
            head, get = raw.ask("HEAD", path, (secret,)), raw.ask("GET", path, (secret,))
            assert (head.status, get.status) == (status, status), path
            for name in ("content-type", "content-length"):
                assert head.headers[name] == get.headers[name], (path, name)


def test_headers(service, api, campaign):
    path, good = f"/v1/campaigns/{campaign}", api.keys["secret"]
    with Raw(service) as raw:
        for value in ("", " ", "Bearer", "Bearer ", "Basic dTpw", good, f"Bearer {good}x", f"Bearer {good[:-1]}", f"Bearer {good},",
                      f"Bearer {good} {good}", f"Bearer é{good}", "Bearer " + "x" * 30000, "Bearer tk_sec_" + "A" * 90,
                      "Bearer tk_sec_'; --"):
            answer = problem(raw.ask("GET", path, (f"Authorization: {value}",)), 401, "unauthorized")
            assert answer.headers["www-authenticate"]
        for value in ("", " ", "x" * 129, "a b", "é", "x" * 20000):
            answer = raw.ask("GET", path, (key(api), f"X-Request-Id: {value}"))
            assert answer.status == 200 and uuid.UUID(answer.headers["x-request-id"])
        odd = (b"Accept: \xff", "Cookie: " + "a=b;" * 5000, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings, keep-alive",
               "HTTP2-Settings: AAMAAABk", "Range: bytes=0-1", "If-None-Match: *", "Accept-Encoding: gzip, br",
               "X-HTTP-Method-Override: DELETE", *[f"X-{i}: {i}" for i in range(80)])
        assert raw.ask("GET", path, (key(api), *odd)).status == 200
