"""Hostile input on the real service: each gets a clear 4xx or a close. Around every test somebody else keeps asking (the
loop is never stuck), and after it a good request works, nothing was answered with 5xx, and no input that was let through
has failed in the database."""

import itertools
import json
import random
import resource
import select
import threading
import time
import unicodedata
import uuid

import pytest

from lib.raw import Raw, request
from lib.util import SLOWNESS, wait_until

JSON = "Content-Type: application/json"
pytestmark = pytest.mark.settings(MAIL_TRANSPORT="discard")
numbers = itertools.count(1)


def fresh():
    return f"user{next(numbers)}@example.com"


class Watch:
    """Somebody who asks all the time, on a connection that was there before."""

    def __init__(self, service):
        self.worst, self.may_overload, self._stop = 0.0, False, threading.Event()
        self._raw = Raw(service, timeout=20)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.01):
            begin = time.monotonic()
            answer = self._raw.ask("GET", "/healthz")
            self.worst = max(self.worst, time.monotonic() - begin if answer and answer.status == 200 else 1e9)

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._raw.close()


@pytest.fixture(autouse=True)
def watch(service, api):
    watch = Watch(service)
    yield watch
    watch.stop()
    assert watch.worst < 1 * SLOWNESS, f"somebody else waited {watch.worst} s for /healthz (1e9: for nothing)"
    api.signup(api.create_campaign()["campaign_id"], fresh())
    failed = [s for s in service.metrics() if s.startswith("tidings_http_requests_total") and 'status="5' in s
              and 'route="readyz"' not in s and not (watch.may_overload and 'status="503"' in s)]
    assert not failed, failed
    assert service.metric("tidings_lane_errors_total") == 0, "an input passed all checks and failed in the database"


@pytest.fixture
def campaign(api, watch):
    return api.create_campaign()["campaign_id"]


@pytest.fixture
def users(env, api, campaign):
    """/v1/campaigns/…/users of a campaign that raw requests act on, and the headers they need."""
    env.ledger.not_accounted(campaign)
    return f"/v1/campaigns/{campaign}/users"


def key(api, kind="secret"):
    return f"Authorization: Bearer {api.keys[kind]}"


def sign_up(api, users, email, *headers, method="POST"):
    return request(method, users, (key(api), JSON, *headers), json.dumps({"email": email}).encode())


def problem(answer, status, slug=None, field=None):
    """The answer is this problem, fit for people and machines."""
    assert answer is not None and answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert answer["status"] == status and answer["title"] and answer["request_id"] == answer.headers["x-request-id"], answer
    assert slug is None or answer.problem == slug, answer
    assert answer.get("field") == field, answer
    return answer


class Operations:
    """What takes a body: how to call it, and a body that is good."""

    def __init__(self, env, api):
        self.api, self.env = api, env
        self.campaign = api.create_campaign()["campaign_id"]
        self.user = api.signup(self.campaign, fresh())["user_id"]
        users = f"/v1/campaigns/{self.campaign}/users"
        self.paths = {"create": "/v1/campaigns", "sign_up": users, "verify": f"{users}/{self.user}/verify"}

    def good(self, operation):
        return {"create": lambda: {"name": "Launch"}, "sign_up": lambda: {"email": fresh()},
                "verify": lambda: {"token": self.env.make_token(self.campaign, self.user)}}[operation]()

    def send(self, operation, body, **options):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.api.request("POST", self.paths[operation], content=content, **options)


@pytest.fixture
def operations(env, api, watch):
    return Operations(env, api)


# --- bodies ---

