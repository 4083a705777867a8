"""The one binary: its subcommands, its settings, what it says when something is wrong."""

import concurrent.futures
import re

import pytest

from lib.util import PROJECT, wait_until


def test_help_and_version(env):
    assert env.tidings("--version").stdout.startswith("tidings 0.")
    for args in (["--help"], ["-h"], ["serve", "--help"], ["migrate", "--help"], ["keys", "--help"], ["config", "--help"]):
        done = env.tidings(*args)
        assert done.returncode == 0 and "Usage: tidings" in done.stdout, args
    for args in ([], ["nonsense"], ["serve", "x"], ["migrate", "x"], ["keys"], ["keys", "nonsense"], ["config", "x"],
                 ["keys", "create"], ["keys", "create", "--account"], ["keys", "create", "--account", "x"],
                 ["keys", "create", "--new-account", "n", "--email", "nonsense"], ["keys", "revoke"], ["keys", "revoke", "x"],
                 ["keys", "create", "--new-account", "n", "--email", "a@b.c", "--kind", "odd"], ["keys", "list", "--odd"]):
        done = env.tidings(*args)
        assert done.returncode == 2 and done.stderr, args


def test_config_shows_every_setting_and_no_secret(env):
    text = env.run("config")
    table = (PROJECT / "src/core/config_table.h").read_text()
    names = re.findall(r'X\(\w+, "([A-Z_]+)"', table)
    assert len(names) > 40
    for name in names:
        assert re.search(rf"\b{name}\b", text), name
    assert env.settings["TOKEN_SECRET"] not in text
    password = env.settings["DATABASE_URL"].split(":")[2].split("@")[0]
    assert password not in text and env.settings["KAFKA_BROKERS"] in text


@pytest.mark.parametrize("option, file", [("--env", "config/tidings.env.example"), ("--markdown", "docs/settings.md")])
def test_files_made_from_the_settings_are_up_to_date(env, option, file):
    assert env.run("config", option) == (PROJECT / file).read_text(), f"run: tidings config {option} > {file}"


@pytest.mark.parametrize("name, value", [
    ("LANES", "0"), ("LANES", "65"), ("LANES", "two"), ("LANES", "1.5"), ("LANES", "99999999999999999999"),
    ("KAFKA_WORKER_POOL_SIZE", "-1"), ("KAFKA_WORKER_POOL_SIZE", "0"), ("KAFKA_WORKER_POOL_SIZE", "1000000"),
    ("EMAIL_WORKER_POOL_SIZE", "0"), ("REWARD_WORKER_POOL_SIZE", "1000000"), ("WORKER_DB_CONNECTIONS", "0"),
    ("MAIL_TRANSPORT", "pigeon"), ("TOKEN_SECRET", "short"), ("DATABASE_URL", ""), ("MAIL_RATE_PER_CAMPAIGN", "-1"),
    ("LOG_FORMAT", "xml"),
])
def test_wrong_setting_stops_the_start(env, name, value):
    done = env.tidings("serve", **{name: value})
    assert done.returncode == 2 and name in done.stderr, done.stderr


def test_unusable_values_stop_the_start(env):
    done = env.tidings("serve", TOKEN_SECRET=None)
    assert done.returncode == 2 and "TOKEN_SECRET" in done.stderr
    for value in ("nonsense", "127.0.0.1", "127.0.0.1:99999", "300.0.0.1:80", "[::1:80"):
        done = env.tidings("serve", HTTP_LISTEN=value)
        assert done.returncode != 0 and "HTTP_LISTEN" in done.stderr, (value, done.stderr)
    done = env.tidings("serve", GROUPS_ENABLED="email-workers,odd-workers", HTTP_LISTEN="127.0.0.1:0", timeout=20)
    assert done.returncode != 0 and "odd-workers" in done.stderr + done.stdout
    done = env.tidings("serve", STATS_TOPIC=env.topic)
    assert done.returncode == 2 and "STATS_TOPIC" in done.stderr


def test_address_in_use(env, service):
    done = env.tidings("serve", HTTP_LISTEN=f"127.0.0.1:{service.port}")
    assert done.returncode == 1 and str(service.port) in done.stderr


def test_listing_at_start(env, service):
    text = service.log_text()
    assert f"Domain events topic: {env.topic}" in text
    assert f"Kafka brokers: [{env.settings['KAFKA_BROKERS']}]" in text
    assert "Worker pool size: 10 per consumer group" in text
    assert re.search(r"\* email-workers \(10 workers; processes: user\.\*, referral\.verified", text)
    assert re.search(r"\* position-workers \(1 worker; processes: referral\.verified, campaign\.updated\)", text)
    assert "analytics-workers" not in text, "without STATS_TOPIC"
    assert re.search(r"\* reward-workers \(10 workers; processes: reward\.earned\)", text)


def test_json_log(env):
    import json

    service = env.start(LOG_FORMAT="json")
    lines = [line for line in service.log_text().splitlines() if line.startswith("{")]
    assert lines and all({"time", "level", "msg"} <= set(json.loads(line)) for line in lines)


# --- migrate ---


@pytest.fixture
def empty(env):
    """The address of an empty database."""
    name = f"{env.database}_empty"
    env.postgres.execute(f"create database {name} owner tidings")
    yield env.postgres.url_for(name)
    env.postgres.execute(f"drop database {name} with (force)")


