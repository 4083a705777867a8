"""The harness itself: what a checker does not notice, no test will tell."""

import datetime
import json
import smtplib
import socket
import subprocess
import threading
import time

import pytest

from . import count_units, invariants
from .api import Answer, Ledger, campaign_of
from .kafka import Record, hash_class, murmur2
from .mail import Mail
from .smtp import PERMANENT
from .util import free_port, port_is_taken

# --- murmur2: the values that Kafka's own test has (UtilsTest.testMurmur2) --------------------------------------------


@pytest.mark.parametrize("text, value", [
    ("21", -973932308),
    ("foobar", -790332482),
    ("a-little-bit-long-string", -985981536),
    ("a-little-bit-longer-string", -1486304829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ("abc", 479470107),
])
def test_murmur2_is_javas(text, value):
    assert murmur2(text.encode()) == value & 0xFFFFFFFF


# --- the checker ------------------------------------------------------------------------------------------------------

ACCOUNT = "01890000-0000-7000-8000-0000000000aa"
CAMPAIGNS = [f"01890000-0000-7000-8000-{i:012d}" for i in range(3)]
SHARDS, PARTITIONS = 10, 20


def make_log():
    """A correct log: events of three campaigns, their records, and the answers that they came from."""
    events, records, seqs, offsets = [], [], {}, {}
    ledger = Ledger()
    for number, campaign in enumerate(CAMPAIGNS):
        ledger.accounted.add(campaign)
        for version in range(1, 6):
            shard = hash_class(campaign, SHARDS)
            seqs[shard] = seqs.get(shard, 0) + 1
            at = datetime.datetime(2025, 1, 1, 12, 0, 0, 100 * seqs[shard] + shard, datetime.timezone.utc)
            data = json.dumps({"user_id": f"{number}-{version}"})
            event = invariants.Event((shard, seqs[shard], version, 1 + version % 2, at, f"id-{number}-{version}", data, campaign,
                                      ACCOUNT))
            events.append(event)
            records.append(make_record(event, offsets))
    events.sort(key=lambda e: (e.shard, e.seq))
    for campaign in CAMPAIGNS:  # versions 1, 2–3, 4–5
        for version, count in ((1, 1), (3, 2), (5, 2)):
            ledger.note(answered(campaign, version, count))
    return events, records, ledger


def make_record(event, offsets):
    partition = hash_class(event.campaign_id, PARTITIONS)
    offsets[partition] = offsets.get(partition, -1) + 1
    value = json.dumps({
        "id": event.id, "type": f"type.{event.type}", "account_id": event.account_id, "campaign_id": event.campaign_id,
        "data": "DATA", "timestamp": event.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "version": event.version,
    }).replace('"DATA"', event.data)
    return Record(partition, offsets[partition], event.campaign_id.encode(), value.encode(), (), 0)


def answered(campaign, version, events, status=201):
    body = {"campaign_id": campaign, "version": version, "events": events}
    return Answer("POST", f"/v1/campaigns/{campaign}/users", status, {}, json.dumps(body), body)


def faults_of(events, records, ledger):
    return (invariants.check_table(events, SHARDS) + invariants.check_records(events, SHARDS, invariants.Purges([]), records, [PARTITIONS])
            + invariants.check_answers(events, ledger))


def changed(record, **fields):
    return Record(**{**record.__dict__, **fields})


def test_a_correct_log_has_no_faults():
    assert faults_of(*make_log()) == []


def test_an_exact_repeat_is_no_fault():
    events, records, ledger = make_log()
    records.append(changed(records[0], offset=1000))
    assert faults_of(events, records, ledger) == []


def spoil_swap(events, records, ledger):
    a, b = records[0], records[1]
    records[0], records[1] = changed(a, offset=b.offset), changed(b, offset=a.offset)


def spoil_gap(events, records, ledger):
    del records[2]


def spoil_repeat(events, records, ledger):
    records.append(changed(records[1], offset=1000, value=records[1].value.replace(b"user_id", b"user_ID")))


def spoil_partition(events, records, ledger):
    records[4] = changed(records[4], partition=(records[4].partition + 1) % PARTITIONS)


def spoil_invented(events, records, ledger):
    records.append(changed(records[4], offset=1000, value=records[4].value.replace(b'"version": 5', b'"version": 6')))


def spoil_value(events, records, ledger):
    records[3] = changed(records[3], value=records[3].value.replace(b"12:00:00", b"12:00:01"))


def spoil_type(events, records, ledger):
    records[3] = changed(records[3], value=records[3].value.replace(b"type.1", b"type.2"))


def spoil_garbage(events, records, ledger):
    records.append(changed(records[3], offset=1000, value=b"{"))


def spoil_seq(events, records, ledger):
    events[-1].seq += 1


def spoil_version(events, records, ledger):
    events[0].version = 2


def spoil_shard(events, records, ledger):
    for event in events:
        event.shard = (event.shard + 1) % SHARDS


def spoil_time(events, records, ledger):
    events[1].at -= datetime.timedelta(seconds=1)


def spoil_lost_event(events, records, ledger):
    """Answered, but not there: the last version of a campaign is missing in table and topic."""
    last = next(e for e in reversed(events) if e.version == 5)
    if any(e.shard == last.shard and e.seq > last.seq for e in events):
        pytest.fail("the log must end with a version 5")
    events.remove(last)
    records[:] = [r for r in records if json.loads(r.value)["id"] != last.id]


def spoil_unanswered(events, records, ledger):
    del ledger.claims[CAMPAIGNS[1]][1]


def spoil_claimed_twice(events, records, ledger):
    ledger.note(answered(CAMPAIGNS[0], 3, 1))


def spoil_answer(events, records, ledger):
    ledger.note(answered(CAMPAIGNS[0], None, None))


@pytest.mark.parametrize("spoil", [f for name, f in sorted(globals().items()) if name.startswith("spoil_")],
                         ids=lambda f: f.__name__[6:])
def test_every_fault_is_noticed(spoil):
    events, records, ledger = make_log()
    spoil(events, records, ledger)
    assert faults_of(events, records, ledger)


def test_an_unknown_outcome_may_have_left_events():
    events, records, ledger = make_log()
    spoil_unanswered(events, records, ledger)
    ledger.note(Answer("POST", f"/v1/campaigns/{CAMPAIGNS[1]}/users", 503, {}, "",
                       {"type": "urn:tidings:problem:outcome-unknown"}))
    assert faults_of(events, records, ledger) == []


def test_a_refused_action_must_not_show():
    events, records, ledger = make_log()
    spoil_unanswered(events, records, ledger)
    ledger.note(Answer("POST", f"/v1/campaigns/{CAMPAIGNS[1]}/users", 503, {}, "",
                       {"type": "urn:tidings:problem:database-unavailable"}))
    assert faults_of(events, records, ledger)


def test_a_campaign_that_is_not_accounted_for_may_have_more():
    events, records, ledger = make_log()
    spoil_unanswered(events, records, ledger)
    ledger.not_accounted(CAMPAIGNS[1])
    assert faults_of(events, records, ledger) == []


def test_the_campaign_is_taken_from_the_path():
    assert campaign_of(f"/v1/campaigns/{CAMPAIGNS[0].upper()}/users?x=1") == CAMPAIGNS[0]
    assert campaign_of("/v1/campaigns") is None
    assert campaign_of("/v1/campaigns/none/users") is None


# --- counting cmocka's cases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status, output, counts", [
    ("run", "[==========] Running 2 test(s).\n[       OK ] a\n[       OK ] b\n[  PASSED  ] 2 test(s).", (2, 0)),
    ("run", "[==========] group: Running 1 test(s).\n[       OK ] a\n[==========] more: Running 1 test(s).\n[       OK ] b", (2, 0)),
    ("fail", "[==========] Running 2 test(s).\n[       OK ] a\n[  FAILED  ] b\n[  FAILED  ] 1 test(s), listed below:", (1, 1)),
    ("run", "[==========] Running 2 test(s).\n[       OK ] a\n[  SKIPPED ] b", (1, 1)),
    ("fail", "[==========] Running 3 test(s).\n[       OK ] a\nSegmentation fault", (1, 2)),
    ("fail", "[==========] Running 1 test(s).\n[       OK ] a\nLeakSanitizer: detected memory leaks", (1, 1)),
    ("fail", "", (0, 1)),
    ("run", "", (0, 1)),
])
def test_cases_are_counted(tmp_path, status, output, counts):
    junit = tmp_path / "unit.xml"
    junit.write_text(f'<testsuite><testcase name="t" status="{status}"><system-out>{output}</system-out></testcase></testsuite>')
    assert count_units.count(junit) == counts


