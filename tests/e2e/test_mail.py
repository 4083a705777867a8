"""Mails as people get them: text and HTML, a campaign's own templates, unsubscribing, a campaign's pace; values that try to be
more than values; mail servers that go wrong in the middle of it."""

import re
import time
import urllib.parse

import httpx
import pytest

from lib.bad_smtp import STAGES, BadSmtp
from lib.smtp import PERMANENT
from lib.util import SLOWNESS, wait_until

SMTP = {"MAIL_TRANSPORT": "smtp", "GROUPS_ENABLED": "email-workers", "RETRY_BASE_MS": 20, "RETRY_MAX_MS": 200,
        "SMTP_TIMEOUT_MS": 2000 * SLOWNESS, "VERIFY_RESEND_SECONDS": 0, "VERIFY_RESEND_PER_DAY": 1000}
ADA = "ada@example.com"
OWNER = "owner@example.com"


@pytest.fixture
def by_smtp(make_env, smtp):
    env = make_env(settings={**SMTP, "SMTP_URL": smtp.url})
    env.start()
    return env


def execute(env, sql, *args):
    with env.db() as connection:
        connection.execute(sql, args)


def statuses(env):
    return dict(env.query("select status, count(*)::int from mails group by 1"))


def wait_statuses(env, wanted, seconds=20):
    wait_until(lambda: statuses(env) == wanted, seconds, lambda: f"mails are {wanted}; they are {statuses(env)}")


def template(campaign, kind="user.signed_up", rest=""):
    return f"/v1/campaigns/{campaign}/templates/{kind}{rest}"


# --- what they say ---