GOOD = b'{"email":"eve@example.com"}'
BAD_VALUES = [  # of a member: none is JSON
    "", "nul", "TRUE", "undefined", "NaN", "-Infinity", "'x'", "01", "+1", ".5", "1.", "1e", "-", "0x10", "1_0", "1e999",
    "9" * 30, '"', '"x', '"\\"', '"\\x41"', '"\\u12"', '"\\u00zz"', '"\\ud800"', '"\\udc00x"', '"\\ud800\\u0041"',
    '"a\\u0000b"', '"a\nb"', '"a\tb"', '"a\x01b"', '"a\x00b"', "[1,]", "[1 2]", "{,}", '{"a":1,"a":2}', '{"a" 1}', "1,", "1 1",
    b'"\xff"', b'"\x80"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xf8\x88\x80\x80\x80"',
    "[" * 17 + "]" * 17, '{"a":' * 17 + "1" + "}" * 17, "[" * 60000, '{"a":' * 12000, '"\\"[[[' * 9, "]" * 60000,
]
BAD_BODIES = [
    b"", b" ", b"{", b"}", b"[}", b"{]", b"{}{}", b"\0", b"{\0}", b"\xef\xbb\xbf" + GOOD, GOOD + b"\0", b"\0" + GOOD, GOOD * 2,
    GOOD + b"x", b"//c\n" + GOOD, GOOD.decode().encode("utf-16"), GOOD.decode().encode("utf-32-le"), b"email=eve@example.com",
    b"<email/>", b'{"email":"eve@example.com",}', b'{email:"eve@example.com"}', b'{"email"}', b'{"em\0ail":1}', b'{"\\u0000":1}',
    b'{"email":"a@example.com","email":"b@example.com"}', b'{"email":"a@example.com","\\u0065mail":"b@example.com"}',
    *[GOOD[:n] for n in range(len(GOOD))],
    *[b'{"email":' + (v if isinstance(v, bytes) else v.encode()) + b"}" for v in BAD_VALUES],
]


def test_not_json(env, operations):
    for operation, body in itertools.product(("create", "sign_up", "verify"), BAD_BODIES):
        answer = problem(operations.send(operation, body), 400, "malformed")
        assert answer["detail"], (operation, body[:100])
    for operation, body in itertools.product(("create", "sign_up", "verify"), (b"[]", b"[" + GOOD + b"]", b"1", b'"x"', b"null")):
        assert operations.send(operation, body).status in (400, 422), (operation, body)
    assert env.value("select count(*) from users") == 1 and env.value("select count(*) from campaigns") == 1


CONTROLS = ["a\nb", "a\rb", "a\tb", "\x01", "a\x1f", "\x7f", "a\x85b", "\x9f"]
KINDS = {"string": "x", "integer": 7, "real": 7.5, "exponent": 1e3, "boolean": True, "null": None, "array": [], "object": {}}
FIELDS = [  # operation, member, its kind, whether it may be null, values of that kind that are not good
    ("create", "name", "string", False, ["", " ", "     ", "x" * 201, "é" * 201, *CONTROLS]),
    ("create", "points_per_referral", "integer", True, [-1, 1000001, 2**31, 2**63 - 1, -(2**63)]),
    ("create", "milestones", "array", True, [[0], [-1], [2, 2], [3, 2], [1, "2"], [None], [[1]], [1.5], [1.0], [True], [10**9 + 1],
                                             [2**62], list(range(1, 52)), [{}] * 1000]),
    ("create", "landing_url", "string", True, [
        "", "x", "x.example", "//x.example", "ftp://x.example", "javascript:alert(1)", "data:text/html,x", "http:", "http://",
        "http:///x", "http://:80", "http://a b", "http://u:p@x.example", "http://x.example/<", 'http://x.example/"', "http://é.example",
        "http://x.example/" + "a" * 1024, "http://x.example/\u202e", *CONTROLS]),
    ("sign_up", "email", "string", False, CONTROLS + ["x" * 255, "x" * 60000]),
    ("sign_up", "referral_code", "string", True, ["", "x", "x" * 64, "x" * 65, "é" * 60, "'; drop table users; --", *CONTROLS]),
    ("sign_up", "metadata", "object", True, [{"a": "x" * 4089}, {"x" * 4092: 1}, {str(i): i for i in range(1000)}]),
    ("verify", "token", "string", False, ["", "x", "x" * 256, "x" * 257, "é" * 75, *CONTROLS]),
]