# --- what stands in for the outside world -----------------------------------------------------------------------------


@pytest.fixture
def echo():
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def ask(connection, data=b"hello", seconds=2):
    """What comes back, or None when nothing does."""
    connection.settimeout(seconds)
    connection.sendall(data)
    try:
        return connection.recv(100)
    except TimeoutError:
        return None


def test_the_proxy_forwards_and_ends_streams(make_proxy, echo):
    proxy = make_proxy(echo)
    payload = bytes(range(256)) * 8000
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        threading.Thread(target=lambda: (connection.sendall(payload), connection.shutdown(socket.SHUT_WR)), daemon=True).start()
        got = b""
        while data := connection.recv(1 << 16):
            got += data
        assert got == payload


def test_the_proxy_cuts(make_proxy, echo):
    proxy = make_proxy(echo)
    connection = socket.create_connection(("127.0.0.1", proxy.port))
    assert ask(connection) == b"hello" and proxy.connections() == 1
    proxy.cut()
    with pytest.raises(OSError):
        ask(connection)
        ask(connection)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.heal()
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        assert ask(connection) == b"hello"


def test_the_proxy_holds_and_delivers(make_proxy, echo):
    proxy = make_proxy(echo)
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        assert ask(connection) == b"hello"
        for direction in ("to_server", "to_client", "both"):
            proxy.hang(direction)
            assert ask(connection, b"held", 0.2) is None
            proxy.heal()
            connection.settimeout(2)
            assert connection.recv(100) == b"held"


