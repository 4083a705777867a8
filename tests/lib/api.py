"""An HTTP client of the service that remembers every answer, so that the checker can hold them against the log."""

import threading
import uuid
from dataclasses import dataclass, field

import httpx

from .util import SLOWNESS


@dataclass
class Answer:
    method: str
    path: str
    status: int
    headers: httpx.Headers
    text: str
    body: object  # parsed JSON, or None

    def __getitem__(self, name):
        return self.body[name]

    def get(self, name, default=None):
        return self.body.get(name, default) if isinstance(self.body, dict) else default

    @property
    def problem(self):
        """The slug of a problem+json answer: "email-taken"; None for other answers."""
        kind = self.get("type")
        return kind.rsplit(":", 1)[1] if isinstance(kind, str) and kind.startswith("urn:tidings:problem:") else None

    def expect(self, status):
        assert self.status == status, f"{self.method} {self.path}: {self.status}, not {status}: {self.text}"
        return self


@dataclass
class Claim:
    """What the service said about the events of one campaign: versions version-events+1 … version are this action's."""

    method: str
    path: str
    version: int
    events: int


@dataclass
class Ledger:
    """What was answered, per campaign. Shared by all Api clients of an Env; any thread.

    A campaign is accounted for when it was created through one of those clients: then every event it has must be claimed
    by exactly one answer. A test that drives such a campaign in another way (raw sockets, a load generator) says so with
    not_accounted(), and then its answers are only checked against what is there."""

    claims: dict = field(default_factory=dict)    # campaign id → [Claim]
    unknown: dict = field(default_factory=dict)   # campaign id → [what was sent without a known outcome]
    accounted: set = field(default_factory=set)   # campaign ids
    faults: list = field(default_factory=list)    # answers that are wrong by themselves
    lock: threading.Lock = field(default_factory=threading.Lock)

    def not_accounted(self, campaign_id):
        with self.lock:
            self.accounted.discard(campaign_id)

    def note_unknown(self, campaign_id, what):
        with self.lock:
            self.unknown.setdefault(campaign_id, []).append(what)

    def note(self, answer):
        campaign_id = campaign_of(answer.path) or answer.get("campaign_id")
        if answer.method in ("GET", "HEAD", "OPTIONS") or not campaign_id:
            return
        if answer.status == 503 and answer.problem == "outcome-unknown" or answer.status in (500, 502, 504):
            self.note_unknown(campaign_id, f"{answer.method} {answer.path}: {answer.status} {answer.problem}")
            return
        if not 200 <= answer.status < 300:
            return
        version, events = answer.get("version"), answer.get("events")
        with self.lock:
            if not isinstance(version, int) or not isinstance(events, int):
                self.faults.append(f"{answer.method} {answer.path}: {answer.status} without version and events: {answer.text}")
                return
            self.claims.setdefault(campaign_id, []).append(Claim(answer.method, answer.path, version, events))
            if is_campaigns(answer.path):
                self.accounted.add(campaign_id)


def is_campaigns(path):
    return path.split("?")[0].rstrip("/") == "/v1/campaigns"


def campaign_of(path):
    """The campaign id in a path, in the form that the service writes ids in; None when there is none."""
    parts = path.split("?")[0].split("/")
    if len(parts) > 3 and parts[1:3] == ["v1", "campaigns"]:
        try:
            return str(uuid.UUID(parts[3]))
        except ValueError:
            pass
    return None


class Api:
    """Keep-alive client. Any thread may use it. Network errors (httpx.TransportError) go through to the test, after the
    ledger has noted that the outcome is unknown."""

    def __init__(self, url, keys, ledger, timeout=20):
        self.url = url
        self.keys = keys  # {"secret": …, "publishable": …}
        self.ledger = ledger
        self._http = httpx.Client(base_url=url, timeout=timeout * SLOWNESS, trust_env=False,
                                  limits=httpx.Limits(max_connections=512, max_keepalive_connections=512))

    def close(self):
        self._http.close()

    def request(self, method, path, json=None, key="secret", content=None, headers=None):
        """key: "secret", "publishable", a key itself, or None for no Authorization. content: raw bytes as body."""
        headers = dict(headers or {})
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {self.keys.get(key, key)}")
        if content is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            r = self._http.request(method, path, json=json, content=content, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise  # nothing was sent
        except httpx.TransportError as error:
            if method not in ("GET", "HEAD", "OPTIONS"):
                self.ledger.note_unknown(campaign_of(path), f"{method} {path}: {error!r}")
            raise
        try:
            body = r.json()
        except ValueError:
            body = None
        answer = Answer(method, path, r.status_code, r.headers, r.text, body)
        self.ledger.note(answer)
        return answer

    # --- the actions; `expect` is the status that must come back, None to take any ---

    def create_campaign(self, name="Launch", expect=201, key="secret", **fields):
        return self._act("POST", "/v1/campaigns", {"name": name, **fields}, key, expect)

    def get_campaign(self, campaign_id, expect=200, key="secret"):
        return self._act("GET", f"/v1/campaigns/{campaign_id}", None, key, expect)

    def signup(self, campaign_id, email, referral_code=None, metadata=None, expect=201, key="publishable", headers=None):
        fields = {"email": email}
        if referral_code is not None:
            fields["referral_code"] = referral_code
        if metadata is not None:
            fields["metadata"] = metadata
        return self._act("POST", f"/v1/campaigns/{campaign_id}/users", fields, key, expect, headers)

    def get_user(self, campaign_id, user_id, expect=200, key="publishable"):
        return self._act("GET", f"/v1/campaigns/{campaign_id}/users/{user_id}", None, key, expect)

    def verify(self, campaign_id, user_id, token, expect=200, key="publishable"):
        return self._act("POST", f"/v1/campaigns/{campaign_id}/users/{user_id}/verify", {"token": token}, key, expect)

    def _act(self, method, path, fields, key, expect, headers=None):
        answer = self.request(method, path, json=fields, key=key, headers=headers)
        return answer if expect is None else answer.expect(expect)
