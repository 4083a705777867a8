"""The yardstick: pgbench's one INSERT a transaction, on the same cluster."""

import os
import re
import sys

from .shell import run, say

PGBENCH = "/usr/lib/postgresql/15/bin/pgbench"
CLIENTS = (1, 16, 64)
RATE_CLIENTS = (16, 64)  # the better rate of these is the yardstick; one client's latency is another
LEAST_S = 3              # pgbench's time includes opening its connections


def prepare(service):
    service.query("create table pgbench_signups (id bigint generated always as identity primary key, campaign uuid not null,"
                  " email text not null, data text not null, at timestamptz not null default now())")


def rate(service, clients, seconds):
    script = service.directory / "insert.sql"
    script.write_text("insert into tidings.pgbench_signups (campaign, email, data) values (gen_random_uuid(),"
                      " md5(random()::text) || '@example.com', repeat('x', 150));\n")
    os.chmod(script, 0o644)
    for longer in (1, 2, 4):  # a machine that is busy with other things may not even open the connections in time
        text = run(PGBENCH, "-n", "-M", "prepared", "-f", script, "-c", clients, "-j", min(clients, 2),
                   "-T", max(seconds, LEAST_S) * longer, service.url)
        if found := re.search(r"tps = ([\d.]+)", text):
            return float(found.group(1))
    sys.exit(f"loadtest/run: pgbench got nothing done in its time:\n{text}")


def rates(service, seconds, clients=CLIENTS):
    """{clients: transactions a second}"""
    found = {}
    for n in clients:
        say(f"pgbench, {n} client{'s' if n > 1 else ''}, {seconds} s")
        found[n] = rate(service, n, seconds)
    return found


def yard(found):
    return max(found[n] for n in RATE_CLIENTS)
