"""Clients that break HTTP, are slow, too many, or leave: each gets a clear 4xx or a close, and others do not notice."""

import json
import random
import resource
import select
import time
import uuid

import pytest

from lib.hostile import JSON, fresh, key, problem, sign_up
from lib.raw import Raw, request
from lib.util import SLOWNESS, wait_until

pytestmark = [pytest.mark.settings(MAIL_TRANSPORT="discard"), pytest.mark.usefixtures("watch")]
CHUNKED = "Transfer-Encoding: chunked"


# --- framing ---


def chunks(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def hostile_requests(api, users):
    """Requests that are broken as HTTP, or that can be read in two ways, each followed by one that must not be reached."""
    ok, body, tail = (key(api), JSON), b'{"email":"first@example.com"}', sign_up(api, users, "smuggled@example.com")
    length = f"Content-Length: {len(body)}"
    for headers in ((length, "Content-Length: 0"), (length, length), ("Content-Length: 0", CHUNKED), (CHUNKED, length),
                    (CHUNKED, CHUNKED), (CHUNKED, "Transfer-Encoding: identity"), ("Transfer-Encoding: gzip, chunked",),
                    ("Transfer-Encoding: chunked, identity",), ("Transfer-Encoding: xchunked",), ("Transfer-Encoding:",),
                    ("Transfer-Encoding: identity", length), (length, "Transfer-Encoding : chunked"), (length, "Host: other"),
                    (length, "X-Folded: a\r\n b"), (length, "No-Colon"), (length, ": no name"), (length, "X-Nul: a\0b"),
                    (length, "X-\0: a"), (length, "X-Cr: a\rb"), (length, "X Y: z"), (length, "Expect: nonsense"),
                    (length, *[f"X-{i}: y" for i in range(100)]), (length, "X-Long: " + "x" * 500000)):
        yield request("POST", users, ok + headers) + (chunks(body) if CHUNKED in headers else body) + tail
    for bad in ("-1", "+29", "29a", "", "0x1d", "29, 29", "29 29", str(2**64), str(2**63), "9" * 400, "1.5", "٢٩"):
        yield request("POST", users, ok + (f"Content-Length: {bad}",)) + body + tail
    for bad in (b"g\r\n", b"-1\r\n", b"\r\n", b"1" * 17 + b"\r\n", b"f" * 16 + b"\r\n", b"7" + b"f" * 15 + b"\r\n", b"ffffffff\r\n",
                b"20000\r\n", b"1\r\nab\r\n0\r\n\r\n", b"1\r\na0\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 9000, b"1;" + b"x" * 90000):
        yield request("POST", users, ok + (CHUNKED,)) + bad + tail
    yield request("POST", users, ok + (CHUNKED,)).replace(b"HTTP/1.1", b"HTTP/1.0") + chunks(body) + tail
    yield request("POST", users, ok, body, host=None) + tail
    yield request("POST", users, ok, body, host="Host: a\r\nHost: b") + tail
    for line in (b"GET /healthz HTTP/2.0", b"GET /healthz HTTP/9", b"GET /healthz http/1.1", b"GET /healthz HTTP/1.1x",
                 b"GET /healthz", b"GET", b"GET  /healthz HTTP/1.1", b"GET /health z HTTP/1.1", b"GET\t/healthz\tHTTP/1.1",
                 b" GET /healthz HTTP/1.1", b"GET /h\0 HTTP/1.1", b"G\0T / HTTP/1.1", b"PRI * HTTP/2.0", b"", b"SSH-2.0-x", b"EHLO x",
                 b"\r\n\r\n\r\nGET /healthz HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\xfc"):
        yield line + b"\r\nHost: t\r\n\r\n" + tail


def test_framing(env, service, api, users):
    for data in hostile_requests(api, users):
        with Raw(service) as raw:
            raw.send(data, last=True)
            answers = raw.answers()
            assert len(answers) <= 1, (data[:500], answers)
            for answer in answers:  # what is not even HTTP gets a bare 400
                assert answer.status in (400, 413), (data[:500], answer)
                assert not answer.body or problem(answer, answer.status)["detail"]
    assert env.value("select count(*) from users") == 0


def test_pipelined(env, service, api, users):
    """Good and bad requests in one write are answered in order; after one whose end cannot be told, none."""
    health = request("GET", "/healthz")
    mix = [
        *[(200, health)] * 20, (201, sign_up(api, users, "ada@example.com")), (409, sign_up(api, users, "ADA@example.com")),
        (422, sign_up(api, users, "nobody")), (404, request("GET", "/x")), (405, request("PUT", "/healthz")), (401, request("POST", users)),
        (400, request("POST", users, (key(api), JSON), b"{")), (200, request("GET", "/healthz", (), b"x" * 5000)),
        (201, request("POST", users, (key(api), JSON, CHUNKED)) + chunks(b'{"email":"bob@example.com"}')),
        (201, sign_up(api, users, "carol@example.com", "Expect: 100-continue")), (200, health.replace(b"Host: t\r\n", b"Host:\r\n")),
        (200, request("GET", "/healthz", ("Connection: close",))),
    ]
    data, statuses = b"".join(data for _, data in mix), [status for status, _ in mix]
    with Raw(service) as raw:
        raw.send(data + sign_up(api, users, "late@example.com"))
        assert [a.status for a in raw.answers()] == statuses
    with Raw(service) as raw:  # in the smallest pieces; all have signed up by now
        for i in range(len(data)):
            raw.send(data[i:i + 1])
        assert [a.status for a in raw.answers()] == [409 if status == 201 else status for status in statuses]
    with Raw(service) as raw:
        raw.send(health * 2 + request("GET", "/healthz", host=None) + health)
        assert [a.status for a in raw.answers()] == [200, 200, 400]
    with Raw(service) as raw:
        raw.send(b"GET /healthz HTTP/1.0\r\n\r\n" + health)
        assert [a.status for a in raw.answers()] == [200]
    assert env.value("select count(*) from users") == 3


def test_random_garbage(env, service, api, users):
    """Bytes without sense, and good requests with a few bytes changed."""
    rng = random.Random(21)
    changes = [b"\r\n", b"\n", b"\0", b":", b" ", b"", b"0", b"\r\n\r\n", b",", b"-"]
    for i in range(2000):
        if garbage := i % 2 == 0:
            data = rng.randbytes(rng.choice((1, 5, 50, 500, 5000)))
        else:
            body = json.dumps({"email": fresh()}).encode()
            data = bytearray(rng.choice((
                sign_up(api, users, fresh(), "X-Request-Id: a"), sign_up(api, users, fresh(), "Expect: 100-continue"),
                request("POST", users, (key(api), JSON, CHUNKED)) + chunks(body))))
            for _ in range(rng.choice((1, 2, 8))):
                at = rng.randrange(len(data))
                data[at:at + rng.choice((0, 1, 1, 4))] = rng.choice((bytes([rng.randrange(256)]), rng.choice(changes)))
        with Raw(service) as raw:
            raw.send(data, last=True)
            for answer in raw.answers():
                assert answer.status == 400 if garbage else answer.status in (200, 201) or 400 <= answer.status < 500, (data, answer)
    assert env.value("select count(*) from users") > 10


# --- time and number ---


@pytest.mark.settings(HTTP_REQUEST_TIMEOUT_MS=1000)
def test_slow_and_endless_requests(service, api, users):
    """Headers and bodies that come slowly or never end: closed when their time is up, whatever goes on arriving."""
    post, chunked = (request("POST", users, (key(api), JSON, h)) for h in ("Content-Length: 60000", CHUNKED))
    kinds = {  # what is sent at first, and then again and again
        "nothing": (b"", b""), "a request line": (b"GET /", b"x"), "headers": (post[:-2], b"X: y\r\n"),
        "one header": (post[:-2] + b"X: ", b"y" * 100), "no more headers": (post[:-2], b""), "a body": (post, b" "),
        "no more body": (post + b"{", b""), "chunks": (chunked, b"1\r\n \r\n"), "one chunk": (chunked + b"9000\r\n", b" "),
        "no more chunks": (chunked + b"1\r\n \r\n", b""), "a chunk's extension": (chunked + b"1;", b"x" * 1000),
        "trailers": (chunked + b"0\r\n", b"X: y\r\n"), "after a request": (request("GET", "/healthz"), b""),
        "after 100": (request("POST", users, (key(api), JSON, "Content-Length: 9", "Expect: 100-continue")), b""),
    }
    begin, left, took = time.monotonic(), {kind: Raw(service) for kind in kinds}, {}
    for kind, raw in left.items():
        raw.send(kinds[kind][0])
    deaf = Raw(service, receive_buffer=4096)  # asks, and takes no answer
    deaf.sock.settimeout(0.2)
    deaf.send(request("GET", "/metrics") * 5000)
    while left and time.monotonic() - begin < 5 * SLOWNESS:
        time.sleep(0.05)
        for kind, raw in list(left.items()):
            if not raw.send(kinds[kind][1]) or raw.ended():
                took[kind] = time.monotonic() - begin
                left.pop(kind).close()
    assert not left, f"still open: {list(left)}"
    assert all(0.9 < seconds < 2 * SLOWNESS for seconds in took.values()), took
    # Left are the one who watches and the one who asks for metrics.
    wait_until(lambda: service.metric("tidings_http_connections") == 2, 5, "the deaf one is closed")
    assert service.metric("tidings_http_requests_total", route="metrics") < 1000, "what it asked for besides is left undone"
    deaf.close()


def test_thousands_of_idle_connections(service, api, users):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    half = sign_up(api, users, fresh())[:-5]
    held = [Raw(service) for _ in range(2500)]
    for raw in held[::2]:
        raw.send(half)
    campaign, begin = api.create_campaign()["campaign_id"], time.monotonic()
    for _ in range(50):
        api.signup(campaign, fresh())
    assert time.monotonic() - begin < 5 * SLOWNESS
    assert service.metric("tidings_http_connections") >= 2500
    assert held[1].ask("GET", "/healthz").status == 200  # they are as good as any
    for i, raw in enumerate(held):
        raw.close(reset=i % 3 == 0)
    wait_until(lambda: service.metric("tidings_http_connections") < 10, 10, "all of them are gone")


@pytest.mark.settings(HTTP_MAX_CONNECTIONS=20)
def test_too_many_connections(service, api):
    held = [Raw(service) for _ in range(20 - int(service.metric("tidings_http_connections")))]
    assert all(raw.ask("GET", "/healthz").status == 200 for raw in held)
    begin = time.monotonic()
    for _ in range(30):
        with Raw(service) as raw:
            raw.send(request("GET", "/healthz"))
            assert raw.answer() is None
    assert time.monotonic() - begin < 2 * SLOWNESS, "closed at once"
    assert service.metric("tidings_http_connections_refused_total") == 30
    service.wait_log("HTTP_MAX_CONNECTIONS are open")
    assert service.log_text().count("HTTP_MAX_CONNECTIONS are open") == 1
    held.pop().close()
    wait_until(lambda: service.metric("tidings_http_connections") < 20, 5, "room again")
    with Raw(service) as raw:
        assert raw.ask("GET", "/healthz").status == 200
    for raw in held:
        raw.close()
    wait_until(lambda: service.metric("tidings_http_connections") < 10, 10, "room for everybody again")


def test_clients_that_vanish(env, service, api, users):
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
    there = "select count(*) from users where email_key = any(%s)"
    wait_until(lambda: env.value(there, gone) == 60, 10, "all of them are signed up")
    assert env.value(there, [half]) == 0
    with Raw(service) as raw:  # one that has said all and goes on listening
        raw.send(sign_up(api, users, fresh()), last=True)
        assert [a.status for a in raw.answers()] == [201]


@pytest.mark.settings(LANES=1, LANE_QUEUE=2, LANE_LOCK_TIMEOUT_MS=60000, READ_CONNECTIONS=1, READ_QUEUE=2, KEY_CACHE_MS=600000)
def test_overload(env, service, api, users, watch):
    """With the database at a standstill, what does not fit in the queues is told so at once, and nothing of it is done."""
    watch.overload = True
    service.wait_keys_stay()
    api.signup(users.split("/")[3], fresh(), key="secret")
    writes, reads = ([Raw(service) for _ in range(n)] for n in (20, 10))
    with env.db() as blocker:
        blocker.execute("begin")
        blocker.execute("lock table users in access exclusive mode")
        for raw in writes:
            raw.send(sign_up(api, users, fresh()))
        for raw in reads:
            raw.send(request("GET", f"{users}/{uuid.uuid4()}", (key(api),)))
        wait_until(lambda: len(select.select(writes + reads, [], [], 0)[0]) >= 18 + 7, 5, "refusals")
        refused = select.select(writes + reads, [], [], 0.1)[0]
        for raw in refused:
            answer = problem(raw.answer(), 503, "overloaded")
            assert answer.headers["retry-after"] == "1" and "Nothing was done" in answer["detail"]
        blocker.execute("rollback")
    waited = [raw for raw in writes if raw not in refused]
    assert [raw.answer().status for raw in waited] == [201, 201]
    waited = [raw for raw in reads if raw not in refused]
    assert waited and {raw.answer().status for raw in waited} == {404}
    assert all(raw.ask("GET", "/healthz").status == 200 for raw in refused), "they may try again"
    assert env.value("select count(*) from users") == 3
    for raw in writes + reads:
        raw.close()
