"""The fixtures and marks of the end-to-end tests.

    def test_signup(api):                       a service of its own and a client of it
        campaign = api.create_campaign()["campaign_id"]
        api.signup(campaign, "ada@example.com")

stack         the session's Postgres and Kafka; shared, so never stop or change them
env           a database, a topic, a Maildir, an account with keys (lib/env.py); env.start() starts services on it
service       env's first service, running and ready
api           a client of it
make_env      makes more Envs, e.g. on servers of one's own: make_env(kafka=own_kafka, settings={…})
own_kafka     a broker of the test's own, to be stopped, killed, paused (kept for the next such test, if this one passes)
own_postgres  a Postgres cluster likewise
own_tls_kafka, own_tls_postgres  the same with TLS, users and rights (lib/servers.py); kept likewise
make_proxy    make_proxy(port): a TCP proxy that can be cut and held (lib/proxy.py)
smtp          an SMTP server that keeps mails and can fail (lib/smtp.py); set MAIL_TRANSPORT=smtp, SMTP_URL=smtp.url
make_smtp     makes more of them: make_smtp(certificate=…, users={…})

@pytest.mark.settings(LANES=1)              settings of the test's env
@pytest.mark.partitions(48)                 partitions of its topic
@pytest.mark.no_invariants(reason="…")      the checker does not run after this test

After every test that passed and started a service, the checker runs (lib/invariants.py), and every service must stop
cleanly with status 0 and no sanitizer report. What own_kafka, own_postgres, make_proxy and smtp gave is healed before
that: when a part comes back, work goes on by itself."""

import os
import pathlib
import uuid

import pytest

from .env import Env
from .proxy import Proxy
from .servers import Kafka, Postgres, TlsKafka, TlsPostgres
from .service import BINARY
from .smtp import SmtpSink
from .util import SLOWNESS, WORKER, unique


# In names on the servers: these may have been used by a run before (tests/run --stack).
_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:6]


class Stack:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.postgres = Postgres(self.directory / "postgres")
        self.kafka = Kafka(self.directory / "kafka")
        self.spare = {}  # by class: a server that no test has at the moment

    def lend(self, kind):
        """A running server that one test has for itself. Starting one takes seconds, so they are used again."""
        server = self.spare.pop(kind, None) or kind(self.directory / f"own-{kind.kind}-{unique()}")
        return server.start()


@pytest.fixture(scope="session")
def stack():
    if not BINARY or "TIDINGS_TEST_DIR" not in os.environ:
        pytest.exit("run these by tests/run, which starts what they need (tests/run --help)", 2)
    stack = Stack(os.environ["TIDINGS_TEST_DIR"])
    stack.postgres.start()
    stack.kafka.start()
    yield stack
    for server in stack.spare.values():
        server.destroy()
    for template in stack.postgres.templates.values():
        stack.postgres.execute(f"drop database if exists {template['database']} with (force)")


class Extras:
    """What a test has of its own beside its Envs; it outlives them, so that they can come to a clean end."""

    def __init__(self, stack):
        self.stack = stack
        self.things = []

    def add(self, thing):
        self.things.append(thing)
        return thing

    def heal(self):
        for thing in self.things:
            thing.heal()

    def close(self, good):
        """good: the test has passed and all is healed; else a server may be in any state and is of no more use."""
        for thing in reversed(self.things):
            if isinstance(thing, (SmtpSink, Proxy)):
                thing.close()
            elif good:
                self.stack.spare[type(thing)] = thing
            else:
                thing.destroy()


