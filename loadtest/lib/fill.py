"""Fills a database with users and events by loadtest/fill.sql, while no tidings runs on it: without indexes first, since
that takes minutes and not hours, then they are made as they were."""

import os
import re
import subprocess
import sys

from .generator import stopped_at_the_end
from .shell import PROJECT, run, say

TABLES = ("events", "users", "referrals", "verification_requests", "verifications", "verified_referrals")
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off", "max_wal_size": "16GB",
        "maintenance_work_mem": "1GB"}

# What has to be true of the rows: each query finds what breaks it.
RULES = {
    "places have gaps": "select from users group by campaign having count(*) <> max(place)",
    "versions have gaps": "select from events where aggregate > 0 group by aggregate having count(*) <> max(version)",
    "seqs have gaps": "select from events group by shard having count(*) <> max(seq)",
    "verified referrals have gaps": "select from verified_referrals group by campaign, referrer having count(*) <> max(n)",
    "cursors are not at the heads": "select from outbox",
}

CURSORS = """
insert into relay_cursors (shard, seq, event_id)
  select shard, seq, id from (select distinct on (shard) shard, seq, id from events order by shard desc, seq desc) e
on conflict (shard) do update set seq = excluded.seq, event_id = excluded.event_id, saved_at = now();
"""

# Indexes and the constraints that own them: (table, how to drop it, how to make it).
INDEXES = """
select c.relname, coalesce('alter table ' || c.relname || ' drop constraint ' || k.conname, 'drop index ' || i.indexrelid::regclass),
       coalesce('alter table ' || c.relname || ' add constraint ' || k.conname || ' ' || pg_get_constraintdef(k.oid),
                pg_get_indexdef(i.indexrelid))
from pg_index i join pg_class c on c.oid = i.indrelid left join pg_constraint k on k.conindid = i.indexrelid
where c.relnamespace = 'tidings'::regnamespace and c.relname in ({tables})
"""


def side_by_side(service, *scripts):
    """Lists of commands, each list in a session of its own."""
    sessions = [subprocess.Popen(service.psql(*commands), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for commands in scripts]
    with stopped_at_the_end(*sessions):
        for session in sessions:
            error = session.communicate()[1]
            if session.returncode != 0:
                sys.exit(f"loadtest/run: {error}")


def set_fast(stack, on):
    commands = [f"alter system set {name} = '{value}'" if on else f"alter system reset {name}" for name, value in FAST.items()]
    run("psql", "-qX", "-v", "ON_ERROR_STOP=1", stack.admin_url,
        *(part for command in [*commands, "select pg_reload_conf()"] for part in ("-c", command)))


def fill(service, users):
    """users in all; the campaigns are there, and nothing runs."""
    say(f"filling {service.topic}'s database with {users:,} users")
    run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-v", f"users={users}", f"{service.url}?options=-csearch_path%3Dtidings",
        "-f", PROJECT / "loadtest/fill.sql")
    set_fast(service.stack, True)
    try:
        rows = service.query(INDEXES.format(tables=", ".join(f"'{t}'" for t in TABLES)), separator="|").splitlines()
        indexes = [row.split("|") for row in rows]
        for _, drop, _ in indexes:
            service.query(drop)
        makes = {table: [make for name, _, make in indexes if name == table] for table in TABLES}
        # One session a table: several at once would leave pages with room, and nothing would seem to grow later.
        side_by_side(service, commands_for("events", makes["events"]),
                     [command for table in TABLES if table != "events" for command in commands_for(table, makes[table])])
        service.query(CURSORS)
        for table in TABLES:
            service.query(f"drop procedure fill_{table}")
        service.query("drop function fill_address; drop function fill_id; drop table fill")
        for broken, found in RULES.items():
            if service.query(f"select count(*) from ({found}) q") != "0":
                sys.exit(f"loadtest/run: the filled database is not as it should be: {broken}")
    finally:
        set_fast(service.stack, False)
    run("psql", "-qX", service.stack.admin_url, "-c", "checkpoint")
    os.sync()  # what was written without fsync must not come due while something is measured


def commands_for(table, indexes):
    return [f"call fill_{table}()", *(command for make in indexes for command in index_commands(make)), f"vacuum (freeze, analyze) {table}"]


def index_commands(make):
    """Made at once, an index is 90 % full: then the first new addresses, which go anywhere, would split every page of it. One
    that grew by itself is about 70 % full."""
    if "email" not in make:
        return [make]
    name = re.search("INDEX ([^ ]+) ON", make).group(1)
    return [f"{make} with (fillfactor = 70)", f"alter index {name} reset (fillfactor)"]
