"""What is old goes: at a price that goes by what is deleted, whatever the table has been through, and nothing else goes."""

import uuid

import pytest

from lib.util import SLOWNESS, wait_until
from lib.webhook import WebhookTarget

KEEP_DAYS, BATCH, PER_DAY = 5, 500, 1500
TRIMS = {
    "handled": "handled_trim({days}, {rows})",
    "webhook_deliveries": "webhook_trim({days}, 86400, {rows})",
}
TIMES = {"handled": "at", "webhook_deliveries": "created_at"}
ROWS = {  # %s: their times, by n
    "handled": "insert into handled select 'analytics-workers', {id}, {at} from generate_series(1, {count}) n",
    "webhook_deliveries": "insert into webhook_deliveries (webhook, event_id, type, created_at, next_at) "
                          "select 1 + n % 7, {id}, 'user.signed_up', {at}, now() from generate_series(1, {count}) n",
}


class Table:
    """One of the tables that are trimmed, and a session that trims it."""

    def __init__(self, connection, name):
        self.connection, self.name = connection, name
        connection.execute(f"alter table {name} set (autovacuum_enabled = off)")
        self.connection.execute("select pg_stat_force_next_flush()")

    def value(self, sql, *args):
        return self.connection.execute(sql, args).fetchone()[0]

    def add(self, count, at, id="gen_random_uuid()"):
        self.connection.execute(ROWS[self.name].format(count=count, at=at, id=id))

    def day(self, ago):
        """A day's rows, in order of time, with ids as they are made; deliveries change twice."""
        at = f"now() - interval '{ago} days' + n * interval '{86400 // PER_DAY} s'"
        milliseconds = f"to_hex((extract(epoch from {at}) * 1000)::bigint)"
        self.add(PER_DAY, at, f"(lpad({milliseconds}, 12, '0') || '7' || substr(md5(random()::text), 1, 19))::uuid")
        if self.name == "webhook_deliveries":
            self.connection.execute("update webhook_deliveries set leased_until = now() where status = 'pending'")
            self.connection.execute("update webhook_deliveries set leased_until = null, next_at = null, status = 'delivered' "
                                    "where status = 'pending'")

    def vacuum(self):
        self.connection.execute(f"vacuum {self.name}")

    def count(self, where="true"):
        return self.value(f"select count(*) from {self.name} where {where}")

    def forget(self):
        """As if the walk had begun more than a day ago."""
        self.connection.execute("update trims set begun_at = now() - interval '25 hours'")

    def trim(self, days=KEEP_DAYS):
        """How many rows a trim deleted."""
        return self.value("select " + TRIMS[self.name].format(days=days, rows=BATCH))

    def looked_at(self):
        """Rows fetched by indexes, and entries of them, until now."""
        self.connection.execute("select pg_stat_force_next_flush()")
        return self.connection.execute(
            "select (select idx_tup_fetch from pg_stat_user_tables where relid = %s::regclass), "
            "(select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relid = %s::regclass)",
            (self.name, self.name)).fetchone()

    def measured(self, days=KEEP_DAYS):
        """A trim: (rows deleted, rows fetched, index entries read, pages)."""
        left = self.count()
        rows, entries = self.looked_at()
        [[plan]] = self.connection.execute("explain (analyze, buffers, timing off, format json) select "
                                           + TRIMS[self.name].format(days=days, rows=BATCH)).fetchone()
        pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        after = self.looked_at()
        return left - self.count(), after[0] - rows, after[1] - entries, pages


@pytest.fixture
def target():
    target = WebhookTarget()
    yield target
    target.close()


@pytest.fixture(params=list(TRIMS))
def table(request, env):
    with env.db() as connection:
        yield Table(connection, request.param)


