"""A connection to Postgres that breaks between COMMIT and its answer: the true answer is found and given, or the outcome is
said to be unknown and a retry with the same Idempotency-Key brings the one true answer. On both roads of the lanes, and
whatever the session that was left behind is doing. After each test the checker holds the answers against the events table and Kafka."""

import concurrent.futures
import contextlib
import os
import signal
import time
import uuid

import psycopg
import pytest

from lib.replicas import ReplicatedPostgres
from lib.util import unique, wait_until

SETTINGS = {"MAIL_TRANSPORT": "discard", "GROUPS_ENABLED": "none"}

# How a sign-up goes: with an Idempotency-Key the general road. The statement's name as it stands in a Bind message.
ROADS = {"short": b"\0lane_append\0", "general": b"\0lane_apply\0"}
roads = pytest.mark.parametrize("road", ROADS)


class Case:
    """A campaign with one user, on a service whose Postgres is behind a proxy, and sign-ups of one road."""

    def __init__(self, env, proxy, road):
        self.env, self.proxy, self.road = env, proxy, road
        self.service = env.start()
        self.api = env.api()
        self.campaign = self.api.create_campaign()["campaign_id"]
        self.sign_up("before@example.com")  # connections are warm, and the lane knows the campaign
        self._pool = concurrent.futures.ThreadPoolExecutor(4)

    def sign_up(self, email, key=None):
        headers = {"Idempotency-Key": key or f"k-{uuid.uuid4()}"} if self.road == "general" else None
        return self.api.signup(self.campaign, email, expect=None, headers=headers)

    def try_until_answered(self, email, key=None):
        """As clients do: a 503 is tried again, under the same key."""
        return wait_until(lambda: (lambda a: a if a.status != 503 else None)(self.sign_up(email, key)), 30, "an answer", 0.1)

    def begin(self, email, key=None):
        """A future of the answer."""
        return self._pool.submit(self.sign_up, email, key)

    def lose(self, at_once):
        self.proxy.lose_answer(ROADS[self.road], at_once)

    def wait_lost(self):
        assert self.proxy.lost.wait(20), "the road's statement was sent and its answer lost"

    def users(self):
        return self.env.value("select count(*) from users")

    def users_on_primary(self):
        """What a session of the primary's sees, replicated or not."""
        with self.env.postgres.connect_primary(self.env.database) as db:
            return db.execute("select count(*) from tidings.users").fetchone()[0]

    def assert_found(self, answer, version):
        assert answer.status == 201, answer.text
        assert (answer["version"], answer["events"]) == (version, 1)
        assert "idempotency-replayed" not in answer.headers

    def assert_not_done(self, answer, email, key):
        """The session was ended before it could commit. The action then runs again or, while the lane has no connection, is
        refused with nothing done: either is true, and a retry does it once."""
        if answer.status != 201:
            assert (answer.status, answer.problem) == (503, "database-unavailable"), answer.text
            answer = self.try_until_answered(email, key)
        self.assert_found(answer, 3)
        assert self.users() == 2

    def wait_found(self):
        """The log is written by a thread of its own: the answer may be here before the line is."""
        wait_until(lambda: "the outcome of a lost batch was found" in self.service.log_text(), 5, "the log says so")


@pytest.fixture
def make_case(make_env, make_proxy, stack):
    def make(road, postgres=None, **settings):
        proxy = make_proxy((postgres or stack.postgres).port)
        return Case(make_env(settings={**SETTINGS, **settings}, postgres=postgres, postgres_port=proxy.port), proxy, road)

    return make


@roads
def test_answer_lost_after_commit(make_case, road):
    """The old session is gone. What was committed is found; nobody is asked to try again."""
    case = make_case(road)
    key = "the-key"
    case.lose(at_once=False)
    answer = case.sign_up("ada@example.com", key)
    assert case.proxy.lost.is_set()
    case.wait_found()
    case.assert_found(answer, 3)
    again = case.try_until_answered("ada@example.com", key)
    if road == "general":
        assert again.status == 201 and again.headers["idempotency-replayed"] == "true" and again.body == answer.body
    else:
        assert again.status == 409 and again["user_id"] == answer["user_id"]
    case.assert_found(case.try_until_answered("next@example.com"), 4)


@roads
def test_many_answers_lost_after_commit(make_case, road):
    """A batch: each gets its own version. None of those that wait behind it comes twice."""
    case = make_case(road)
    for number in range(3):
        case.lose(at_once=False)
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(case.sign_up, [f"u{number}-{i}@example.com" for i in range(80)]))
        assert case.proxy.lost.is_set()
        # Those that waited while the connection was down are told so, with nothing done.
        assert {(a.status, a.problem) for a in answers} <= {(201, None), (503, "database-unavailable")}
        assert sum(a.status == 201 for a in answers) >= 1
        case.service.wait_ready()
    case.wait_found()


# --- the session that was left behind still runs ---


@contextlib.contextmanager
def slow_inserts(case, seconds):
    """Sign-ups of addresses that begin with "slow" take that long."""
    with case.env.db() as db:
        db.execute(f"create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep({seconds});"
                   " return new; end $$")
        db.execute("create trigger dawdle before insert on users for each row when (new.email_key like 'slow%')"
                   " execute function dawdle()")
    yield
    with case.env.db() as db:
        db.execute("drop trigger dawdle on users")


def lane_sessions(case):
    return {row[0] for row in case.env.query("select pid from pg_stat_activity where starts_with(application_name, 'tidings-lane-') "
                                             "and datname = current_database()")}


