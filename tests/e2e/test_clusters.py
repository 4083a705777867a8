"""Clusters as they are in production: TLS, logins and rights towards Kafka, Postgres and the mail server. What is wrong with
them is said in words, is waited for, and when it is mended everything goes through."""

import json
import shutil
import time

import pytest

from lib.tls import Authority, Impostor
from lib.util import SLOWNESS, wait_until

# The mail server of a test may well ask for a login without TLS: that is what must not be answered.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


def sign_up(env, address):
    """A sign-up in a campaign of its own; what it needs is Postgres alone."""
    api = env.api()
    return api.signup(api.create_campaign()["campaign_id"], address)


def wait_waiting(service, part, *words, seconds=30):
    """Until /readyz gives a reason for a part that has all the words in it; the reason."""
    def reason():
        status, text = service.ready()
        if status != 503:
            return None
        reasons = [w["reason"] for w in json.loads(text)["waiting"] if w["part"] == part]
        return next((r for r in reasons if all(w.lower() in r.lower() for w in words)), None)

    return wait_until(reason, seconds, lambda: f"/readyz names {words} for {part}; it says {service.ready()}", 0.2)


# --- settings that cannot work stop the start ---


@pytest.fixture
def files(tmp_path):
    authority = Authority(tmp_path / "authority")
    authority.issue("one", "localhost", password="right")
    authority.issue("two", "localhost")
    (tmp_path / "garbage.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    (tmp_path / "empty.pem").write_text("")
    shutil.copytree(tmp_path / "authority", tmp_path, dirs_exist_ok=True)
    return tmp_path


LOGIN = {"KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u",
         "KAFKA_SASL_PASSWORD": "p"}


@pytest.mark.parametrize("name, changes", [
    ("KAFKA_SECURITY_PROTOCOL", {"KAFKA_SECURITY_PROTOCOL": "tls"}),
    ("KAFKA_SASL_MECHANISM", {**LOGIN, "KAFKA_SASL_MECHANISM": "GSSAPI"}),
    ("KAFKA_SASL_MECHANISM", {**LOGIN, "KAFKA_SASL_MECHANISM": None}),
    ("KAFKA_SASL_USERNAME", {**LOGIN, "KAFKA_SASL_USERNAME": None}),
    ("KAFKA_SASL_PASSWORD", {**LOGIN, "KAFKA_SASL_PASSWORD": ""}),
    ("KAFKA_SASL_USERNAME", {"KAFKA_SASL_USERNAME": "u"}),
    ("KAFKA_SSL_CA_FILE", {"KAFKA_SSL_CA_FILE": "{files}/ca.pem"}),
    ("KAFKA_SSL_CA_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CA_FILE": "{files}/missing.pem"}),
    ("KAFKA_SSL_CA_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CA_FILE": "{files}"}),
    ("KAFKA_SSL_CA_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CA_FILE": "{files}/empty.pem"}),
    ("KAFKA_SSL_CA_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CA_FILE": "{files}/garbage.pem"}),
    ("KAFKA_SSL_KEY_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CERTIFICATE_FILE": "{files}/one.crt"}),
    ("KAFKA_SSL_CERTIFICATE_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_KEY_FILE": "{files}/two.key"}),
    ("KAFKA_SSL_CERTIFICATE_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CERTIFICATE_FILE": "{files}/garbage.pem",
                                    "KAFKA_SSL_KEY_FILE": "{files}/two.key"}),
    ("KAFKA_SSL_KEY_FILE", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CERTIFICATE_FILE": "{files}/one.crt",
                            "KAFKA_SSL_KEY_FILE": "{files}/two.key"}),
    ("KAFKA_SSL_KEY_PASSWORD", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CERTIFICATE_FILE": "{files}/one.crt",
                                "KAFKA_SSL_KEY_FILE": "{files}/one.key", "KAFKA_SSL_KEY_PASSWORD": "wrong"}),
    ("KAFKA_SSL_KEY_PASSWORD", {"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CERTIFICATE_FILE": "{files}/one.crt",
                                "KAFKA_SSL_KEY_FILE": "{files}/one.key"}),
    ("SMTP_CA_FILE", {"MAIL_TRANSPORT": "smtp", "SMTP_CA_FILE": "{files}/missing.pem"}),
    ("SMTP_CA_FILE", {"MAIL_TRANSPORT": "smtp", "SMTP_CA_FILE": "{files}/empty.pem"}),
    ("SMTP_USERNAME", {"MAIL_TRANSPORT": "smtp", "SMTP_PASSWORD": "p"}),
    ("SMTP_PASSWORD", {"MAIL_TRANSPORT": "smtp", "SMTP_USERNAME": "u"}),
])
def test_settings_that_cannot_work_stop_the_start(env, files, name, changes):
    settings = {k: v and v.format(files=files) for k, v in changes.items()}
    done = env.tidings("serve", **settings)
    assert done.returncode == 2 and name in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "wrong" not in done.stderr, done.stderr