@pytest.mark.parametrize("operation", ["create", "sign_up", "verify"])
def test_wrong_members(env, operations, operation):
    mine = [f[1:] for f in FIELDS if f[0] == operation]
    for member, kind, nullable, bad in mine:
        others = [v for k, v in KINDS.items() if k != kind and not (k == "null" and nullable)]
        for value in others + bad:
            answer = operations.send(operation, {**operations.good(operation), member: value})
            problem(answer, 422, field=member)
            assert answer.problem in ("invalid", "unknown-referral-code", "bad-token"), (member, value, answer)
        if not nullable:
            problem(operations.send(operation, {}), 422, "invalid", member)
    for name in ("x", mine[0][0].upper(), mine[0][0] + " ", "é" * 10, "__proto__", "a\x01\u2028", "id", "user_id", "campaign_id"):
        problem(operations.send(operation, {**operations.good(operation), name: 1}), 422, "invalid", name)
    problem(operations.send(operation, {**operations.good(operation), "": 1}), 422, "invalid")
    cut = operations.send(operation, {**operations.good(operation), "é" * 20000: 1})
    assert "é" * 30 in problem(cut, 422, field="é" * 32)["detail"] and len(cut.text) < 1000
    many = {**operations.good(operation), **{f"m{i}": i for i in range(4000)}}
    assert problem(operations.send(operation, many), 422, field="m0")
    # Nothing was done, and null stands for a member that is not there.
    assert env.value("select count(*) from users") == 1 and env.value("select count(*) from campaigns") == 1
    good = {**operations.good(operation), **{m: None for m, _, nullable, _ in mine if nullable}}
    assert operations.send(operation, good).status in (200, 201)


VALID_ADDRESSES = [
    "a@b.co", "a@localhost", "first.last+tag@sub.example.com", "o'brien@example.ie", "!#$%&'*+-/=?^_`{|}~@example.com", "-@example.com",
    "1@2.example", "UPPER@EXAMPLE.COM", "a@b-c.example", "a@xn--bcher-kva.example", "élodie@exämple.org", "用户@例子.广告",
    "हिन्दी@उदाहरण.भारत", "l" * 64 + "@example.com", "é" * 32 + "@example.com", "a@" + "d" * 63 + ".example",
    "l" * 64 + "@" + ".".join(["d" * 61] * 3) + ".co1",
]
INVALID_ADDRESSES = [
    "", " ", "a", "@", "a@", "@b.co", "a@b", "a@@b.co", "a@b@c.co", ".a@b.co", "a.@b.co", "a..b@c.co", "a@.b.co", "a@b..co", "a@b.co.",
    "a@.", "a@-b.co", "a@b-.co", "a b@c.co", "a@b c.co", " a@b.co", "a@b.co ", "a\t@b.co", "a@b.co\n", "a@b.co\r\nBcc: x@y.co", '"a"@b.co',
    '"a b"@c.co', "a(c)@b.co", "<a@b.co>", "A <a@b.co>", "a@b.co,c@d.co", "a@b.co;c@d.co", "a@[127.0.0.1]", "a@b_c.co", "a\\@b.co",
    "mailto:a@b.co", "a@b.co/x", "a@b.co?x", "a@b.co%", "a@b:25.co", "l" * 65 + "@b.co", "é" * 33 + "@b.co", "a@" + "d" * 64 + ".co",
    "l" * 64 + "@" + ".".join(["d" * 61] * 3) + ".co12", "é" * 32 + "@" + ".".join(["é" * 31] * 3) + ".éé", "a@b。co", "a＠b.co", "a\u202e@b.co",
    "a\u200b@b.co", "a\u00a0b@c.co", "a@b.co\u2028", "a@b\u00ad.co", "😀@b.co", "a@😀.co", "a@b.co\ufeff",
]


def test_addresses(env, api, campaign):
    for email in VALID_ADDRESSES:
        assert api.signup(campaign, email)["email"] == email
    for email in INVALID_ADDRESSES:
        problem(api.signup(campaign, email, expect=None), 422, "invalid", "email")
    for email in VALID_ADDRESSES:  # another spelling of the same
        problem(api.signup(campaign, unicodedata.normalize("NFD", email).swapcase(), expect=None), 409, "email-taken", "email")
    assert env.value("select count(*) from users") == len(VALID_ADDRESSES)


def test_metadata_at_its_bounds(api, campaign):
    for metadata in ({}, {"a": "x" * 4088}, {"": ""}, {"a": {"b": {"c": [[[[[[[[[[1]]]]]]]]]]}}}, {str(i): i for i in range(350)},
                     {"ключ": "\x01\x1f\x7f\u2028\ufffe😀\"\\/", "n": [0, -1, 1.5, 1e-7, 1e300, 2**63 - 1, -(2**63), True, False, None]}):
        user = api.signup(campaign, fresh(), metadata=metadata)["user_id"]
        assert api.get_user(campaign, user, key="secret")["metadata"] == metadata
    for deep in (14, 15, 16, 17):
        nested = json.loads('{"a":' * deep + "1" + "}" * deep)
        assert api.signup(campaign, fresh(), metadata=nested, expect=None).status == (201 if deep < 16 else 400)


