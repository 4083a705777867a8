"""The relays that are compared: how each one's outbox is filled, and how it runs.

Each has a database of its own on the same Postgres, and gets a new topic on the same Kafka for every measurement. All relay
the same events: those of Tidings' events table, and later new ones of the same form."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.parse

from . import generator, metrics
from .peer_tools import CACHE, make_campaigns, must_live, process, process_cpu_s, program
from .service import Client, Service
from .shell import PROJECT, run

CAMPAIGNS = 100
PACED_CONNECTIONS = 64
WRITERS = 8  # connections of pgbench that insert the peers' new events
PGBENCH = "/usr/lib/postgresql/15/bin/pgbench"
AWAY = "127.0.0.1:1"

# The same bytes that src/domain/event.c makes, for the two types that are there.
VALUES = """
select e.id, c.id,
       format('{"id":"%s","type":"%s","account_id":"%s","campaign_id":"%s","data":%s,"timestamp":"%s","version":%s}', e.id,
              case e.type when 1 then 'user.signed_up' when 7 then 'campaign.created' end, c.account_id, c.id, e.data,
              to_char(e.at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), e.version)
from tidings.events e join tidings.campaigns c on c.no = e.aggregate order by e.at, e.shard, e.seq
"""

# Dense seqs per shard and versions per campaign, behind what is there.
FILL = """
set search_path = tidings, public;
insert into events (seq, version, at, shard, aggregate, id, type, format, data)
select c.seq + row_number() over (partition by c.shard order by g.i), c.version + 1 + (g.i - 1) / c.count, c.at + g.i * interval '1 us',
       c.shard, c.no, gen_random_uuid(), 1, 1,
       format('{{"user_id":"%s","campaign_id":"%s","email":"user-%s@example.com"}}', gen_random_uuid(), c.id, g.i)
from generate_series(1, {count}) as g (i)
join (select c.no, c.id, c.shard, count(*) over () as count, row_number() over (order by c.no) as nth,
             (select max(e.seq) from events e where e.shard = c.shard) as seq,
             (select max(e.version) from events e where e.aggregate = c.no) as version,
             (select max(e.at) from events e) as at
      from campaigns c) c on c.nth = (g.i - 1) % c.count + 1
order by g.i
"""

PEER_TABLES = """
create table events (n bigint generated always as identity primary key, id uuid not null, key uuid not null, value text not null);
create table keys (n int primary key, id uuid not null);
create function new_event(p_n int, out id uuid, out key uuid, out value text) language sql volatile as $$
  select e.id, k.id, format('{"id":"%s","type":"user.signed_up","account_id":"%s","campaign_id":"%s","data":{"user_id":"%s","campaign_id":"%s",'
                            '"email":"user-%s@example.com"},"timestamp":"%s","version":%s}', e.id, e.id, k.id, e.id, k.id, p_n,
                            to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_n)
  from keys k, (select gen_random_uuid() as id) e where k.n = 1 + p_n % (select count(*) from keys) $$;
"""


def psql(url, sql, **options):
    return run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", url, input=sql, **options)


class Relay:
    """One kind of relay. reset, fill and running go together; the topic is the one given to reset."""

    def __init__(self, stack, name, database, share=1):
        self.stack, self.name, self.database, self.share = stack, name, database, share
        self.topic = None
        self.directory = stack.directory / f"relay-{database}"
        self.directory.mkdir()
        self.log = self.directory / "log"

    def admin(self, sql):
        """As superuser, in the relay's database."""
        return psql(self.stack.admin_url.rsplit("/", 1)[0] + "/" + self.database, sql).strip()

    def cpu_s(self, started):
        return process_cpu_s(started.pid)

    def made(self):
        """Events so far, where the relay's process makes them."""
        return 0

    def new_topic(self, topic):
        self.topic = topic
        self.stack.create_topic(topic)


# --- Tidings ----------------------------------------------------------------------------------------------------------

