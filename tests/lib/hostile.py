"""For tests that are not nice to the service: somebody who watches it meanwhile, and what a clear refusal looks like.

watch   somebody who asks all the time: the loop is never stuck; after the test a good request works, nothing was answered
        with 5xx, and no input that was let through has failed in the database
users   /v1/campaigns/…/users of a campaign for raw requests: the checker does not account for it"""

import itertools
import json
import threading
import time

import pytest

from .raw import Raw, request
from .util import SLOWNESS

JSON = "Content-Type: application/json"
_numbers = itertools.count(1)


def fresh():
    """An address that was not used before."""
    return f"user{next(_numbers)}@example.com"


def key(api, kind="secret"):
    return f"Authorization: Bearer {api.keys[kind]}"


def sign_up(api, users, email, *headers):
    """The bytes of a sign-up."""
    return request("POST", users, (key(api), JSON, *headers), json.dumps({"email": email}))


def problem(answer, status, slug=None, field=None):
    """The answer is this problem, fit for people and machines."""
    assert answer is not None and answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert answer["status"] == status and answer["title"], answer
    assert answer["request_id"] == answer.headers["x-request-id"], answer
    assert slug is None or answer.problem == slug, answer
    assert answer.get("field") == field, answer
    return answer


class Watch:
    """Asks for /healthz on a connection that was there before."""

    def __init__(self, service):
        self.worst = 0.0
        self.overload = False  # the test makes it answer 503
        self._stop = threading.Event()
        self._raw = Raw(service, timeout=20)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.01):
            begin = time.monotonic()
            try:
                good = (answer := self._raw.ask("GET", "/healthz")) and answer.status == 200
            except TimeoutError:
                good = False
            self.worst = max(self.worst, time.monotonic() - begin if good else float("inf"))

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._raw.close()
        assert self.worst < 1 * SLOWNESS, f"somebody else has waited {self.worst} s for /healthz"


@pytest.fixture
def watch(service, api):
    watch = Watch(service)
    yield watch
    watch.stop()
    api.signup(api.create_campaign()["campaign_id"], fresh())
    failed = [s for s in service.metrics() if s.startswith("tidings_http_requests_total") and 'status="5' in s
              and 'route="readyz"' not in s and not (watch.overload and 'status="503"' in s)]
    assert not failed, failed
    assert service.metric("tidings_lane_errors_total") == 0, "an input passed all checks and failed in the database"


@pytest.fixture
def users(env, api):
    campaign = api.create_campaign()["campaign_id"]
    env.ledger.not_accounted(campaign)
    return f"/v1/campaigns/{campaign}/users"