def test_mutated_sign_ups(env, api, campaign):
    """Small changes to good bodies: 201 only for what a strict reader takes as well, else 4xx."""
    rng = random.Random(20)
    bits = [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"\0", b"\xff", b"\xc3\xa9", b"\\u0000", b"\\ud83d", b" ", b"-1e5", b"@"]
    statuses = {}
    for i in range(1200):
        body = bytearray(json.dumps({"email": fresh(), "referral_code": None, "metadata": {"a": [1, "é"], "b": {"c": 1.5}}}).encode())
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(body))
            to = at + rng.choice((0, 0, 1, 1, 2, 20))
            body[at:to] = rng.choice((bytes([rng.randrange(256)]), rng.choice(bits), b"", bytes(body[at:to]) * 2))
        answer = api.request("POST", f"/v1/campaigns/{campaign}/users", content=bytes(body))
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if answer.status == 201:
            assert answer["email"] == json.loads(body.decode())["email"], body
        else:
            assert answer.status in (400, 409, 422) and answer["detail"] or answer["title"], (body, answer)
    assert statuses.get(201, 0) > 50 and statuses.get(400, 0) > 50 and statuses.get(422, 0) > 50, statuses
    assert env.value("select count(*) from users") == statuses[201]


def test_too_large_and_wrong_types_of_bodies(service, api, users):
    padded = GOOD + b" " * (65536 - len(GOOD))
    with Raw(service) as raw:  # the largest is good
        assert raw.ask("POST", users, (key(api), JSON), padded).status == 201
    for size in (65537, 200000, 10**15):
        with Raw(service) as raw:
            raw.send(request("POST", users, (key(api), JSON, f"Content-Length: {size}")) + b" " * min(size, 300000))
            assert "65536" in problem(raw.answer(), 413, "too-large")["detail"]
            assert raw.answer() is None, "the connection is closed"
    with Raw(service) as raw:
        raw.send(request("POST", users, (key(api), JSON, "Transfer-Encoding: chunked")) + b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        raw.send((b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 16)
        problem(raw.answer(), 413, "too-large")
        assert raw.answer() is None
    body = json.dumps({"email": fresh()}).encode()
    with Raw(service) as raw:
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "json",
                     "application/problem+json", "application/json; charset=latin1", "application/json x", "application/json,text/plain", "*/*"):
            problem(raw.ask("POST", users, (key(api), f"Content-Type: {kind}"), body), 415, "media-type")
        problem(raw.ask("POST", users, (key(api),), body), 415, "media-type")
        problem(raw.ask("POST", users, (key(api), JSON)), 400, "malformed")  # no body at all
        assert raw.ask("POST", users, (key(api), 'content-type:APPLICATION/JSON ; a=b; charset="UTF-8"'), body).status == 201


# --- paths, methods, keys ---


def test_paths(service, api, campaign):
    user, secret = api.signup(campaign, fresh())["user_id"], key(api)
    not_ids = ["x", campaign[:-1], campaign + "0", campaign[:-1] + "g", f"{{{campaign}}}", "%", "%0", "%zz", "%00", campaign[:-1] + "%3",
               campaign[:35] + "%00", "%ff" * 36, "%2e%2e", "..", "a" * 9000, "\xff\xfe", "é", "'", "%25" + campaign, campaign + "%20", "*", "-" * 36]
    with Raw(service) as raw:
        for bad in not_ids:
            for method, path in (("GET", ""), ("POST", "/users"), ("GET", f"/users/{user}"), ("POST", f"/users/{user}/verify")):
                problem(raw.ask(method, f"/v1/campaigns/{bad}{path}", (secret,)), 404, "no-campaign", "campaign_id")
            for method, path in (("GET", ""), ("POST", "/verify")):
                problem(raw.ask(method, f"/v1/campaigns/{campaign}/users/{bad}{path}", (secret,)), 404, "no-user", "user_id")
            problem(raw.ask("GET", f"/v1/campaigns/{bad}"), 401, "unauthorized")  # a stranger learns nothing
        for good in ("".join(f"%{ord(c):02x}" for c in campaign), campaign.upper(), campaign.replace("-", "%2D")):
            assert raw.ask("GET", f"/v1/campaigns/{good}?x=%zz&&=", (secret,)).status == 200
        for path in ("/", "/v1", "/v1/", "/v2/campaigns", "/v1/campaigns/", f"/v1/campaigns/{campaign}/", f"/v1/campaigns/{campaign}/users/",
                     "//v1/campaigns", "/v1//campaigns", "/v1/./campaigns", "/x/../v1/campaigns", "/V1/campaigns", "/%76%31/campaigns", "/healthz/",
                     "/healthz%00", "/healthz;x", "/healthz#x", "/metrics/x", "/" * 5000, "/a" * 5000, "/" + "x" * 30000, "*", "healthz", "%", "\xff",
                     "http://", "http://x", "http://x/y", "https:healthz", "/v1/campaigns/%2e%2e/campaigns", "/.git/config", "/..%2f..%2fetc/passwd"):
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                problem(raw.ask(method, path, (secret,)), 404, "no-route")
        for path in ("/healthz?", "/healthz?" + "x=%&" * 5000, "http://other.example/healthz", "HTTP://x?y/z"[:8] + "/healthz"):
            assert raw.ask("GET", path).status == 200, path
        for query in ("", "?token", "?token=", "?token=x", "?token=%", "?token=%zz", "?token=%00", "?token=" + "A" * 9000, "?token=a&token=b"):
            answer = raw.ask("GET", "/v1/verify" + query)
            assert answer.status == 422 and answer.headers["content-type"].startswith("text/html") and "<h1>" in answer.text, answer


def test_methods(service, api, campaign):
    user, secret = api.signup(campaign, fresh())["user_id"], key(api)
    one, users = f"/v1/campaigns/{campaign}", f"/v1/campaigns/{campaign}/users"
    allowed = {"/v1/campaigns": "POST", one: "GET, HEAD", users: "POST", f"{users}/{user}": "GET, HEAD", f"{users}/{user}/verify": "POST",
               "/v1/verify": "GET, HEAD, POST", "/healthz": "GET, HEAD", "/metrics": "GET, HEAD"}
    with Raw(service) as raw:
        for path, allow in allowed.items():
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "FOO", "M" * 2000, "PRI"):
                if method in allow.split(", "):
                    continue
                answer = raw.ask(method, path, (secret,))
                assert answer.status == 405 and answer.headers["allow"] == f"{allow}, OPTIONS", (method, path, answer)
                assert method == "HEAD" or problem(answer, 405, "method-not-allowed")
        for path, status in ((one, 200), (f"{users}/{user}", 200), ("/healthz", 200), ("/v1/verify", 422), ("/x", 404), (one[:-1], 404)):
            head, get = raw.ask("HEAD", path, (secret,)), raw.ask("GET", path, (secret,))
            assert (head.status, get.status) == (status, status), path
            for name in ("content-type", "content-length"):
                assert head.headers[name] == get.headers[name], (path, name)


