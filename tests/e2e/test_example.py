"""docs/adding-a-consumer.md's example: a consumer that is one file and one row, beside those that there are."""

import pathlib
import subprocess

import pytest

from lib import service as processes
from lib.util import PROJECT, SLOWNESS, wait_until

BINARY = pathlib.Path(processes.BINARY).parent / "tidings_example"


@pytest.fixture
def example(monkeypatch, env):
    """The env's services have the example's handler; its table is there."""
    monkeypatch.setattr(processes, "BINARY", str(BINARY))
    with env.postgres.connect(env.database) as connection:
        connection.execute("set role tidings; set search_path = tidings")
        connection.execute((PROJECT / "docs/examples/fraud.sql").read_text())
    return env.start()


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_the_example_counts_each_referral_once(env, example):
    assert "fraud-workers (10 workers; processes: referral.created)" in example.log_text()
    api = env.api(example)
    campaign = api.create_campaign()["campaign_id"]
    ada, bob = (api.signup(campaign, f"{name}@example.com") for name in ("ada", "bob"))
    for i in range(7):
        api.signup(campaign, f"a{i}@example.com", referral_code=ada["referral_code"])
    api.signup(campaign, "b@example.com", referral_code=bob["referral_code"])

    def counts():
        return {str(r): int(n) for r, n in env.query("select referrer_id, sum(referrals) from fraud_counts group by 1")}

    wanted = {ada["user_id"]: 7, bob["user_id"]: 1}
    wait_until(lambda: counts() == wanted, 20, lambda: f"each referral is counted: {counts()}")
    # All events again: what was counted stays as it is.
    env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
    wait_until(lambda: example.metric("tidings_handled_total", group="fraud-workers", outcome="skipped") >= 8, 20, "they came again")
    assert counts() == wanted


def test_the_handler_without_kafka(env, example):
    """tests/unit/test_example.c: records in, effects out."""
    example.stop()
    program = BINARY.parent / "unit" / "test_example"
    done = subprocess.run([program], capture_output=True, text=True, timeout=60 * SLOWNESS,
                          env={**processes.base_env(env.directory), "TIDINGS_EXAMPLE_DATABASE_URL": env.settings["DATABASE_URL"]})
    assert done.returncode == 0, done.stdout + done.stderr
    assert env.query("select referrals from fraud_counts") == [(2,)]


def test_what_the_document_shows_is_the_example(env):
    """The pieces of code in the document are the file's own."""
    document = (PROJECT / "docs/adding-a-consumer.md").read_text()
    example = (PROJECT / "docs/examples/fraud.c").read_text()
    shown = document.split("```c\n")[1].split("```")[0]
    for line in shown.splitlines():
        assert line.split("/*")[0].strip() in example, line