def sleeping(case):
    """The pids of lanes' sessions that are in pg_sleep."""
    return [row[0] for row in case.env.query(
        "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'")]


@roads
def test_session_still_running(make_case, road):
    """It is ended before it can commit."""
    case = make_case(road)
    with slow_inserts(case, 1.5):
        before = lane_sessions(case)
        assert before
        case.lose(at_once=True)
        waiting = case.begin("slow@example.com", "the-key")
        case.wait_lost()
        case.assert_not_done(waiting.result(), "slow@example.com", "the-key")
        assert not before & set(sleeping(case)), "it was ended"


@roads
def test_next_session_begins_before_the_lost_commit_shows(make_case, road):
    """The lane's next session reads the shards' heads, then the lost batch's commit becomes visible and is found, and only then is
    the session ready: it must not be taken for a database that went back in time."""
    case = make_case(road)
    with case.env.db() as db:
        for name, application, seconds in (("end_old_barriers()", "tidings-lane-%", 3), ("end_lane_session(bigint)", "tidings-resolve", 1.5)):
            bare = name.partition("(")[0]
            db.execute(f"alter function {name} rename to real_{bare}")
            parameter, argument = ("p_key bigint", "p_key") if "bigint" in name else ("", "")
            db.execute(f"create function {bare}({parameter}) returns bigint language plpgsql as $$ begin"
                       f" if current_setting('application_name') like '{application}' then perform pg_sleep({seconds}); end if;"
                       f" return real_{bare}({argument}); end $$")
    with slow_inserts(case, 0.7):
        case.lose(at_once=True)
        waiting = case.begin("slow@example.com", "the-key")
        case.wait_lost()
        case.assert_found(waiting.result(), 3)
    case.service.wait_ready()
    case.wait_found()
    case.assert_found(case.try_until_answered("next@example.com"), 4)
    case.service.wait_ready()
    assert case.service.metric("tidings_relay_alarm") == 0, case.service.ready()


@roads
def test_session_stands_still(make_case, road):
    """SIGSTOP: it cannot be ended, and nobody can know whether it will commit. So the outcome is unknown, until it is."""
    case = make_case(road, HTTP_ANSWER_TIMEOUT_MS=4000)
    with slow_inserts(case, 1.5):
        waiting = case.begin("slow@example.com", "the-key")
        stopped = wait_until(lambda: sleeping(case), 5, "the session is in the trigger")
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            case.proxy.reset()
            answer = waiting.result()
            assert (answer.status, answer.problem) == (503, "outcome-unknown"), answer.text
            assert case.users() == 1
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    # It was told to end while it stood still. Afterwards the action may have been run once more.
    retry = case.try_until_answered("slow@example.com", "the-key")
    assert retry.status == 201 or (road == "short" and retry.problem == "email-taken"), retry.text
    assert case.users() == 2


@roads
def test_session_waits_for_a_lock(make_case, road):
    """Somebody holds the shard. The session that waits for it is ended, so it does not get the lock afterwards."""
    case = make_case(road, LANE_LOCK_TIMEOUT_MS=8000)
    shard = case.env.value("select shard from campaigns")
    with psycopg.connect(case.env.postgres.url_for(case.env.database)) as holder:
        holder.execute("select pg_advisory_xact_lock(1953064037, %s)", (shard,))
        before = lane_sessions(case)  # not looked for afterwards: the next one waits for the lock as well
        assert before
        case.lose(at_once=True)
        waiting = case.begin("ada@example.com", "the-key")
        case.wait_lost()
        wait_until(lambda: not before & lane_sessions(case), 10, "it was ended")
    case.assert_not_done(waiting.result(), "ada@example.com", "the-key")


# --- it waits for a standby ---


@pytest.fixture
def pair(stack):
    pair = ReplicatedPostgres(stack.directory / f"own-postgres-{unique()}")
    try:
        yield pair.start()
    finally:
        pair.destroy()


@roads
def test_session_waits_for_a_standby(pair, make_case, road):
    """The commit is on the primary's disk and nowhere else. It counts when the standby has it, not before: ending the session
    that waits makes it visible, which proves nothing."""
    case = make_case(road, postgres=pair, HTTP_ANSWER_TIMEOUT_MS=20000)
    pair.standby.pause()
    case.lose(at_once=True)
    waiting = case.begin("ada@example.com", "the-key")
    case.wait_lost()
    wait_until(lambda: case.users_on_primary() == 2, 10, "the session that waited was ended, and its commit is visible")
    time.sleep(1)
    assert not waiting.done(), f"answered before the standby had it: {waiting.result().text}"
    pair.standby.resume()
    case.assert_found(waiting.result(), 3)

    # The same with a standby that does not come back in time: unknown, and no retry says more than is true.
    case.service.restart(HTTP_ANSWER_TIMEOUT_MS=3000)
    pair.standby.pause()
    case.lose(at_once=True)
    answer = case.begin("bob@example.com", "bobs-key").result()
    assert (answer.status, answer.problem) == (503, "outcome-unknown"), answer.text
    wait_until(lambda: case.users_on_primary() == 3, 10, "it is visible")
    retry = case.sign_up("bob@example.com", "bobs-key")
    assert retry.status == 503, f"answered from what the standby has not got: {retry.text}"
    pair.standby.resume()
    retry = case.try_until_answered("bob@example.com", "bobs-key")
    if road == "general":
        assert retry.status == 201 and (retry["version"], retry["events"]) == (4, 1), retry.text
    else:
        assert retry.status == 409 and retry.problem == "email-taken", retry.text
    assert case.users() == 3