def test_keys_and_other_headers(service, api, campaign):
    path, good = f"/v1/campaigns/{campaign}", api.keys["secret"]
    with Raw(service) as raw:
        for value in ("", " ", "Bearer", "Bearer ", "Basic dTpw", good, f"Bearer {good}x", f"Bearer {good[:-1]}", f"Bearer {good} {good}",
                      f"Bearer {good},", f"Bearer \xff{good}", "Bearer " + "x" * 30000, "Bearer tk_sec_" + "A" * 90, "Bearer tk_sec_'; --"):
            answer = problem(raw.ask("GET", path, (f"Authorization: {value}",)), 401, "unauthorized")
            assert answer.headers["www-authenticate"]
        for value in ("", " ", "x" * 129, "a b", "\xff", "é", "x" * 20000):
            answer = raw.ask("GET", path, (key(api), f"X-Request-Id: {value}"))
            assert answer.status == 200 and uuid.UUID(answer.headers["x-request-id"])
        odd = ("Accept: \xff", "Cookie: " + "a=b;" * 5000, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk",
               "Range: bytes=0-1", "If-None-Match: *", "Accept-Encoding: gzip, br", "X-HTTP-Method-Override: DELETE", *[f"X-{i}: {i}" for i in range(80)])
        assert raw.ask("GET", path, (key(api), *odd)).status == 200


# --- framing ---

CHUNKED = "Transfer-Encoding: chunked"


