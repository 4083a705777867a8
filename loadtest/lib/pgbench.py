"""The yardstick: pgbench's one INSERT a transaction, on the same cluster."""

import os
import re
import sys

from .shell import run

PGBENCH = "/usr/lib/postgresql/15/bin/pgbench"
CLIENTS = (16, 64)
LEAST_S = 3  # pgbench's time includes opening its connections


def prepare(service):
    service.query("create table pgbench_signups (id bigint generated always as identity primary key, campaign uuid not null,"
                  " email text not null, data text not null, at timestamptz not null default now())")


def rate(service, clients, seconds):
    script = service.directory / "insert.sql"
    script.write_text("insert into tidings.pgbench_signups (campaign, email, data) values (gen_random_uuid(),"
                      " md5(random()::text) || '@example.com', repeat('x', 150));\n")
    os.chmod(script, 0o644)
    text = run(PGBENCH, "-n", "-M", "prepared", "-f", script, "-c", clients, "-j", "2", "-T", max(seconds, LEAST_S), service.url)
    found = re.search(r"tps = ([\d.]+)", text)
    if not found:
        sys.exit(f"loadtest/run: pgbench got nothing done in its time:\n{text}")
    return float(found.group(1))