def test_other_commands_do_not_mind_kafkas_settings(env):
    broken = {**LOGIN, "KAFKA_SASL_USERNAME": None, "KAFKA_SSL_CA_FILE": "/nowhere"}
    env.run("migrate", **broken)
    env.run("keys", "list", **broken)
    assert "p4ssw0rd" not in env.run("config", KAFKA_SASL_PASSWORD="p4ssw0rd", KAFKA_SSL_KEY_PASSWORD="p4ssw0rd")


# --- Kafka ---


@pytest.mark.parametrize("protocol, mechanism", [("sasl_ssl", "SCRAM-SHA-512"), ("sasl_ssl", "SCRAM-SHA-256"),
                                                 ("sasl_ssl", "PLAIN"), ("sasl_plaintext", "SCRAM-SHA-512"), ("ssl", None)])
def test_kafka_with_logins_and_tls(make_env, own_tls_kafka, protocol, mechanism):
    """All the way: the relay writes, both groups read, with no more rights than are documented."""
    env = make_env(kafka=own_tls_kafka, settings=own_tls_kafka.settings(protocol, mechanism))
    service = env.start()
    sign_up(env, "ada@example.com")
    env.wait_token("ada@example.com", 30)
    def partitions():
        return [value for name, value in service.metrics().items() if name.startswith("tidings_group_partitions{")]

    wait_until(lambda: len(partitions()) >= 2 and set(partitions()) == {10}, 20,
               lambda: f"every group has all partitions: {partitions()}")
    assert own_tls_kafka.password not in service.log_text()


def test_wrong_password_is_waited_for(make_env, own_tls_kafka):
    """At the start: said in /readyz and in the log, but not all the time; sign-ups are taken meanwhile."""
    env = make_env(kafka=own_tls_kafka, settings=own_tls_kafka.settings("sasl_ssl", KAFKA_SASL_PASSWORD="not yet valid"))
    service = env.start(ready=False).wait_listening()
    reason = wait_waiting(service, "kafka", "authentication", "KAFKA_SASL_PASSWORD")
    assert "not yet valid" not in reason
    wait_waiting(service, "consumers", "authentication")
    sign_up(env, "ada@example.com")
    time.sleep(3)
    lines = [line for line in service.log_text().splitlines() if "authentication failed" in line.lower()]
    assert 1 <= len(lines) <= 6 and "not yet valid" not in service.log_text(), "\n".join(lines)
    own_tls_kafka.set_password("tidings", "not yet valid")
    try:
        service.wait_ready(30)
        env.wait_token("ada@example.com", 30)
    finally:
        own_tls_kafka.set_password("tidings", own_tls_kafka.password)


@pytest.mark.parametrize("case", ["unknown authority", "another host", "TLS to a plain port", "no certificate shown"])
def test_kafka_that_cannot_be_trusted(make_env, own_tls_kafka, tmp_path, case):
    """No connection is made, and nothing breaks for it: not the start, nor the sign-ups, nor the stop."""
    ssl, plain = own_tls_kafka.settings("ssl"), own_tls_kafka.brokers
    changes, words = {
        "unknown authority": ({"KAFKA_SSL_CA_FILE": str(Authority(tmp_path).ca)}, ("certificate", "KAFKA_SSL_CA_FILE")),
        "another host": ({"KAFKA_BROKERS": ssl["KAFKA_BROKERS"].replace("localhost", "127.0.0.1")},
                         ("certificate", "KAFKA_BROKERS")),
        "TLS to a plain port": ({"KAFKA_BROKERS": plain}, ("TLS", "KAFKA_SECURITY_PROTOCOL")),
        "no certificate shown": ({"KAFKA_SSL_CERTIFICATE_FILE": "", "KAFKA_SSL_KEY_FILE": "", "KAFKA_SSL_KEY_PASSWORD": ""},
                                 ("certificate", "KAFKA_SSL_CERTIFICATE_FILE")),
    }[case]
    env = make_env(kafka=own_tls_kafka, settings={**ssl, **changes})
    service = env.start(ready=False).wait_listening()
    wait_waiting(service, "kafka", *words)
    wait_waiting(service, "consumers", words[0])
    sign_up(env, "ada@example.com")
    service.stop()
    service.start(ready=False, **ssl).wait_ready(30)
    env.wait_token("ada@example.com", 30)