class Tidings(Relay):
    sessions = "application_name = 'tidings-relay'"
    start_s = 20

    def __init__(self, stack, binary):
        super().__init__(stack, "Tidings", "relay_tidings")
        stack.create_database(self.database)
        self.service = Service(stack, binary, self.database, "relay-setup", groups="none")
        with self.service:
            self.service.start()
            make_campaigns(self.service, CAMPAIGNS, self.directory)

    def make_events(self, count):
        """Returns how many there are then: those of the campaigns' creation are relayed too."""
        self.admin(FILL.format(count=count))
        self.admin("vacuum analyze")
        return int(self.admin("select count(*) from tidings.events"))

    def values(self):
        """All events as lines for COPY."""
        return subprocess.Popen(["psql", "-qAtX", self.service.url, "-c", f"copy ({VALUES}) to stdout"], stdout=subprocess.PIPE)

    def reset(self, topic):
        self.new_topic(topic)
        self.admin("update tidings.relay_cursors set seq = 0, event_id = null")

    def fill(self, _count):
        """The events are there, and the cursors behind them."""

    def nothing_waits(self):
        self.admin("update tidings.relay_cursors c set event_id = null, seq ="
                   " (select max(e.seq) from tidings.events e where e.shard = c.shard)")

    @contextlib.contextmanager
    def running(self, kafka=True):
        env = {**self.service.env, "KAFKA_TOPIC": self.topic, "GROUPS_ENABLED": "none"}
        if not kafka:
            env["KAFKA_BROKERS"] = AWAY
        self.service.log.write_text("")
        with process([self.service.binary, "serve"], self.service.log, env) as self.service.process:
            yield self.service.process

    def wait_running(self, kafka=True):
        """Whether it relays now, or need not."""
        if kafka:
            self.service.base = self.service.wait_ready()
            self.service.client = Client(self.service.base, self.service.key)
            return True
        deadline = time.monotonic() + 30
        while "Listening on: " not in self.service.log.read_text():
            must_live(self.service.process, "tidings", self.service.log)
            if time.monotonic() > deadline:
                sys.exit("loadtest: tidings does not listen")
            time.sleep(0.05)
        text = self.service.log.read_text()
        self.service.base = text.split("Listening on: ", 1)[1].split()[0]
        self.service.client = Client(self.service.base, self.service.key)
        time.sleep(1)  # for the lanes
        return True

    def made(self):
        return metrics.total(self.service.metrics(), "tidings_events_committed_total")

    def write(self, rate, seconds):
        """Sign-ups over HTTP, each when it is due."""
        return generator.run_wrk(self.service, "signup", self.directory, PACED_CONNECTIONS, seconds, ["campaigns=campaigns"],
                                 rate=rate)


# --- the peers --------------------------------------------------------------------------------------------------------

class Peer(Relay):
    """A relay with a table of its own. Subclasses: tables, insert, live, command, env."""
    sessions = "datname = '{database}' and application_name = 'relay'"
    start_s = 20  # until its first event is in Kafka, at most
    tables = """create table outbox (id bigint generated always as identity primary key, event_id uuid not null, aggregatetype text not null
                default 'event', aggregateid text not null, type text not null default 'event', payload text not null);"""
    empty = "truncate outbox"
    insert = "insert into outbox (event_id, aggregateid, payload) select id, key, value from events where n <= {count} order by n;"
    live = "insert into outbox (event_id, aggregateid, payload) select id, key, value from new_event(:n);"

    def __init__(self, stack, name, database, tidings, share=1):
        super().__init__(stack, name, database, share)
        self.url = stack.create_database(database)
        self.sessions = self.sessions.format(database=database)
        psql(self.url, PEER_TABLES + self.tables)
        with tidings.values() as values:
            run("psql", "-qX", "-v", "ON_ERROR_STOP=1", self.url, "-c", "copy events (id, key, value) from stdin", stdin=values.stdout)
        psql(self.url, "insert into keys select row_number() over (), key from (select distinct key from events) k; analyze")

    def reset(self, topic):
        self.new_topic(topic)
        psql(self.url, self.empty)

    def fill(self, count):
        psql(self.url, self.insert.format(count=count, topic=self.topic))
        self.admin("vacuum analyze")

    def nothing_waits(self):
        pass

    @contextlib.contextmanager
    def running(self):
        env = {**os.environ, "DATABASE_URL": self.url + "?application_name=relay", "KAFKA_BROKERS": self.stack.kafka_brokers,
               "KAFKA_TOPIC": self.topic, "POLL": "10ms"}
        with process(self.command(), self.log, env) as started:
            yield started

    def wait_running(self):
        """Whether an event gets through."""
        psql(self.url, "\\set n 1\n" + self.live.replace("{topic}", self.topic))
        return "all 1" in run(program("topic"), self.stack.kafka_brokers, self.topic, "wait", 1, self.start_s, 1)

    def write(self, rate, seconds):
        """One event a transaction, at a rate."""
        script = self.directory / "live.sql"
        script.write_text("\\set n random(1, 1000000)\n" + self.live.replace("{topic}", self.topic) + "\n")
        script.chmod(0o644)
        run(PGBENCH, "-n", "-M", "prepared", "-f", script, "-c", WRITERS, "-j", 1, "-R", rate, "-T", seconds, self.url)


