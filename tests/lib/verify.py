"""What the tests of `tidings verify` share: running it, histories to be verified, and topics that are changed by hand."""

import json

import pytest
from confluent_kafka import Producer

from .util import SLOWNESS, unique

FAULTS = ("missing", "wrong_shard", "seq_holes", "version_holes", "unknown", "misplaced", "out_of_order", "differing")


def run_verify(env, *args, **settings):
    """The report, whether all is right or not; its parts must add up."""
    done = env.tidings("verify", "--json", *args, timeout=60, **settings)
    assert done.returncode in (0, 1), f"{done.returncode}: {done.stderr}"
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    records = report["records"]
    assert report["events"]["committed"] == sum(report["events"][n] for n in ("in_kafka", "waiting", "expired", "missing",
                                                                                   "wrong_shard"))
    assert records["read"] - report["events"]["in_kafka"] == sum(
        records[n] for n in ("repeats", "purged", "unknown", "misplaced"))
    return report


def faults_of(report):
    """The faults that are there, e.g. {"missing": 1, "email-workers missing": 2}."""
    counts = {**report["events"], **report["records"]}
    found = {name: counts[name] for name in FAULTS if counts[name]}
    for group, counts in report["groups"].items():
        found.update({f"{group} {name}": counts[name] for name in ("missing", "doubled") if counts[name]})
    assert report["ok"] == (not found)
    named = {(c.get("group", "") + " " + c["fault"]).strip() for c in report["culprits"]}
    assert named == set(found), f"culprits {report['culprits']} are not those of {found}"
    return found


def verify_ok(env, *args, **settings):
    report = run_verify(env, *args, **settings)
    assert report["ok"], report
    assert report["culprits"] == [] and faults_of(report) == {}
    return report


def verify_user(env, api, campaign, user):
    api.verify(campaign, user["user_id"], env.make_token(campaign, user["user_id"]))


def make_history(env, api, campaigns=3, users=8):
    """Sign-ups, referrals, verifications, rewards by mail, milestones, changes. The campaigns' ids."""
    made = []
    for c in range(campaigns):
        campaign = api.create_campaign(f"c{c}", milestones=[2, 5])["campaign_id"]
        made.append(campaign)
        api.create_reward(campaign, threshold=2)
        ada = api.signup(campaign, "ada@example.com")
        for i in range(users):
            user = api.signup(campaign, f"u{i}@example.com", referral_code=ada["referral_code"])
            if i % 2 == 0:
                verify_user(env, api, campaign, user)
        api.update_campaign(campaign, points_per_referral=3)
    return made


@pytest.fixture
def silent_history(env, api, service):
    """A small history without groups. The service has stopped."""
    campaigns = make_history(env, api, 2, 10)
    verify_ok(env, "--no-groups", "--wait", "60")
    service.stop()
    return campaigns


class Copy:
    """A topic with the same records, to be changed: what verify says when KAFKA_TOPIC is this one."""

    def __init__(self, env, partitions=10):
        self.env = env
        self.partitions = partitions
        self.records = [(r.partition, r.key, r.value) for r in sorted(env.records(), key=lambda r: (r.partition, r.offset))]

    def index(self, campaign, version):
        """The place of a campaign's version in .records."""
        return next(i for i, (_, key, value) in enumerate(self.records)
                    if key == campaign.encode() and json.loads(value)["version"] == version)

    def verify(self, *args):
        name = f"{self.env.topic}-{unique()}"  # never one that was deleted just now: its end may still be under way
        self.env.kafka.create_topic(name, self.partitions)
        try:
            producer = Producer({"bootstrap.servers": self.env.kafka.brokers, "acks": "all"})
            errors = []
            for partition, key, value in self.records:
                producer.produce(name, value, key, partition, on_delivery=lambda e, m: errors.append(e))
            producer.flush(20 * SLOWNESS)
            assert errors == [None] * len(self.records)
            return run_verify(self.env, "--no-groups", *args, KAFKA_TOPIC=name)
        finally:
            self.env.kafka.delete_topic(name)

    def faults(self, *args):
        return faults_of(self.verify(*args))


def execute(env, sql, *args):
    with env.db() as connection:
        return connection.execute(sql, args).rowcount
