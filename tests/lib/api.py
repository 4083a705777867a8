"""An HTTP client of the service that remembers every answer, so that the checker can hold them against the log."""

import threading
import urllib.parse
import uuid
from dataclasses import dataclass, field

import httpx

from . import openapi
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
    repeat: bool = field(default=False, compare=False)  # of an answer, under an Idempotency-Key


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
        if answer.method in ("GET", "HEAD", "OPTIONS") or not campaign_id or "/templates/" in answer.path:
            return  # mail templates are no actions: they have no events
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
            claim = Claim(answer.method, answer.path, version, events, "idempotency-replayed" in answer.headers)
            self._claim(self.claims.setdefault(campaign_id, []), claim)
            if is_campaigns(answer.path):
                self.accounted.add(campaign_id)

    @staticmethod
    def _claim(claims, claim):
        """An answer and its repeats under an Idempotency-Key, in whichever order they came, are one claim."""
        repeats = [i for i, c in enumerate(claims) if c == claim and (c.repeat or claim.repeat)]
        if not repeats:
            claims.append(claim)
        elif not claim.repeat:
            claims[repeats[0]] = claim


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
    """Keep-alive client. Any thread may use it. Every answer is checked against docs/openapi.yaml. Network errors
    (httpx.TransportError) go through to the test, after the ledger has noted that the outcome is unknown."""

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
        openapi.load().check(answer)
        return answer

    # --- the actions; `expect` is the status that must come back, None to take any ---

    def create_campaign(self, name="Launch", expect=201, key="secret", headers=None, **fields):
        return self._act("POST", "/v1/campaigns", {"name": name, **fields}, key, expect, headers)

    def get_campaign(self, campaign_id, expect=200, key="secret"):
        return self._act("GET", f"/v1/campaigns/{campaign_id}", None, key, expect)

    def signup(self, campaign_id, email, referral_code=None, metadata=None, source=None, expect=201, key="publishable",
               headers=None):
        fields = {"email": email}
        for name, value in (("referral_code", referral_code), ("metadata", metadata), ("source", source)):
            if value is not None:
                fields[name] = value
        return self._act("POST", f"/v1/campaigns/{campaign_id}/users", fields, key, expect, headers)

    def get_user(self, campaign_id, user_id, expect=200, key="publishable"):
        return self._act("GET", f"/v1/campaigns/{campaign_id}/users/{user_id}", None, key, expect)

    def verify(self, campaign_id, user_id, token, expect=200, key="publishable", headers=None):
        return self._act("POST", f"/v1/campaigns/{campaign_id}/users/{user_id}/verify", {"token": token}, key, expect, headers)

    def resend_verification(self, campaign_id, user_id, expect=202, key="publishable", headers=None):
        return self._act("POST", f"/v1/campaigns/{campaign_id}/users/{user_id}/resend-verification", None, key, expect, headers)

    def update_campaign(self, campaign_id, expect=200, key="secret", headers=None, **changes):
        return self._act("PATCH", f"/v1/campaigns/{campaign_id}", changes, key, expect, headers)

    def close_campaign(self, campaign_id, expect=200, key="secret", headers=None):
        return self._act("POST", f"/v1/campaigns/{campaign_id}/close", None, key, expect, headers)

    def delete_campaign(self, campaign_id, expect=200, key="secret"):
        return self._act("DELETE", f"/v1/campaigns/{campaign_id}", None, key, expect)

    def create_referral(self, campaign_id, referred_id, expect=201, key="secret", headers=None, **referrer):
        """referrer: referrer_id=… or referral_code=…"""
        fields = {**referrer, "referred_id": referred_id}
        return self._act("POST", f"/v1/campaigns/{campaign_id}/referrals", fields, key, expect, headers)

    def verify_referral(self, campaign_id, referral_id, expect=200, key="secret", headers=None):
        return self._act("POST", f"/v1/campaigns/{campaign_id}/referrals/{referral_id}/verify", None, key, expect, headers)

    def create_reward(self, campaign_id, name="Stickers", delivery="email", expect=201, key="secret", headers=None, **fields):
        fields = {"name": name, "delivery": delivery, **fields}
        return self._act("POST", f"/v1/campaigns/{campaign_id}/rewards", fields, key, expect, headers)

    def grant_reward(self, campaign_id, user_id, reward_id, expect=201, key="secret", headers=None):
        return self._act("POST", f"/v1/campaigns/{campaign_id}/users/{user_id}/rewards", {"reward_id": reward_id}, key, expect,
                         headers)

    # --- reads; `query` are the parameters of a list ---

    def read(self, path, expect=200, key="secret", **query):
        """GET of a path below /v1/campaigns, e.g. read(f"{campaign}/totals")."""
        path = "/v1/campaigns" + (f"/{path}" if path else "")
        return self._act("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""), None, key, expect)

    def read_all(self, path, key="secret", **query):
        """The items of all pages of a list."""
        items = []
        for _ in range(10000):
            page = self.read(path, key=key, **query)
            assert set(page.body) == {"items", "next_cursor"}, page.text
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            query["cursor"] = page["next_cursor"]
        raise AssertionError(f"the list {path} has no end")

    def _act(self, method, path, fields, key, expect, headers=None):
        answer = self.request(method, path, json=fields, key=key, headers=headers)
        return answer if expect is None else answer.expect(expect)