@pytest.fixture
def directory(stack, request):
    """A directory for the test; its Envs' logs stay there until the stack goes."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60].strip("-")
    path = stack.directory / "tests" / f"{_run}-{unique()}-{name}"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def extras(stack, request):
    extras = Extras(stack)
    yield extras
    good = _passed(request.node)
    if good:
        extras.heal()
    extras.close(good)


@pytest.fixture
def make_env(stack, extras, directory, request):
    made = []

    def make(settings=None, postgres=None, kafka=None, partitions=10, postgres_port=None):
        name = f"t{_run}-{unique()}"
        env = Env(directory / name, name, postgres or stack.postgres, kafka or stack.kafka,
                  settings or {}, partitions, postgres_port)
        made.append(env)
        request.node.stash.setdefault(_envs, []).append(env)
        return env

    yield make
    good = False
    try:
        if _passed(request.node):
            extras.heal()
            if not request.node.get_closest_marker("no_invariants"):
                for env in made:
                    if env.services:
                        env.check()
            for env in made:
                env.stop()
            good = True
    finally:
        for env in made:
            # In a failed test, a server of its own may not even run, and goes away as a whole.
            env.close(drop=good or env.postgres is stack.postgres and env.kafka is stack.kafka)


@pytest.fixture
def env(make_env, request):
    settings, partitions = {}, 10
    for mark in reversed(list(request.node.iter_markers("settings"))):  # the closest one last: it wins
        settings.update(mark.kwargs)
    if mark := request.node.get_closest_marker("partitions"):
        partitions = mark.args[0]
    return make_env(settings=settings, partitions=partitions)


@pytest.fixture
def service(env):
    return env.start()


@pytest.fixture
def api(env, service):
    return env.api(service)


@pytest.fixture
def own_kafka(extras):
    return extras.add(extras.stack.lend(Kafka))


@pytest.fixture
def own_postgres(extras):
    return extras.add(extras.stack.lend(Postgres))


@pytest.fixture
def own_tls_kafka(extras):
    return extras.add(extras.stack.lend(TlsKafka))


@pytest.fixture
def own_tls_postgres(extras):
    return extras.add(extras.stack.lend(TlsPostgres))


@pytest.fixture
def make_proxy(extras):
    return lambda target_port: extras.add(Proxy(target_port))


@pytest.fixture
def make_smtp(extras):
    return lambda **options: extras.add(SmtpSink(**options))


@pytest.fixture
def smtp(make_smtp):
    return make_smtp()


# --- hooks -----------------------------------------------------------------------------------------------------------

_envs = pytest.StashKey[list]()
_call_failed = pytest.StashKey[bool]()


def _passed(node):
    return node.stash.get(_call_failed, True) is False


def pytest_configure(config):
    if "TIDINGS_TEST_COUNTS" in os.environ and not WORKER:
        config.pluginmanager.register(Counter(os.environ["TIDINGS_TEST_COUNTS"]))
    config.addinivalue_line("markers", "settings(**settings): settings of the test's env")
    config.addinivalue_line("markers", "partitions(n): partitions of the test's topic")
    config.addinivalue_line("markers", "no_invariants(reason): the checker does not run after this test")


def pytest_collection_modifyitems(items):
    for item in items:
        mark = item.get_closest_marker("no_invariants")
        if mark and not mark.kwargs.get("reason"):
            raise pytest.UsageError(f"{item.nodeid}: no_invariants needs a reason")
        # Under a sanitizer everything takes longer, waiting included.
        if SLOWNESS > 1 and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(120 * SLOWNESS))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.stash[_call_failed] = not report.passed
    if report.failed:
        for env in item.stash.get(_envs, []):
            report.sections.append((f"{env.name} ({report.when})", env.describe()))


class Counter:
    """Leaves the counts for tests/run. Lives in the process that collects the others' reports."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.good = {}  # by test: whether nothing of it went wrong, and it was not skipped

    def pytest_runtest_logreport(self, report):
        good = report.passed and not hasattr(report, "wasxfail")
        self.good[report.nodeid] = self.good.get(report.nodeid, True) and good

    def pytest_collectreport(self, report):
        if report.failed:  # a file that cannot be read
            self.good[report.nodeid] = False

    def pytest_sessionfinish(self):
        passed = sum(self.good.values())
        self.path.write_text(f"{passed} {len(self.good) - passed}\n")
