"""The one binary: its subcommands, its settings, what it says when something is wrong."""

import concurrent.futures
import re

import pytest

from lib.util import PROJECT


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
    ("KAFKA_WORKER_POOL_SIZE", "-1"), ("MAIL_TRANSPORT", "pigeon"), ("TOKEN_SECRET", "short"), ("DATABASE_URL", ""),
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