def test_broker_turns_into_a_stranger(make_env, own_tls_kafka):
    """At run time: who does not show the broker's certificate gets nothing; when the broker is back, all goes through."""
    env = make_env(kafka=own_tls_kafka, settings=own_tls_kafka.settings("sasl_ssl"))
    service = env.start()
    sign_up(env, "before@example.com")
    env.wait_token("before@example.com", 30)
    own_tls_kafka.kill9()
    port = int(own_tls_kafka.addresses["sasl_ssl"].rsplit(":", 1)[1])
    stranger = Impostor(port, own_tls_kafka.authority.issue("stranger", "stranger.example.com"))
    try:
        wait_waiting(service, "kafka", "certificate", seconds=40)
        wait_waiting(service, "consumers", "certificate")
        for i in range(20):
            sign_up(env, f"meanwhile{i}@example.com")
        wait_until(lambda: service.metric("tidings_relay_lag_events") == 40, 10, "what cannot be sent is counted")
        assert stranger.visits > 0
        service.wait_log("certificate")
    finally:
        stranger.close()
    own_tls_kafka.start()
    service.wait_ready(60)
    for i in range(20):
        env.wait_token(f"meanwhile{i}@example.com", 30)


def test_missing_rights_are_named(make_env, own_tls_kafka):
    """A user who may read the topic, but neither write it nor join a group."""
    env = make_env(kafka=own_tls_kafka, settings=own_tls_kafka.settings("sasl_ssl"))
    service = env.start(ready=False, KAFKA_SASL_USERNAME="reader")
    wait_waiting(service, "consumers", "lacks a right", "group")
    sign_up(env, "ada@example.com")
    wait_waiting(service, "kafka", "authoriz")
    service.stop()
    service.start(KAFKA_SASL_USERNAME="tidings")
    env.wait_token("ada@example.com", 30)


# --- Postgres ---


def test_postgres_with_verified_tls(make_env, own_tls_postgres):
    env = make_env(postgres=own_tls_postgres)
    url = own_tls_postgres.tls_url(env.database)
    env.run("migrate", DATABASE_URL=url)
    service = env.start(DATABASE_URL=url)
    sign_up(env, "ada@example.com")
    env.wait_token("ada@example.com")
    encrypted = dict(env.query("select s.ssl, count(*) from pg_stat_ssl s join pg_stat_activity a using (pid)"
                               " where a.application_name like 'tidings%%' and a.datname = %s group by 1", env.database))
    assert encrypted.keys() == {True} and encrypted[True] >= 5, "every connection is encrypted"
    service.stop()


@pytest.mark.parametrize("case", ["unknown authority", "another host", "no authority"])
def test_postgres_that_cannot_be_trusted(make_env, own_tls_postgres, tmp_path, case):
    env = make_env(postgres=own_tls_postgres)
    options, words = {
        "unknown authority": ({"ca": Authority(tmp_path).ca}, ("certificate",)),
        "another host": ({"host": "127.0.0.1"}, ("certificate", "127.0.0.1")),
        "no authority": ({"ca": tmp_path / "missing.pem"}, ("certificate", "missing.pem")),
    }[case]
    url = own_tls_postgres.tls_url(env.database, **options)
    done = env.tidings("migrate", DATABASE_URL=url)
    assert done.returncode == 1 and all(w in done.stderr for w in words), done.stderr
    assert own_tls_postgres.url.split(":")[2].split("@")[0] not in done.stderr
    service = env.start(ready=False, DATABASE_URL=url).wait_listening()
    wait_waiting(service, "postgres", *words)
    service.wait_log(words[-1])
    service.stop()
    service.start(DATABASE_URL=own_tls_postgres.tls_url(env.database))