def hostile_requests(api, users):
    """Requests that are broken as HTTP, or can be read in two ways: what the second reading would do is in `tail`."""
    tail = sign_up(api, users, "smuggled@example.com")
    ok = (key(api), JSON)
    body = b'{"email":"first@example.com"}'
    length = f"Content-Length: {len(body)}"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for headers in ((length, "Content-Length: 0"), (length, length), ("Content-Length: 0", CHUNKED), (CHUNKED, length), (CHUNKED, CHUNKED),
                    ("Transfer-Encoding: gzip, chunked",), ("Transfer-Encoding: chunked, identity",), ("Transfer-Encoding: xchunked",),
                    ("Transfer-Encoding:",), ("Transfer-Encoding: identity", length), (CHUNKED, "Transfer-Encoding: identity"),
                    (length, "Host: other"), (length, "X-Folded: a\r\n b"), (length, "Transfer-Encoding : chunked"), (length, "No-Colon"),
                    (length, ": no name"), (length, "X-Nul: a\0b"), (length, "X-\0: a"), (length, "X-Cr: a\rb"), (length, "X Y: z"),
                    (length, "Expect: nonsense"), (length, *[f"X-{i}: y" for i in range(100)]), (length, "X-Long: " + "x" * 500000)):
        yield request("POST", users, ok + headers) + (chunks if CHUNKED in headers else body) + tail
    for bad in ("-1", "+29", "29a", "", "0x1d", "29, 29", "29 29", str(2**64), str(2**63), "9" * 400, "1.5", "٢٩"):
        yield request("POST", users, ok + (f"Content-Length: {bad}",)) + body + tail
    for bad in (b"g\r\n", b"-1\r\n", b"\r\n", b"1" * 17 + b"\r\n", b"f" * 16 + b"\r\n", b"7" + b"f" * 15 + b"\r\n", b"ffffffff\r\n", b"20000\r\n",
                b"1\r\nab\r\n0\r\n\r\n", b"1\r\na0\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 9000, b"1;" + b"x" * 90000, b"3\r\n\0\0\0\r\n0\r\n\r\n"):
        yield request("POST", users, ok + (CHUNKED,)) + bad + tail
    yield request("POST", users, ok, body, host=None) + tail
    yield request("POST", users, ok, body, host="Host: a\r\nHost: b") + tail
    yield request("POST", users, ok + (CHUNKED,)).replace(b"HTTP/1.1", b"HTTP/1.0") + chunks + tail
    for line in (b"GET /healthz HTTP/2.0", b"GET /healthz HTTP/9", b"GET /healthz http/1.1", b"GET /healthz HTTP/1.1x", b"GET /healthz", b"GET",
                 b"GET  /healthz HTTP/1.1", b"GET /health z HTTP/1.1", b"GET\t/healthz\tHTTP/1.1", b" GET /healthz HTTP/1.1", b"GET /h\0 HTTP/1.1",
                 b"G\0T / HTTP/1.1", b"PRI * HTTP/2.0", b"\r\n\r\n\r\nGET /healthz HTTP/1.1", b"", b"SSH-2.0-x", b"EHLO x", b"\x16\x03\x01\x02\x00\x01\xfc"):
        yield line + b"\r\nHost: t\r\n\r\n" + tail


def test_framing(env, service, api, users):
    for data in hostile_requests(api, users):
        with Raw(service) as raw:
            raw.send(data, last=True)
            answers = raw.answers()
            assert len(answers) <= 1, (data[:300], answers)
            assert all(a.status in (400, 413) for a in answers), (data[:300], answers)
            if answers and answers[0].body:
                problem(answers[0], answers[0].status)
    assert env.query("select email from users") == []


def test_pipelined(service, api, users):
    """Good and bad requests in one write are answered in order; after one that cannot be told from the next, no more."""
    ask = [(201, sign_up(api, users, "ada@example.com")), (409, sign_up(api, users, "ADA@example.com")), (422, sign_up(api, users, "nobody")),
           (404, request("GET", "/x")), (405, request("PUT", "/healthz")), (400, request("POST", users, (key(api), JSON), b"{")), (401, request("POST", users)),
           (200, request("GET", "/healthz")), (201, sign_up(api, users, "bob@example.com"))]
    statuses = [200] * 20 + [status for status, _ in ask]
    data = request("GET", "/healthz") * 20 + b"".join(data for _, data in ask)
    with Raw(service) as raw:
        raw.send(data + request("GET", "/healthz", ("Connection: close",)) + sign_up(api, users, "late@example.com"))
        assert [a.status for a in raw.answers()] == statuses + [200]
    with Raw(service) as raw:
        for byte in data[-2000:]:  # in the smallest pieces
            raw.send(bytes([byte]))
    with Raw(service) as raw:
        raw.send(request("GET", "/healthz") * 2 + request("GET", "/healthz", host=None) + request("GET", "/healthz"))
        assert [a.status for a in raw.answers()] == [200, 200, 400]


def test_random_garbage(env, service, api, users):
    """Bytes without sense, and good requests with a few bytes changed."""
    rng = random.Random(21)
    for i in range(2000):
        data = bytearray(sign_up(api, users, fresh(), "X-Request-Id: a") if i % 2 else rng.randbytes(rng.choice((1, 5, 50, 500, 5000))))
        for _ in range(rng.choice((1, 2, 8)) if i % 2 else 0):
            at = rng.randrange(len(data))
            data[at:at + rng.choice((0, 1, 1, 4))] = rng.choice((bytes([rng.randrange(256)]), b"\r\n", b"\n", b"\0", b":", b" ", b"", b"0"))
        with Raw(service) as raw:
            raw.send(bytes(data), last=True)
            for answer in raw.answers():
                assert answer.status in (200, 201) or 400 <= answer.status < 500, (bytes(data), answer)
                assert i % 2 or answer.status == 400, (bytes(data), answer)
    assert env.value("select count(*) from users") > 10


# --- connections ---


@pytest.mark.settings(HTTP_REQUEST_TIMEOUT_MS=1000)
def test_slow_and_endless_requests(service, api, users, watch):
    """Headers and bodies that come slowly or never end: closed when their time is up, whatever goes on arriving."""
    post = request("POST", users, (key(api), JSON, "Content-Length: 60000"))
    chunked = request("POST", users, (key(api), JSON, CHUNKED))
    kinds = {  # what is sent at first, and again and again
        "nothing": (b"", b""), "a request line": (b"GET /", b"x"), "headers": (post[:-2], b"X: y\r\n"), "one header": (post[:-2] + b"X: ", b"y" * 100),
        "no more headers": (post[:-2], b""), "a body": (post, b" "), "no more body": (post + b"{", b""), "chunks": (chunked, b"1\r\n \r\n"),
        "one chunk": (chunked + b"9000\r\n", b" "), "a chunk's extension": (chunked + b"1;", b"x" * 1000), "trailers": (chunked + b"0\r\n", b"X: y\r\n"),
        "no more chunks": (chunked + b"1\r\n \r\n", b""), "blank lines": (b"", b"\r\n"), "after a request": (request("GET", "/healthz"), b""),
    }
    begin, open_, took = time.monotonic(), {kind: Raw(service) for kind in kinds}, {}
    for kind, raw in open_.items():
        raw.send(kinds[kind][0])
    deaf = Raw(service, receive_buffer=4096)  # asks, and takes no answer
    deaf.sock.settimeout(0.2)
    try:
        deaf.sock.sendall(request("GET", "/metrics") * 5000)
    except OSError:
        pass
    while open_ and time.monotonic() - begin < 5 * SLOWNESS:
        time.sleep(0.05)
        for kind, raw in list(open_.items()):
            raw.sock.settimeout(0)
            try:
                gone = not raw.send(kinds[kind][1]) or raw.sock.recv(4096) == b""
            except BlockingIOError:
                gone = False
            except ConnectionError:
                gone = True
            if gone:
                took[kind] = time.monotonic() - begin
                open_.pop(kind).close()
    assert not open_, f"still open: {list(open_)}"
    assert all(t < 2 * SLOWNESS for t in took.values()), took
    assert all(took[kind] > 0.9 for kind in kinds if kind != "blank lines"), took
    wait_until(lambda: service.metric("tidings_http_connections") <= 3, 10, "the client that takes no answer is closed, too")
    deaf.close()


def test_thousands_of_idle_connections(service, api, users, watch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    half = sign_up(api, users, fresh())[:-5]
    held = [Raw(service) for _ in range(2500)]
    for raw in held[::2]:
        raw.send(half)
    campaign = api.create_campaign()["campaign_id"]
    begin = time.monotonic()
    for _ in range(50):
        api.signup(campaign, fresh())
    assert time.monotonic() - begin < 2 * SLOWNESS
    assert service.metric("tidings_http_connections") >= 2500
    assert held[1].ask("GET", "/healthz").status == 200  # they are as good as any
    for i, raw in enumerate(held):
        raw.close(reset=i % 3 == 0)
    wait_until(lambda: service.metric("tidings_http_connections") < 10, 10, "all of them are gone")


@pytest.mark.settings(HTTP_MAX_CONNECTIONS=20)
def test_too_many_connections(service, api):
    before = int(service.metric("tidings_http_connections"))
    held = [Raw(service) for _ in range(20 - before)]
    assert all(raw.ask("GET", "/healthz").status == 200 for raw in held)
    begin = time.monotonic()
    for _ in range(30):
        with Raw(service) as raw:
            raw.send(request("GET", "/healthz"))
            assert raw.answer() is None
    assert time.monotonic() - begin < 2 * SLOWNESS, "closed at once"
    assert service.metric("tidings_http_connections_refused_total") == 30
    assert service.log_text().count("HTTP_MAX_CONNECTIONS are open") == 1
    held.pop().close()
    wait_until(lambda: service.metric("tidings_http_connections") < 20, 5, "room again")
    with Raw(service) as raw:
        assert raw.ask("GET", "/healthz").status == 200
    for raw in held:
        raw.close()


def test_clients_that_vanish(env, service, api, users, watch):
    """An action whose client does not wait for the answer is done all the same; half a request is not."""
    gone, half = [fresh() for _ in range(60)], fresh()
    for email in gone:
        with Raw(service) as raw:
            raw.send(sign_up(api, users, email))
    for cut in (1, 10, 40):
        with Raw(service) as raw:
            raw.send(sign_up(api, users, half)[:-cut])
    for _ in range(60):  # these may be gone before they were read
        raw = Raw(service)
        raw.send(sign_up(api, users, fresh()))
        raw.close(reset=True)
    wait_until(lambda: env.value("select count(*) from users where email = any(%s)", gone) == 60, 10, "all of them are signed up")
    assert env.value("select count(*) from users where email = %s", half) == 0
    with Raw(service) as raw:  # one that has said all and listens on
        raw.send(sign_up(api, users, fresh()), last=True)
        assert [a.status for a in raw.answers()] == [201]


@pytest.mark.settings(LANES=1, LANE_QUEUE=2, LANE_LOCK_TIMEOUT_MS=60000, READ_CONNECTIONS=1, READ_QUEUE=2, KEY_CACHE_MS=600000)
def test_overload(env, service, api, users, watch):
    """With the database at a standstill, what does not fit in the queues is told so at once, and nothing of it is done."""
    watch.may_overload = True
    campaign = users.split("/")[3]
    api.signup(campaign, "first@example.com", key="secret")
    reads = [Raw(service) for _ in range(10)]
    writes = [Raw(service) for _ in range(20)]
    with env.db() as blocker:
        blocker.execute("begin")
        blocker.execute("lock table users in access exclusive mode")
        for i, raw in enumerate(writes):
            raw.send(sign_up(api, users, f"w{i}@example.com"))
        for raw in reads:
            raw.send(request("GET", f"{users}/{uuid.uuid4()}", (key(api),)))
        # Those in the queues wait; the others know by now.
        wait_until(lambda: len(select.select(reads, [], [], 0)[0]) >= 7 and len(select.select(writes, [], [], 0)[0]) == 18, 5, "refusals")
        time.sleep(0.1)
        refused = [raw for raw in select.select(reads + writes, [], [], 0)[0]]
        for raw in refused:
            answer = problem(raw.answer(), 503, "overloaded")
            assert answer.headers["retry-after"] == "1" and "Nothing was done" in answer["detail"]
        blocker.execute("rollback")
    assert len(set(writes) - set(refused)) == 2 and set(reads) - set(refused)
    assert [raw.answer().status for raw in set(writes) - set(refused)] == [201, 201]
    assert {raw.answer().status for raw in set(reads) - set(refused)} == {404}
    assert all(raw.ask("GET", "/healthz").status == 200 for raw in refused), "they may try again"
    assert env.value("select count(*) from users") == 3
    for raw in reads + writes:
        raw.close()