def test_the_proxy_swallows_answers(make_proxy, echo):
    proxy = make_proxy(echo)
    connection = socket.create_connection(("127.0.0.1", proxy.port))
    assert ask(connection) == b"hello"
    proxy.swallow()
    assert ask(connection, b"lost", 0.2) is None
    proxy.heal()
    with pytest.raises(OSError):
        if connection.recv(100) == b"":
            raise OSError("closed")


def send(smtp, to="ada@example.com", text="Hi"):
    with smtplib.SMTP("127.0.0.1", smtp.port, timeout=2) as client:
        client.sendmail("tidings@localhost", [to], f"To: {to}\r\nSubject: s\r\nMessage-ID: <1@x>\r\n\r\n{text}\r\n")


def test_the_sink_keeps_mails(smtp):
    send(smtp)
    (mail,) = smtp.wait("Ada@example.com")
    assert (mail.to, mail.subject, mail.message_id, mail.rcpt_tos) == ("ada@example.com", "s", "<1@x>", ["ada@example.com"])
    assert mail.text.strip() == "Hi"


def test_the_sink_refuses_as_told(smtp):
    smtp.fail("ada@example.com", times=1)
    smtp.fail("eve@example.com", PERMANENT, stage="data")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(smtp)
    send(smtp)
    with pytest.raises(smtplib.SMTPDataError):
        send(smtp, "eve@example.com")
    assert len(smtp.mails) == 1


def test_the_sink_hangs_until_healed(smtp):
    smtp.hang()
    with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
        send(smtp)
    smtp.heal()
    send(smtp)


def test_the_sink_keeps_a_mail_whose_answer_is_lost(smtp):
    smtp.drop("ada@example.com")
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        send(smtp)
    assert len(smtp.to("ada@example.com")) == 1
    send(smtp)
    assert len(smtp.to("ada@example.com")) == 2


def test_the_sink_goes_down_and_up(smtp):
    smtp.down()
    with pytest.raises(ConnectionRefusedError):
        send(smtp)
    smtp.heal()
    send(smtp)


def test_a_token_is_found_in_a_mail():
    plain = b"To: a@b.c\n\nhttp://127.0.0.1:1/v1/verify?token=Ab-_9\n"
    quoted = b"To: a@b.c\nContent-Transfer-Encoding: quoted-printable\n\nhttp://127.0.0.1:1/v1/verify?tok=\nen=3DAb-_9\n"
    assert Mail(plain).token == Mail(quoted).token == "Ab-_9"
    assert Mail(b"To: a@b.c\n\nnothing\n").token is None


def test_ports_are_seen():
    port = free_port()
    assert not port_is_taken(port)
    with socket.create_server(("127.0.0.1", port)):
        assert port_is_taken(port)


# --- servers of a test's own ------------------------------------------------------------------------------------------


def test_a_broker_of_ones_own_comes_back(own_kafka):
    own_kafka.create_topic("t", 3)
    brokers, pid = own_kafka.brokers, own_kafka.pid()
    own_kafka.kill9()
    assert own_kafka.pid() is None
    own_kafka.heal()
    assert own_kafka.brokers == brokers and own_kafka.pid() not in (None, pid)
    assert len(own_kafka.admin.list_topics("t", timeout=10).topics["t"].partitions) == 3


def test_a_cluster_of_ones_own_comes_back(own_postgres):
    url = own_postgres.url
    own_postgres.execute("create table t (x int)")
    own_postgres.kill9()
    own_postgres.heal()
    assert own_postgres.url == url
    own_postgres.execute("insert into t values (1)")
    own_postgres.pause()
    begin = time.monotonic()
    waiting = subprocess.Popen(["psql", own_postgres.admin_url, "-c", "select 1"], stdout=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    own_postgres.resume()
    assert waiting.wait(10) == 0 and time.monotonic() - begin < 10