def test_postgres_certificate_goes_bad(make_env, own_tls_postgres):
    env = make_env(postgres=own_tls_postgres)
    service = env.start(DATABASE_URL=own_tls_postgres.tls_url(env.database))
    sign_up(env, "before@example.com")
    own_tls_postgres.stop()
    own_tls_postgres.use_certificate(own_tls_postgres.authority.issue("stranger", "stranger.example.com"))
    own_tls_postgres.start()
    try:
        wait_waiting(service, "postgres", "certificate", "stranger.example.com")
        assert env.api().create_campaign(expect=503).problem == "database-unavailable"
    finally:
        own_tls_postgres.stop()
        own_tls_postgres.use_certificate(own_tls_postgres.good)
        own_tls_postgres.start()
    service.wait_ready(30)
    sign_up(env, "after@example.com")
    env.wait_token("after@example.com")


# --- mail ---


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")


def smtp_env(make_env, sink, **settings):
    return make_env(settings={"MAIL_TRANSPORT": "smtp", "SMTP_URL": sink.url, "RETRY_BASE_MS": 50, "RETRY_MAX_ATTEMPTS": 2,
                              "SMTP_TIMEOUT_MS": 5000 * SLOWNESS, **settings})


def waits(env, *words):
    """Mails wait, the log says why, and no attempt is counted."""
    service = env.services[0]
    wait_until(lambda: any("cannot work now" in line and all(w.lower() in line.lower() for w in words)
                           for line in service.log_text().splitlines()), 20, lambda: service.log_text()[-3000:])
    time.sleep(1)  # more tries than a mail of its own trouble would get
    assert env.query("select * from dead_letters") == [] and env.value("select status from mails") == "sending"
    assert service.ready()[0] == 200


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "smtps"])
def test_mails_by_tls_with_login(make_env, make_smtp, authority, implicit):
    sink = make_smtp(certificate=authority.issue("mail", "localhost"), implicit=implicit, users={"tidings": "päss word"},
                     host="localhost")
    env = smtp_env(make_env, sink, SMTP_USERNAME="tidings", SMTP_PASSWORD="päss word", SMTP_CA_FILE=authority.ca,
                   SMTP_STARTTLS="require")
    service = env.start()
    sign_up(env, "ada@example.com")
    sink.wait("ada@example.com", seconds=20)
    assert sink.logins >= 1 and "päss word" not in service.log_text()


def test_wrong_smtp_password_is_waited_for(make_env, make_smtp, authority):
    sink = make_smtp(certificate=authority.issue("mail", "localhost"), users={"tidings": "old"}, host="localhost")
    env = smtp_env(make_env, sink, SMTP_USERNAME="tidings", SMTP_PASSWORD="new", SMTP_CA_FILE=authority.ca)
    env.start()
    sign_up(env, "ada@example.com")
    waits(env, "login denied")
    sink.users["tidings"] = "new"
    sink.wait("ada@example.com", seconds=20)


@pytest.mark.parametrize("case", ["unknown authority", "another host"])
def test_mail_server_that_cannot_be_trusted(make_env, make_smtp, authority, tmp_path, case):
    """Also where TLS is only tried: a mail goes to a server that is what it says it is, or nowhere."""
    sink = make_smtp(certificate=authority.issue("mail", "localhost"),
                     host="localhost" if case == "unknown authority" else "127.0.0.1")
    env = smtp_env(make_env, sink, SMTP_STARTTLS="try",
                   SMTP_CA_FILE=authority.ca if case == "another host" else Authority(tmp_path / "other").ca)
    service = env.start()
    sign_up(env, "ada@example.com")
    waits(env, "certificate")
    assert sink.mails == []
    service.restart(SMTP_CA_FILE=authority.ca, SMTP_URL=sink.url.replace("127.0.0.1", "localhost"))
    sink.wait("ada@example.com", seconds=20)


@pytest.mark.parametrize("settings", [{"SMTP_STARTTLS": "require"},
                                      {"SMTP_STARTTLS": "try", "SMTP_USERNAME": "u", "SMTP_PASSWORD": "p"}],
                         ids=["required", "login"])
def test_mails_do_not_go_in_the_clear(make_env, make_smtp, settings):
    """A server without STARTTLS: when TLS is required no mail goes, and a password never does, unless it is told to."""
    sink = make_smtp(users={"u": "p"} if "SMTP_USERNAME" in settings else None)
    env = smtp_env(make_env, sink, **settings)
    service = env.start()
    sign_up(env, "ada@example.com")
    waits(env, "STARTTLS")
    assert sink.mails == [] and sink.logins == 0
    service.restart(SMTP_STARTTLS="off")
    sink.wait("ada@example.com", seconds=20)