def test_text_and_html(by_smtp, smtp):
    name = "<b>Käse & \"Brot\"</b> \u2713"
    api = by_smtp.api()
    campaign = api.create_campaign(name, milestones=[1])["campaign_id"]
    ada = api.signup(campaign, ADA)
    mail = smtp.wait(ADA)[0]
    assert mail.subject == f"Welcome to {name}: please confirm your e-mail address"
    assert [part.get_content_type() for part in mail.message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert f"Welcome to {name}!" in mail.text and ada["referral_link"] in mail.text
    assert "Welcome to &lt;b&gt;Käse &amp; &quot;Brot&quot;&lt;/b&gt; \u2713!" in mail.html and "<b>Käse" not in mail.html
    assert f'href="{ada["referral_link"].replace("&", "&amp;")}"' in mail.html
    assert f"/v1/verify?token={mail.token}\"" in mail.html
    assert mail.unsubscribe_url in mail.text and mail.unsubscribe_url in mail.html
    assert smtp.wait(OWNER)[0].unsubscribe_url != mail.unsubscribe_url
    assert all(len(line) <= 998 for line in mail.raw.split(b"\r\n"))


def test_values_stay_values(by_smtp, smtp):
    """What no request could bring into the database either: line ends and whole headers in names and addresses."""
    service = by_smtp.services[0]
    service.stop()
    service.start(GROUPS_ENABLED="none")
    api = by_smtp.api()
    evil = "x\r\nBcc: evil@example.com\r\n\r\n<script>"
    for bad in (evil, "x\ny", "x\u0085y"):
        assert api.create_campaign(bad, expect=422)["field"] == "name"
    campaign = api.create_campaign()["campaign_id"]
    for i in range(5):
        api.signup(campaign, f"u{i}@example.com")
    execute(by_smtp, "update campaigns set name = %s", evil)
    addresses = {1: "u1@example.com\r\nBcc: evil@example.com", 2: "u2@example.com, evil@example.com",
                 3: "u3@example.com>\r\nRCPT TO:<evil@example.com", 4: "u4\u00e4@example.com\nx"}
    for place, address in addresses.items():
        execute(by_smtp, "update users set email = %s where place = %s", address, place + 1)
    service.restart(GROUPS_ENABLED="email-workers")
    wait_statuses(by_smtp, {"sent": 1, "failed": 4})
    assert all("address is not valid" in reason for (reason,) in by_smtp.query("select reason from dead_letters"))
    [mail] = smtp.mails
    assert mail.rcpt_tos == ["u0@example.com"] and mail.message["Bcc"] is None
    assert mail.subject.startswith("Welcome to xBcc: evil@example.com<script>:")
    assert "x  Bcc: evil@example.com    <script>" in mail.text
    assert "&lt;script&gt;" in mail.html and "<script>" not in mail.html


# --- a campaign's own ---


def test_own_templates(by_smtp, smtp):
    api = by_smtp.api()
    campaign, other = (api.create_campaign(f"Launch {i}", milestones=[])["campaign_id"] for i in range(2))
    assert api.request("GET", f"/v1/campaigns/{campaign}/templates").expect(200)["items"] == []
    assert api.request("GET", template(campaign)).expect(404).problem == "no-template"
    own = {"subject": "{{campaign}} \u2713", "text": "Own.\n{{verify_link}}", "html": "<i>{{campaign}}</i> {{referral_code}}"}
    put = api.request("PUT", template(campaign), json=own).expect(200)
    assert {k: put[k] for k in own} == own and put["template"] == "user.signed_up"
    assert api.request("GET", template(campaign)).expect(200).body == put.body
    api.signup(campaign, ADA)
    mail = smtp.wait(ADA)[0]
    assert mail.subject == "Launch 0 \u2713" and mail.text.startswith("Own.\r\nhttp") and mail.token
    assert mail.html.startswith("<i>Launch 0</i> ")
    api.signup(other, "bob@example.com")
    assert smtp.wait("bob@example.com")[0].subject.startswith("Welcome to Launch 1")
    # Text alone, and another kind has the service's still.
    api.request("PUT", template(campaign), json={"subject": "Two", "text": "Two."}).expect(200)
    carol = api.signup(campaign, "carol@example.com")["user_id"]
    mail = smtp.wait("carol@example.com")[0]
    assert (mail.subject, mail.text, mail.html, mail.message.get_content_type()) == ("Two", "Two.\r\n", None, "text/plain")
    api.verify(campaign, carol, by_smtp.make_token(campaign, carol))
    assert smtp.wait("carol@example.com", 2)[1].subject == "Your e-mail address is confirmed for Launch 0"
    assert [t["template"] for t in api.request("GET", f"/v1/campaigns/{campaign}/templates")["items"]] == ["user.signed_up"]
    assert api.request("GET", f"/v1/campaigns/{other}/templates")["items"] == []
    # One that another version put there and this one cannot read: the service's is used.
    execute(by_smtp, "update mail_templates set text = '{{no_such_value}}'")
    api.signup(campaign, "dan@example.com")
    assert smtp.wait("dan@example.com")[0].subject.startswith("Welcome to Launch 0")
    api.request("DELETE", template(campaign)).expect(204)
    assert api.request("DELETE", template(campaign)).expect(404).problem == "no-template"
    api.signup(campaign, "eve@example.com")
    assert smtp.wait("eve@example.com")[0].subject.startswith("Welcome to Launch 0")


@pytest.mark.settings(GROUPS_ENABLED="none", MAIL_TRANSPORT="discard", PURGE_DELAY_SECONDS=0, UPKEEP_INTERVAL_MS=100)
def test_templates_by_request(env, api):
    """What is refused, previews, and what goes with the campaign."""
    campaign = api.create_campaign("<Launch>", landing_url="https://shop.example/w")["campaign_id"]
    good = {"subject": "s", "text": "t", "html": "h"}
    for field, value, detail in [
            ("subject", "{{x}}", "unknown placeholder {{x}}"), ("subject", "a\nb", "control"), ("subject", "a\r\nBcc: x", "control"),
            ("subject", "", "empty"), ("subject", "x" * 201, "at most 200"), ("subject", None, "required"), ("subject", 1, "string"),
            ("text", "a\n{{ campaign }}", "line 2: unknown placeholder"), ("text", "a\n\n{{campaign", "line 3: {{ without }}"),
            ("text", "x" * 999, "line 1 is longer than 998 bytes"), ("text", "a\r\n", "control"), ("text", "a\0", "\\u0000"),
            ("text", "x\n" * 10001, "at most 20000"), ("html", "<p>{{verify_link}}</p>\n{{verifylink}}", "line 2"),
            ("html", "x" * 50001, "at most 50000"),
            ("text", "{{email}}" * 51, "more than 50 placeholders"), ("subject", "{{" + "é" * 100 + "}}", "unknown placeholder"), ("html", "", "empty"), ("html", ["x"], "string"), ("to", ADA, "no such member")]:
        for method, rest in (("PUT", ""), ("POST", "/preview")):
            body = {k: v for k, v in {**good, field: value}.items() if v is not None}
            answer = api.request(method, template(campaign, rest=rest), json=body)
            assert answer.status in (400, 422) and detail in answer["detail"], (field, answer)
            assert answer.get("field") in (field, None) and (answer.status == 400 or answer["field"] == field), answer
    assert api.request("GET", f"/v1/campaigns/{campaign}/templates")["items"] == []
    for kind in ("user.renamed", "campaign.created", "reward", "x" * 300, "user.signed_up%00"):
        assert api.request("PUT", template(campaign, kind), json=good).expect(404).problem == "no-template"
    # Previews: of the service's, of the campaign's own, of what is sent.
    kinds = ("user.signed_up", "user.verified", "user.verification_requested", "referral.verified", "reward.earned", "reward.released",
             "campaign.milestone_reached")
    for kind in kinds:
        seen = api.request("POST", template(campaign, kind, "/preview")).expect(200)
        assert "<Launch>" in seen["subject"] + seen["text"] and "&lt;Launch&gt;" in seen["html"]
        assert "{{" not in seen.text and "<Launch>" not in seen["html"]
    draft = {"subject": "{{position}}", "text": "{{email}} {{referral_link}}", "html": "<b>{{campaign}}</b>"}
    seen = api.request("POST", template(campaign, rest="/preview"), json=draft).expect(200)
    assert seen["subject"] == "42" and seen["html"] == "<b>&lt;Launch&gt;</b>\n"
    assert seen["text"].startswith("ada@example.com https://shop.example/w?ref=")
    assert api.request("GET", template(campaign)).expect(404)  # nothing is kept
    api.request("PUT", template(campaign), json={"subject": "Own", "text": "{{campaign}}"}).expect(200)
    seen = api.request("POST", template(campaign, rest="/preview"), json={}).expect(200)
    assert (seen["subject"], seen["text"], seen["html"]) == ("Own", "<Launch>\n", None)
    # The largest that there can be.
    api.request("PUT", template(campaign), json={"subject": "s", "text": "\u00e4\n" * 9000, "html": "x" * 20000}).expect(200)
    # All of it goes with the campaign.
    user = api.signup(campaign, ADA)["user_id"]
    execute(env, "insert into mail_unsubscribes values (1, 0), (1, 1)")
    api.close_campaign(campaign)
    api.delete_campaign(campaign)
    for method, rest in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/preview")):
        body = good if method == "PUT" else None
        assert api.request(method, template(campaign, rest=rest), json=body).expect(404).problem == "no-campaign"
    link = f"/v1/unsubscribe?token={env.make_unsubscribe_token(campaign, user)}"
    assert api.request("POST", link, key=None).status == 404
    wait_until(lambda: env.query("select 1 from campaigns where purged_at is not null"), 15, "it is purged")
    assert env.query("select * from mail_templates") == [] and env.query("select * from mail_unsubscribes") == []


# --- unsubscribing ---


def one_click(mail):
    """As RFC 8058 has it: whoever reads the mail's headers posts this, without a cookie or a question."""
    return httpx.post(mail.unsubscribe_url, content=b"List-Unsubscribe=One-Click", trust_env=False,
                      headers={"Content-Type": "application/x-www-form-urlencoded"})


def test_unsubscribe(make_env, smtp):
    env = make_env(settings={**SMTP, "SMTP_URL": smtp.url})
    service = env.start()
    service.restart(PUBLIC_URL=service.url + "/")
    api = env.api()
    campaign, other = (api.create_campaign(milestones=[2, 3])["campaign_id"] for _ in range(2))
    ada = api.signup(campaign, ADA)
    api.signup(other, ADA)
    welcome = next(m for m in smtp.wait(ADA, 2) if api.get_user(campaign, ada["user_id"])["referral_link"] in m.text)
    # Looking changes nothing.
    page = httpx.get(welcome.unsubscribe_url, trust_env=False)
    assert page.status_code == 200 and "<button>Unsubscribe</button>" in page.text
    assert env.query("select * from mail_unsubscribes") == []
    # Who only may verify, or has changed a character, may not.
    token = urllib.parse.parse_qs(urllib.parse.urlsplit(welcome.unsubscribe_url).query)["token"][0]
    for bad in (welcome.token, token[:-1], token[:-1] + ("A" if token[-1] != "A" else "B"), "", token + "A"):
        assert httpx.post(f"{service.url}/v1/unsubscribe", data={"token": bad}, trust_env=False).status_code == 422
        assert httpx.get(f"{service.url}/v1/unsubscribe", params={"token": bad}, trust_env=False).status_code == 422
    assert api.request("POST", f"/v1/campaigns/{campaign}/users/{ada['user_id']}/verify", json={"token": token}).status == 422
    assert env.query("select * from mail_unsubscribes") == []
    # A mail that waits for its turn at the server is not sent any more either.
    smtp.fail(ADA)
    bob = api.signup(campaign, "bob@example.com", referral_code=ada["referral_code"])
    api.verify(campaign, bob["user_id"], env.make_token(campaign, bob["user_id"]))
    wait_until(lambda: env.query("select 1 from mails where kind = 'referral.verified' and attempts > 0"), 15, "an attempt")
    for _ in range(2):
        answer = one_click(welcome)
        assert answer.status_code == 200 and "You are unsubscribed" in answer.text
    assert env.query("select campaign, place from mail_unsubscribes") == [(1, 1)]
    wait_until(lambda: env.value("select status from mails where kind = 'referral.verified'") == "unsubscribed", 20, statuses(env))
    smtp.heal()
    # Not what comes now, but what is asked for; the other campaign's and others' mails go on.
    api.verify(campaign, ada["user_id"], env.make_token(campaign, ada["user_id"]))
    wait_until(lambda: env.value("select count(*) from mails where status = 'unsubscribed'") == 2, 15, lambda: statuses(env))
    dan = api.signup(campaign, "dan@example.com")["user_id"]  # and a milestone
    owner = smtp.wait(OWNER, 2)[-1]
    dan_url = smtp.wait("dan@example.com")[0].unsubscribe_url
    assert httpx.post(f"{service.url}/v1/unsubscribe", data={"token": dan_url.split("token=")[1]}, trust_env=False).status_code == 200
    api.resend_verification(campaign, dan)
    assert smtp.wait("dan@example.com", 2)[1].token
    assert len(smtp.to(ADA)) == 2 and len(smtp.wait("bob@example.com", 2)) == 2
    # The account, for one campaign's milestones.
    assert one_click(owner).status_code == 200
    for name in ("x", "y"):
        api.signup(other, f"{name}@example.com")
    assert len(smtp.wait(OWNER, 4)) == 4
    assert (0,) in env.query("select place from mail_unsubscribes")
    assert env.query("select * from dead_letters") == []
    assert service.metric("tidings_mails_total", outcome="unsubscribed") == 2
    verified = env.tidings("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.settings(MAIL_TRANSPORT="discard", VERIFY_RESEND_SECONDS=0)
def test_unsubscribed_in_runs(env, service, api):
    """The same where mails are only recorded, many at a time."""
    campaign, other = (api.create_campaign(milestones=[4])["campaign_id"] for _ in range(2))
    users = [api.signup(campaign, f"u{i}@example.com")["user_id"] for i in range(3)]
    api.signup(other, "o@example.com")
    wait_statuses(env, {"discarded": 4})
    service.restart(GROUPS_ENABLED="none")
    for user in (users[1], "0" * 8 + "-0000-0000-0000-" + "0" * 12):
        link = f"/v1/unsubscribe?token={env.make_unsubscribe_token(campaign, user)}"
        assert api.request("POST", link, key=None).status == 200
    for user in users:
        api.resend_verification(campaign, user)
        api.verify(campaign, user, env.make_token(campaign, user))
    api.signup(campaign, "u4@example.com")
    for i in range(3):
        api.signup(other, f"o{i}@example.com")
    service.restart(GROUPS_ENABLED="all")
    wait_statuses(env, {"discarded": 4 + 3 + 2 + 1 + 3 + 1, "unsubscribed": 2})
    assert sorted(env.query("select kind, recipient from mails where status = 'unsubscribed'")) == \
        [("campaign.milestone_reached", OWNER), ("user.verified", "u1@example.com")]
    assert service.metric("tidings_mails_total", outcome="unsubscribed") == 2


# --- a campaign's pace ---


def test_pace_of_a_campaign(make_env, smtp):
    """A campaign with many mails sends them at its pace; what waits long waits in Postgres, in order; others go on."""
    env = make_env(settings={**SMTP, "SMTP_URL": smtp.url})
    service = env.start(GROUPS_ENABLED="none")
    api = env.api()
    fast, slow = (api.create_campaign(milestones=[])["campaign_id"] for _ in range(2))
    for i in range(30):
        ada = api.signup(slow, f"u{i}@example.com")["user_id"]
    api.resend_verification(slow, ada)  # behind the first of its key
    began = time.monotonic()
    service.restart(GROUPS_ENABLED="email-workers", MAIL_RATE_PER_CAMPAIGN=60)
    held = "select state, attempts, reason from dead_letters order by id"
    wait_until(lambda: len(env.query(held)) >= 12, 20, lambda: f"most wait in Postgres: {env.query(held)}")
    for i in range(10):
        api.signup(fast, f"f{i}@example.com")
        if i == 2:  # its own share is used up; those are sent at once all the same
            smtp.wait("f2@example.com", seconds=10)

    def sent():
        return sum(m.rcpt_tos[0].startswith("u") for m in smtp.mails)

    wait_until(lambda: sent() >= 3, 10, "the first go at once")
    assert sent() <= time.monotonic() - began + 3, "a mail a second, and two seconds' worth at once"
    rows = env.query(held)
    assert {row[1] for row in rows} == {0} and {row[0] for row in rows} <= {"retry", "parked"}
    assert any("no more than 60 mails a minute" in row[2] for row in rows)
    # Without a limit all that waits goes out when it is its turn: now.
    service.restart(MAIL_RATE_PER_CAMPAIGN=0)
    execute(env, "update dead_letters set next_at = now() where state = 'retry'")
    wait_statuses(env, {"sent": 41}, 30)
    assert len(smtp.mails) == 41 and env.query(held) == []
    assert [bool(re.match("Here is the link", m.text)) for m in smtp.to("u29@example.com")] == [False, True]


# --- servers that go wrong ---


@pytest.fixture
def bad_smtp():
    servers = []

    def make(*args, **options):
        servers.append(BadSmtp(*args, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def test_server_goes_wrong_at_each_step(make_env, bad_smtp):
    """Whatever it does, wherever: the attempt ends in time, the mail is sent in the end, and nothing is given up."""
    hows = ("close", "stall", "endless", "no end", "nonsense", "421 4.3.2 going down", "451 4.3.0 later")
    good = (None, None)  # in between: after many failures in a row the group waits for seconds
    server = bad_smtp([step for stage in STAGES for how in hows for step in ((stage, how), good)])
    env = make_env(settings={**SMTP, "SMTP_URL": server.url, "SMTP_TIMEOUT_MS": 150 * SLOWNESS, "RETRY_MAX_ATTEMPTS": 1000})
    service = env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    recipients = [f"u{i}@example.com" for i in range(60)]
    for recipient in recipients:
        api.signup(campaign, recipient)
    server.wait(recipients, 60)
    wait_statuses(env, {"sent": 60})
    assert server.plan == [] and env.query("select * from dead_letters") == []
    assert service.ready()[0] == 200


def test_server_refuses_and_does_not_answer_quit(make_env, bad_smtp):
    """Its refusal counts, and nobody waits for the rest of what it has to say longer than SMTP_TIMEOUT_MS and a second."""
    faults = [(stage, "451 4.3.0 later", how) for stage in ("mail", "rcpt", "data", "message")
              for how in ("stall", "endless", "no end", "nonsense", "close")]
    server = bad_smtp(faults)
    env = make_env(settings={**SMTP, "SMTP_URL": server.url, "SMTP_TIMEOUT_MS": 300 * SLOWNESS, "EMAIL_WORKER_POOL_SIZE": 4,
                             "RETRY_MAX_ATTEMPTS": 1000})
    service = env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    recipients = [f"u{i}@example.com" for i in range(8)]
    for recipient in recipients:
        api.signup(campaign, recipient)
    server.wait(recipients, 50)  # a single wait of libcurl's own is 120 seconds
    wait_statuses(env, {"sent": 8})
    assert server.plan == [] and env.query("select * from dead_letters") == []
    began = time.monotonic()
    server.plan[:] = [("rcpt", "550 5.1.1 nobody", "stall")]
    api.signup(campaign, ADA)
    wait_statuses(env, {"sent": 8, "failed": 1})
    assert time.monotonic() - began < 10 * SLOWNESS
    [(reason,)] = env.query("select reason from dead_letters")
    assert "550" in reason, "the refusal is what is remembered, not the silence after it"
    assert service.ready()[0] == 200


def test_connection_is_used_again(make_env, bad_smtp):
    server = bad_smtp(keep=True)
    env = make_env(settings={**SMTP, "SMTP_URL": server.url, "EMAIL_WORKER_POOL_SIZE": 1})
    env.start()
    api = env.api()
    campaign = api.create_campaign(milestones=[])["campaign_id"]
    for i in range(20):
        api.signup(campaign, f"u{i}@example.com")
    wait_statuses(env, {"sent": 20})
    assert server.connections <= 5  # one, unless the machine stalls


def test_refused_for_good_at_the_end(by_smtp, smtp):
    """The recipient was fine, the message is not: given up, with the answer; the next one goes over the same connection."""
    api = by_smtp.api()
    campaign = api.create_campaign(milestones=[])["campaign_id"]
    smtp.fail(ADA, PERMANENT, stage="data")
    api.signup(campaign, ADA)
    wait_statuses(by_smtp, {"failed": 1})
    api.signup(campaign, "bob@example.com")
    smtp.wait("bob@example.com")
    [(reason,)] = by_smtp.query("select reason from dead_letters")
    assert "550" in reason