def test_days_of_rows(table):
    """Rows of days come, and those of other days go, so that old pages get new rows: the trim looks at what it deletes, and at
    nothing when there is nothing to delete."""
    for ago in range(4 * KEEP_DAYS, -1, -1):
        table.day(ago)
        while table.trim(KEEP_DAYS + ago) == BATCH:
            pass
        table.vacuum()
    left = table.count()
    assert abs(left - KEEP_DAYS * PER_DAY) <= PER_DAY and table.count(f"{TIMES[table.name]} < now() - interval '6 days'") == 0
    assert table.trim() == 0  # plans are made anew after a vacuum, from the catalog
    deleted, rows, entries, pages = table.measured()
    assert deleted == 0 and rows == 0 and entries <= 20 and pages <= 60, (deleted, rows, entries, pages)
    # As keeping a day less does: three batches, and one that finds the end. Nobody vacuums meanwhile.
    costs = [table.measured(KEEP_DAYS - 1) for _ in range(5)]
    assert [c[0] for c in costs] == [BATCH] * (PER_DAY // BATCH) + [0] * (5 - PER_DAY // BATCH), costs
    for deleted, rows, entries, pages in costs:
        assert rows <= 2 * deleted and entries <= 2 * deleted + 20 and pages <= 12 * deleted + 60, costs


def test_what_was_deleted_is_not_walked_over_again(table, env):
    """Not even while a transaction keeps Postgres from forgetting any of it."""
    for ago in range(8, 0, -1):
        table.day(ago)
    table.trim(9)  # its plans are made
    table.vacuum()
    with env.db() as old:
        old.execute("begin isolation level repeatable read")
        old.execute("select 1 from events")
        costs = [table.measured(1) for _ in range(7 * PER_DAY // BATCH + 1)]
    assert sum(c[0] for c in costs) == 7 * PER_DAY and costs[-1][0] == 0
    for deleted, rows, entries, pages in costs:
        assert entries <= 2 * deleted + 20 and pages <= 12 * deleted + 60, costs


def test_nothing_young_is_trimmed(table):
    """Whatever time the ids have: what goes by is the row's own time."""
    young_id, old_id = "('fff' || substr(gen_random_uuid()::text, 4))::uuid", "('000' || substr(gen_random_uuid()::text, 4))::uuid"
    old, young = f"now() - interval '{KEEP_DAYS} days 1 second'", f"now() - interval '{KEEP_DAYS} days' + interval '5 minutes'"
    table.add(700, old, young_id)
    table.add(700, young, old_id)
    table.add(100, "now() + interval '1 year'", old_id)  # the clock was wrong
    assert [table.trim() for _ in range(3)] == [BATCH, 200, 0]
    assert (table.count(), table.count(f"{TIMES[table.name]} < {old}")) == (800, 0)
    deleted, rows, entries, _ = table.measured()
    assert deleted == 0 and rows == 0 and entries <= 20


def test_rows_that_come_in_late_go_within_a_day(table):
    """What is behind where the walk is: it begins anew once a day, also if it found nothing the last time."""
    old = "now() - interval '100 days'"
    table.add(10, "now() - interval '10 days'")
    assert table.trim() == 10
    table.add(20, old)
    assert table.trim() == 0 and table.count() == 20
    table.forget()
    assert table.trim() == 20
    table.forget()
    assert table.trim() == 0
    table.add(30, old)
    assert table.trim() == 0
    table.forget()
    assert table.trim() == 30 and table.count() == 0


def test_one_process_trims_at_a_time(table, env):
    """The others do not wait for it."""
    table.add(10, "now() - interval '10 days'")
    with env.db() as other:
        other.execute("begin")
        assert other.execute("select trim_begin(%s) is not null", (table.name,)).fetchone()[0]
        table.connection.execute("set lock_timeout = 1")
        assert table.trim() == 0 and table.count() == 10
        other.execute("rollback")
    assert table.trim() == 10


def test_deliveries_under_way_stay(env):
    with env.db() as connection:
        table = Table(connection, "webhook_deliveries")
        table.add(10, "now() - interval '10 days'")
        connection.execute("update webhook_deliveries set leased_until = now() + interval '1 minute' where event_id = "
                           "any (array(select event_id from webhook_deliveries limit 3))")
        assert table.trim() == 7 and table.count() == 3
        connection.execute("update webhook_deliveries set leased_until = now() - interval '1 second'")
        table.forget()
        assert table.trim() == 3


@pytest.mark.settings(WEBHOOK_ALLOW_PRIVATE="on", DB_STALL_MS=20000 * SLOWNESS)  # until then the trim is not given up
def test_a_slow_trim_holds_no_call_up(env, target):
    """It waits for a lock, as it may for a slow disk; webhooks are called all the same."""
    with env.db() as connection:
        connection.execute("begin")
        connection.execute("lock table trims")
        service = env.start()
        waiting = ("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' "
                   "and query like '%%webhook_trim%%'")
        wait_until(lambda: env.value(waiting) == 1, 30, "a trim waits")
        api = env.api(service)
        api.request("POST", "/v1/webhooks", json={"url": target.url()}).expect(201)
        campaign = api.create_campaign()["campaign_id"]
        for i in range(5):
            api.signup(campaign, f"{uuid.uuid4()}@example.com")
            target.wait(count=i + 2)
        assert env.value(waiting) == 1
        connection.execute("rollback")
    wait_until(lambda: env.value("select begun_at = reached + interval '30 days' from trims where name = 'webhook_deliveries'"), 20,
               "the trim is done")