def test_migrate_from_many_hosts_at_once(env, empty):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: env.tidings("migrate", DATABASE_URL=empty), range(8)))
    assert [d.returncode for d in done] == [0] * 8, [d.stderr for d in done]
    assert sum("applied 0001" in d.stdout for d in done) == 1
    assert "applied" not in env.run("migrate", DATABASE_URL=empty), "a second time there is nothing to do"


def test_migrate_refuses_a_newer_schema(env):
    env.query("with x as (insert into schema_files (name, hash) values ('9999_future.sql', 'x') returning 1) select * from x")
    done = env.tidings("migrate")
    assert done.returncode == 1 and "newer" in done.stderr
    assert "newer" in env.tidings("keys", "list").stderr


def test_migrate_refuses_a_changed_file(env):
    env.query("with x as (update schema_files set hash = 'x' where name like '0001%%' returning 1) select * from x")
    assert env.tidings("migrate").returncode == 1


def test_migrate_makes_functions_anew(env):
    env.query("with x as (update schema_files set hash = 'x' where name = 'fn_lanes.sql' returning 1) select * from x")
    assert "fn_lanes.sql" in env.tidings("keys", "list").stderr
    assert "applied fn_lanes.sql" in env.run("migrate")


def test_shards_are_fixed_by_the_first_migrate(env, empty):
    env.run("migrate", DATABASE_URL=empty, SHARDS=3)
    env.run("migrate", DATABASE_URL=empty, SHARDS=7)
    import psycopg

    with psycopg.connect(empty) as connection:
        assert connection.execute("select shards from tidings.installation").fetchall() == [(3,)]


def test_no_database(env):
    done = env.tidings("migrate", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert done.returncode == 1 and "cannot reach the database" in done.stderr


# --- keys ---


def test_keys_are_shown_once_and_stored_hashed(env):
    made = dict(line.split("=", 1) for line in env.run("keys", "create", "--account", env.account_id).splitlines())
    assert re.fullmatch(r"tk_sec_[A-Za-z0-9_-]{43}", made["api_key"])
    listed = env.run("keys", "list")
    assert made["key_id"] in listed and made["api_key"] not in listed
    dump = str(env.query("select hash, prefix, name from api_keys"))
    assert made["api_key"][15:] not in dump
    assert "no account" in env.tidings("keys", "create", "--account", "00000000-0000-7000-8000-000000000000").stderr
    assert "no key" in env.tidings("keys", "revoke", "00000000-0000-7000-8000-000000000000").stderr
    env.run("keys", "revoke", made["key_id"])
    revoked = next(line for line in env.run("keys", "list").splitlines() if made["key_id"] in line)
    assert re.search(r"20\d\d-\d\d-\d\dT\S+\s+20\d\d-", revoked)


def test_relay_rewind(env, service, api):
    """What was sent goes out again, in order and with the same bytes (the checker sees to that), and nothing happens twice."""
    campaign = api.create_campaign()["campaign_id"]
    for i in range(5):
        api.signup(campaign, f"u{i}@example.com")
    env.wait_mail("u4@example.com")
    service.stop()
    shard, seq = env.query("select shard, max(seq) from events group by shard")[0]
    half = env.value("select at from events where seq = 4")
    out = env.run("relay", "rewind", "--since", half.isoformat().replace("+00:00", "Z"))
    assert f"shard {shard}: from {seq} to 3" in out and "3 events will be sent again" in out
    assert "0 events" in env.run("relay", "rewind", "--shard", str(shard), "--to", "5")  # never forwards
    assert f"shard {shard}: from 3 to 0" in env.run("relay", "rewind", "--shard", str(shard), "--to", "0")
    service.start()
    wait_until(lambda: len(env.records()) == 12, 20, "all six show again")
    assert len({r.value for r in env.records()}) == 6
    wait_until(lambda: service.metric("tidings_group_lag_records", group="email-workers") == 0, 20, "the mails are looked at")
    assert env.value("select count(*) from mails") == 5 == len(env.mails())


def test_relay_rewind_goes_no_further_than_groups_remember(env, service, api):
    api.signup(api.create_campaign()["campaign_id"], "ada@example.com")
    wait_until(lambda: env.value("select max(seq) from relay_cursors") == 2, 10, "both are in Kafka")
    service.stop()
    env.query("update events set at = at - interval '20 days' where seq = 1 returning 1")
    assert "1 events will be sent again" in env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
    env.query("update events set at = at + interval '20 days' where seq = 1 returning 1")
    service.start()


def test_relay_arguments(env):
    for arguments in ((), ("rewind",), ("forward",), ("rewind", "--since"), ("rewind", "--since", "yesterday"), ("rewind", "--to", "5"),
                      ("rewind", "--to", "x", "--shard", "1"), ("rewind", "--to", "-1", "--shard", "1"),
                      ("rewind", "--since", "2026-01-01T00:00:00Z", "--to", "1", "--shard", "1"), ("rewind", "--shard", "1"),
                      ("rewind", "--since", "2026-01-01T00:00:00Z", "--x", "1")):
        done = env.tidings("relay", *arguments)
        assert done.returncode == 2 and "Usage: tidings relay rewind" in done.stderr, arguments
    assert env.tidings("relay", "--help").returncode == 0
    done = env.tidings("relay", "rewind", "--to", "0", "--shard", "99")
    assert done.returncode == 1 and "there is no shard 99" in done.stderr