class Loop(Peer):
    def __init__(self, stack, tidings):
        super().__init__(stack, "pgx + franz-go loop", "relay_loop", tidings)

    def command(self):
        return [CACHE / "bin/loop"]


class Watermill(Peer):
    """The table is Watermill's own: sql/schema_adapter_postgresql.go in watermill-sql."""
    tables = """
      create table watermill_outbox ("offset" bigserial, uuid varchar(36) not null, created_at timestamp not null default current_timestamp,
        payload json, metadata json, transaction_id xid8 not null, primary key (transaction_id, "offset"));
      create function envelope(p_topic text, p_key uuid, p_value text) returns json language sql volatile as $$
        select format('{"destination_topic":"%s","uuid":"%s","payload":"%s","metadata":{"partition_key":"%s"}}', p_topic,
                      gen_random_uuid(), replace(encode(convert_to(p_value, 'UTF8'), 'base64'), E'\\n', ''), p_key)::json $$;
      create procedure fill(p_count int, p_topic text) language plpgsql as $$
        declare e events;
        begin
          for e in select * from events where n <= p_count order by n loop
            insert into watermill_outbox (uuid, payload, metadata, transaction_id)
              values (e.id, envelope(p_topic, e.key, e.value), '{}', pg_current_xact_id());
            commit; -- each event in a transaction of its own, as services write them
          end loop;
        end $$;"""
    empty = "truncate watermill_outbox; drop table if exists watermill_offsets_outbox"
    insert = "set synchronous_commit = off; call fill({count}, '{topic}');"
    live = """insert into watermill_outbox (uuid, payload, metadata, transaction_id)
              select id, envelope('{topic}', key, value), '{}', pg_current_xact_id() from new_event(:n);"""

    def __init__(self, stack, tidings, share):
        super().__init__(stack, "Watermill forwarder", "relay_watermill", tidings, share)

    def command(self):
        return [CACHE / "bin/watermill"]


class Debezium(Peer):
    sessions = "application_name like 'Debezium%'"
    start_s = 120  # on a machine that does other things too

    def __init__(self, stack, tidings):
        super().__init__(stack, "Debezium Server", "relay_debezium", tidings)
        self.admin("create publication peer for table outbox")

    def reset(self, topic):
        super().reset(topic)
        (self.directory / "offsets").unlink(missing_ok=True)
        self.drop_slot()
        self.admin("select pg_create_logical_replication_slot('peer', 'pgoutput')")

    def drop_slot(self):
        self.admin("select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'peer' and active;"
                   "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'peer'")

    def configure(self):
        at = urllib.parse.urlsplit(self.stack.admin_url)
        text = (PROJECT / "loadtest/peers/debezium/application.properties.in").read_text()
        for name, value in {"BROKERS": self.stack.kafka_brokers, "DIRECTORY": self.directory, "HOST": at.hostname, "PORT": at.port,
                            "USER": at.username, "PASSWORD": at.password, "DATABASE": self.database, "TOPIC": self.topic}.items():
            text = text.replace(f"@{name}@", str(value))
        file = self.directory / "application.properties"
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def command(self):
        home = CACHE / "debezium"
        return [home / "jre/bin/java", "-Xmx1g", f"-Dquarkus.config.locations={self.configure()}", "-cp",
                f"{next(home.glob('debezium-server-*runner.jar'))}:{home}/lib/*", "io.debezium.server.Main"]
