"""Random actions of several clients at once against the rules as plain Python (lib/model.py): answers, events and what can
be read must agree, event by event.

A failing seed is printed. To use it again (each client then makes the same choices, as far as timing lets it), or to run
longer:
    TIDINGS_MODEL_SEED=17 TIDINGS_MODEL_SECONDS=300 TIDINGS_MODEL_CLIENTS=24 tests/run tests/e2e/test_model.py"""

import copy
import json
import os
import pickle
import random
import threading
import time
import urllib.parse
import uuid
from collections import defaultdict

import pytest

from lib import model, openapi
from lib.util import SLOWNESS, wait_until

SEED = int(os.environ.get("TIDINGS_MODEL_SEED", 0)) or random.SystemRandom().randrange(1, 10**6)
SECONDS = float(os.environ.get("TIDINGS_MODEL_SECONDS", 8))
CLIENTS = int(os.environ.get("TIDINGS_MODEL_CLIENTS", 8))
RESEND = {"seconds": 1, "per_day": 3}
FOREVER = 4102444800  # tokens end in 2100: the same user's is the same each time


def at_number(number):
    """An id that nobody has, which carries a number."""
    return str(uuid.UUID(bytes=uuid.uuid4().bytes[:12] + number.to_bytes(4, "big")))


# --- what is asked ----------------------------------------------------------------------------------------------------


class Names:
    """What the clients know of one campaign. Any thread; lists only grow."""

    def __init__(self, campaign_id):
        self.id = campaign_id
        self.addresses = [f"u{i}@example.com" for i in range(25)]
        self.users, self.codes, self.referrals, self.rewards = [], [], [], []
        self.recent = []  # (op, args, key) that were sent with a key
        self.version = 1
        self.asked = 0
        self.closed = self.gone = False

    def learn(self, call):
        body = call.body
        self.version = max(self.version, body.get("version", 0))
        for member, known in (("user_id", self.users), ("referral_code", self.codes), ("referral_id", self.referrals),
                              ("reward_id", self.rewards)):
            for source in (body, *body.get("items", ())):
                value = source.get(member)
                if isinstance(value, str) and value not in known:
                    known.append(value)
        self.closed |= call.problem == "campaign-closed" or body.get("status") == "closed"
        self.gone |= call.problem == "no-campaign" or body.get("status") == "deleted"


class Chooser:
    """One client's choices."""

    def __init__(self, rng, campaigns):
        self.rng = rng
        self.campaigns = campaigns  # shared by the clients
        self.numbers = 0

    def next(self):
        """(op, Names or None, args, key)"""
        rng = self.rng
        live = [c for c in self.campaigns if not c.gone]
        if len(live) < 2 or len(live) < 4 and rng.random() < 0.002:
            return "create_campaign", None, {"name": rng.choice(("Launch", "Café “1”")), **self._settings()}, self._new_key()
        names = rng.choice(live if rng.random() < 0.97 else self.campaigns)
        names.asked += 1
        if names.recent and rng.random() < 0.12:
            op, args, key = rng.choice(names.recent[-20:])
            if rng.random() < 0.8:
                return op, names, args, key
            op, args = self._action(names)
            return (op, names, args, key) if self._takes_key(op) else (op, names, args, None)
        op, args = self._action(names)
        key = self._new_key() if self._takes_key(op) and rng.random() < 0.25 else None
        if key:
            names.recent.append((op, args, key))
        return op, names, args, key

    @staticmethod
    def _takes_key(op):
        return openapi.load().operations[op].takes("Idempotency-Key")

    def _new_key(self):
        self.numbers += 1
        return f"{self.rng.getrandbits(48):x}-{self.numbers}"

    def _settings(self):
        rng = self.rng
        found = {"points_per_referral": rng.randrange(4), "milestones": rng.choice(([2, 5, 10], [3], [])),
                 "landing_url": rng.choice((None, "https://shop.example/launch", "https://shop.example/?a=1"))}
        return {k: v for k, v in found.items() if rng.random() < 0.6}

    def _action(self, names):
        rng = self.rng
        weights = {"sign_up": 24, "verify_user": 16, "create_referral": 9, "verify_referral": 9, "grant_reward": 9,
                   "create_reward": 3, "update_campaign": 5, "request_verification": 6, "close_campaign": 0.1,
                   "delete_campaign": 0.5, "get_user": 4, "get_campaign": 2, "get_totals": 3, "get_referral": 2,
                   "get_reward": 2, "list_users": 2, "list_rewards": 1, "list_user_referrals": 2, "list_user_rewards": 2}
        if names.asked > 150:
            weights["close_campaign"] = 3
        if names.closed and names.asked > 200:
            weights["delete_campaign"] = 4
        op = rng.choices(list(weights), list(weights.values()))[0]
        return op, getattr(self, op, lambda names: {})(names)

    def _one_of(self, known, number=lambda rng: rng.choice((0, 1, 3, 1000, 2**31, 2**32 - 1)), strange=0.03):
        """One of the ids, or, now and then, one that nobody has."""
        if not known or self.rng.random() < strange:
            return at_number(number(self.rng))
        return self.rng.choice(known)

    def _code(self, names):
        others = [code for c in self.campaigns for code in c.codes]
        if names.codes and self.rng.random() < 0.93:
            code = self.rng.choice(names.codes)
            return code if self.rng.random() < 0.8 else code.lower()
        return self.rng.choice(["ZZZZZZZZ", "x" * 9, *others[-5:]])

    def sign_up(self, names):
        rng = self.rng
        email = rng.choice(names.addresses)
        args = {"email": email if rng.random() < 0.8 else email.title()}
        if rng.random() < 0.5:
            args["referral_code"] = self._code(names)
        if rng.random() < 0.2:
            args["metadata"] = {"n": rng.randrange(3), "é": [True, None]}
        if rng.random() < 0.2:
            args["source"] = {"utm_source": rng.choice(("a", "b"))}
        return args

    def verify_user(self, names):
        return {"user_id": self._one_of(names.users)}

    request_verification = get_user = list_user_rewards = verify_user

    def create_referral(self, names):
        args = {"referred_id": self._one_of(names.users)}
        if self.rng.random() < 0.5:
            return {**args, "referrer_id": self._one_of(names.users)}
        return {**args, "referral_code": self._code(names)}

    def verify_referral(self, names):
        return {"referral_id": self._one_of(names.referrals)}

    get_referral = verify_referral

    def create_reward(self, names):
        rng = self.rng
        args = {"name": rng.choice(("Stickers", "T-shirt")), "delivery": "email", "message": "Wear it."}
        if rng.random() < 0.3:
            args = {"name": "Hook", "delivery": "webhook", "url": "http://127.0.0.1:9/hook"}
        if rng.random() < 0.6:
            args["stock"] = rng.randrange(1, 4)
        if rng.random() < 0.5:
            args["threshold"] = rng.randrange(1, 4)
        return args

    def get_reward(self, names):
        return {"reward_id": self._one_of(names.rewards)}

    def grant_reward(self, names):
        return {"user_id": self._one_of(names.users), "reward_id": self._one_of(names.rewards)}

    def list_user_referrals(self, names):
        return {"user_id": self._one_of(names.users), **self.rng.choice(({}, {"status": "pending"}, {"status": "verified"}))}

    def list_users(self, names):
        rng = self.rng
        found = {"verified": rng.random() < 0.5, "referred_by": self._one_of(names.users), "utm_source": rng.choice("ab")}
        found = {k: v for k, v in found.items() if rng.random() < 0.3}
        if rng.random() < 0.3:
            found[rng.choice(("email", "search"))] = rng.choice(names.addresses).title()
        elif rng.random() < 0.3:
            found["search"] = rng.choice(("u", "U1", "u2"))
        return found

    def update_campaign(self, names):
        rng, args = self.rng, self._settings()
        if rng.random() < 0.3:
            args["name"] = rng.choice(("Launch", "Grand launch"))
        if rng.random() < 0.4 and names.rewards:
            args["reward_rules"] = [{"reward_id": self._one_of(names.rewards), "threshold": rng.choice((None, 1, 2, 3))}]
        if rng.random() < 0.3:
            args["expected_version"] = max(1, names.version - rng.choice((0, 0, 0, 1, 5)))
        return args


# --- who answers ------------------------------------------------------------------------------------------------------


class Real:
    """Services."""

    def __init__(self, env, apis):
        self.env, self.apis = env, apis

    def ask(self, rng, op, campaign, args, key):
        """(status, body, whether it is a repeat)"""
        operation = openapi.load().operations[op]
        fields = dict(args)
        if op == "verify_user":
            fields["token"] = self.env.make_token(campaign, args["user_id"], expires_s=FOREVER)
        values = {"campaign_id": campaign}
        for p in operation.parameters:
            if p["in"] == "path" and p["name"] in fields:
                values[p["name"]] = fields.pop(p["name"])
        path = operation.path.format(**values)
        if operation.method == "GET":
            fields = {**fields, "limit": 200} if op.startswith("list_") else fields
            fields = {k: json.dumps(v) if isinstance(v, bool) else v for k, v in fields.items()}
            path, fields = path + "?" * bool(fields) + urllib.parse.urlencode(fields), None
        elif not operation.body or not fields and op != "update_campaign" and hash(str(args)) % 2:  # none is as good as {}
            fields = None
        answer = rng.choice(self.apis).request(operation.method, path, json=fields,
                                               headers={"Idempotency-Key": key} if key else None)
        return answer.status, answer.body, "idempotency-replayed" in answer.headers


class Fake:
    """The model itself, as if it were a service: for testing the test. latency: of an answer, in seconds at most."""

    def __init__(self, campaign_type=model.Campaign, latency=0.006):
        self.type = campaign_type
        self.latency = latency
        self.campaigns, self.events, self.kept = {}, defaultdict(list), {}
        self.lock = threading.Lock()
        self.made = set()
        self.owed = []  # (campaign, data of reward.earned): rewards under way

    def ask(self, rng, op, campaign, args, key):
        time.sleep(rng.random() * self.latency / 2)
        with self.lock:
            if len(self.owed) > 5:
                self._end_saga(*self.owed.pop(0))
            answer = self._decide(op, campaign, args, key)
        time.sleep(rng.random() * self.latency / 2)
        return answer

    def _decide(self, op, campaign, args, key):
        if op == "create_campaign":
            return self._create(args)
        kept = self.kept.get((campaign, key)) if key else None
        if kept:
            return (*kept[1], True) if kept[0] == (op, args) else (422, self._problem("idempotency-key-reused"), False)
        now = model.stamp(time.time())
        found = self.campaigns[campaign].decide(op, args, self._new_id, now)
        if found.refusals:
            slug, extra = next(iter(found.refusals.items()))
            extra = {k: v.values[0] if isinstance(v, model.OneOf) else v for k, v in extra.items()}
            status, body = 409, {**self._problem(slug), **extra}
        else:
            found.commit()
            self._append(campaign, found.events, now)
            status, body = found.status, copy.deepcopy(found.body)
        if key and body.get("type", "").rsplit(":", 1)[-1] not in model.NOT_KEPT:
            self.kept[campaign, key] = ((op, args), (status, body))
        return status, body, False

    def _create(self, args):
        campaign, now = str(uuid.uuid4()), model.stamp(time.time())
        settings = {"points_per_referral": 1, "milestones": [10**n for n in range(2, 10)], "landing_url": None, **args}
        self.campaigns[campaign] = made = self.type(campaign, settings, now)
        made.resend = RESEND
        self._append(campaign, [("campaign.created", {"campaign_id": campaign, "name": settings["name"],
                                                      "points_per_referral": settings["points_per_referral"]})], now)
        return 201, {**made.item(), "version": 1, "events": 1}, False

    def _append(self, campaign, events, now):
        log = self.events[campaign]
        for kind, data in events:
            log.append({"version": len(log) + 1, "type": kind, "data": data, "timestamp": now})
            if kind == "reward.earned":
                self.owed.append((campaign, data))

    def _end_saga(self, campaign, data):
        event = {"type": "reward.delivered", "data": data, "timestamp": model.stamp(time.time())}
        if len(self.owed) % 2:
            event = {**event, "type": "reward.released", "data": {**data, "reason": "gone"}}
        if not self.campaigns[campaign].deleted and self.campaigns[campaign].end_saga(event) is None:
            self._append(campaign, [(event["type"], event["data"])], event["timestamp"])

    @staticmethod
    def _problem(slug):
        return {"type": f"urn:tidings:problem:{slug}"}

    @staticmethod
    def _new_id(kind, number):
        if kind == "earned_at":
            return None
        return f"{uuid.uuid4().int % 10**8:08d}" if kind == "code" else at_number(number)


class Run:
    """Clients that ask until time is up, or each has asked often enough."""

    def __init__(self, service, seed, seconds, clients, calls=10**9):
        self.service = service
        self.campaigns, self.calls, self.errors = [], [], []
        self.names = {}
        self.until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=(random.Random(f"{seed} {i}"), calls)) for i in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _client(self, rng, left):
        chooser = Chooser(rng, self.campaigns)
        try:
            while time.monotonic() < self.until and left > 0 and not self.errors:
                left -= 1
                op, names, args, key = chooser.next()
                self._ask(rng, op, names, args, key)
        except Exception as error:
            self.errors.append(error)

    def _ask(self, rng, op, names, args, key):
        begin = time.time()
        status, body, replayed = self.service.ask(rng, op, names.id if names else None, args, key)
        end = time.time()
        if body.get("next_cursor"):
            return  # one page of several: they need not be of one moment
        call = model.Call(op, names.id if names else body.get("campaign_id"), args, begin, end, status, body, key, replayed)
        self.calls.append(call)
        if not names and status == 201 and call.campaign not in self.names:
            names = self.names[call.campaign] = Names(call.campaign)
            self.campaigns.append(names)
        if names:
            names.learn(call)


# --- the tests --------------------------------------------------------------------------------------------------------


def run_against(env, apis, seed, seconds):
    """Runs, checks, and returns the campaigns as they are at the end."""
    print(f"TIDINGS_MODEL_SEED={seed}")
    run = Run(Real(env, apis), seed, seconds, CLIENTS)
    wait_until(lambda: env.value("select count(*) from sagas s join campaigns c on c.no = s.campaign "
                                 "where s.state not in ('confirmed', 'released') and c.deleted_at is null") == 0,
               60, lambda: f"every saga ends: {env.query('select state, count(*) from sagas group by 1')}")
    env.check()
    events = defaultdict(dict)
    for record in env.records():
        value = json.loads(record.value)
        events[value["campaign_id"]].setdefault(value["version"], value)
    logs = {campaign: [log[v] for v in sorted(log)] for campaign, log in events.items()}
    campaigns, faults = model.replay(run.calls, logs, RESEND)
    tell(run.calls)
    assert not faults, f"TIDINGS_MODEL_SEED={seed}: {len(faults)} faults\n" + "\n".join(faults[:5])[:10000]
    return campaigns


def tell(calls):
    counts = defaultdict(int)
    for call in calls:
        counts[call.op, call.status, call.problem or ("replayed" if call.replayed else "events" if call.events else "")] += 1
    print(f"{len(calls)} calls:", *(f"{op} {status} {what}: {n}" for (op, status, what), n in sorted(counts.items())), sep="\n  ")
    return counts


def all_items(api, path):
    found, cursor = [], None
    while True:
        page = api.request("GET", path + (f"&cursor={cursor}" if cursor else "")).expect(200)
        found += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return found


def check_end(api, campaigns):
    """What can be read when all is quiet is what the model has."""
    listed = [c["campaign_id"] for c in all_items(api, "/v1/campaigns?limit=3")]
    alive = [c for c in campaigns.values() if not c.deleted]
    assert sorted(listed) == sorted(c.id for c in alive)
    for c in campaigns.values():
        path = f"/v1/campaigns/{c.id}"
        if c.deleted:
            for gone in ("", "/totals", "/leaderboard", "/users", "/rewards", *(f"/users/{u.id}" for u in c.users[:1])):
                assert api.request("GET", path + gone).problem == "no-campaign"
            continue
        assert c.get_campaign(None, None).body == api.request("GET", path).body
        assert c.totals() == api.request("GET", f"{path}/totals").body
        assert [c.user_item(u) for u in c.users] == all_items(api, f"{path}/users?limit=7")
        assert [c.reward_item(r) for r in c.rewards] == all_items(api, f"{path}/rewards?limit=4")
        for user in c.users:
            assert c.referral_items(user) == all_items(api, f"{path}/users/{user.id}/referrals?limit=2")
            assert c.user_reward_items(user) == all_items(api, f"{path}/users/{user.id}/rewards?limit=2")
        wait_until(lambda: c.leaderboard() == all_items(api, f"{path}/leaderboard?limit=6"), 20,
                   lambda: f"the leaderboard {all_items(api, f'{path}/leaderboard?limit=200')} is {c.leaderboard()}")


pytestmark = pytest.mark.settings(MAIL_TRANSPORT="discard", PUBLIC_URL=model.Campaign.public_url,
                                  VERIFY_RESEND_SECONDS=RESEND["seconds"], VERIFY_RESEND_PER_DAY=RESEND["per_day"],
                                  PURGE_DELAY_SECONDS=86400)
long = pytest.mark.timeout(SECONDS * 4 + 120 * SLOWNESS)


@long
def test_one_service(env, api):
    check_end(api, run_against(env, [api], SEED, SECONDS))


@long
def test_two_services(env, api):
    """On one database: lanes of both meet in Postgres."""
    campaigns = run_against(env, [api, env.api(env.start(LANES=3))], SEED, SECONDS)
    check_end(env.api(env.services[1]), campaigns)


# --- the test itself: what it does not notice, nobody will tell ---


@pytest.fixture(scope="module")
def recorded():
    fake = Fake(latency=0.002)
    return pickle.dumps((Run(fake, 20, seconds=30, clients=4, calls=350).calls, fake.events))


@pytest.fixture
def history(recorded):
    """(calls, events), to be spoiled"""
    return pickle.loads(recorded)


def test_the_model_agrees_with_itself(history):
    calls, events = history
    campaigns, faults = model.replay(calls, events, RESEND)
    assert not faults, "\n".join(faults[:5])
    assert len(campaigns) >= 2
    counts = tell(calls)
    assert any(c.replayed for c in calls), counts


class NoStock(model.Campaign):
    def _in_stock(self, reward, more=0):
        return True


class KeepsStock(model.Campaign):
    def _in_stock(self, reward, more=0):
        stock = reward.fields["stock"]
        return stock is None or reward.times() + more < stock


class NeverExhausted(model.Campaign):
    def _earn_events(self, reward, user, user_reward_id):
        return super()._earn_events(reward, user, user_reward_id)[:1]


class NoFloor(model.Campaign):
    def position(self, user):
        return user.place - user.count * self.settings["points_per_referral"]


class TwoReferrers(model.Campaign):
    def create_referral(self, **args):
        self.referrals.pop(args["referred_id"], None)
        return super().create_referral(**args)


class LateThreshold(model.Campaign):
    def _verify_referral(self, referral, ids, now):
        events, commit = super()._verify_referral(referral, ids, now)
        return events[:1], commit


class Reopens(model.Campaign):
    def sign_up(self, **args):
        self.closed_at, closed_at = None, self.closed_at
        outcome = super().sign_up(**args)
        self.closed_at = closed_at
        return outcome


class CountsTwice(model.Campaign):
    def verify_user(self, **args):
        referral = self.referrals.get(args["user_id"])
        before = referral and referral.verified_at
        if referral:
            referral.verified_at = None
        outcome = super().verify_user(**args)
        if referral:
            referral.verified_at = before
        return outcome


@pytest.mark.parametrize("broken", [NoStock, KeepsStock, NeverExhausted, NoFloor, TwoReferrers, LateThreshold, Reopens, CountsTwice])
def test_a_broken_rule_is_noticed(broken):
    fake = Fake(broken, latency=0)
    calls = Run(fake, 4711, seconds=30, clients=1, calls=1800).calls
    _, faults = model.replay(calls, fake.events, RESEND)
    assert faults


def first(calls, condition):
    return next(c for c in calls if condition(c))


def spoil_lost_event(calls, events):
    next(iter(events.values())).pop()


def spoil_order_of_events(calls, events):
    log, i = next((log, i) for log in events.values() for i in range(1, len(log)) if log[i]["data"] != log[i - 1]["data"])
    log[i]["data"], log[i - 1]["data"] = log[i - 1]["data"], log[i]["data"]


def spoil_released_twice(calls, events):
    log, e = next((log, e) for log in events.values() for e in log if e["type"] == "reward.released")
    log.append({**e, "version": len(log) + 1})


def spoil_released_and_delivered(calls, events):
    log, e = next((log, e) for log in events.values() for e in log if e["type"] == "reward.delivered")
    log.append({**e, "type": "reward.released", "data": {**e["data"], "reason": "gone"}, "version": len(log) + 1})


def spoil_type(calls, events):
    next(log for log in events.values() if len(log) > 3)[2]["type"] = "user.verifyed"


def spoil_position(calls, events):
    first(calls, lambda c: c.op == "sign_up" and c.status == 201).body["position"] += 1


def spoil_version(calls, events):
    first(calls, lambda c: c.op == "sign_up" and c.status == 201).body["version"] += 1


def spoil_more_members(calls, events):
    first(calls, lambda c: c.op == "get_user" and c.status == 200).body["secret"] = "x"


def spoil_reason(calls, events):
    first(calls, lambda c: c.problem == "email-taken").body["type"] = "urn:tidings:problem:campaign-closed"


def spoil_taken_by(calls, events):
    first(calls, lambda c: c.problem == "email-taken").body["user_id"] = str(uuid.uuid4())


def spoil_refused(calls, events):
    """A read that finds nothing where something is."""
    call = first(calls, lambda c: c.op == "get_user" and c.status == 200)
    call.status, call.body = 404, {"type": "urn:tidings:problem:no-user"}


def spoil_stale(calls, events):
    """A total from before what was answered before."""
    reads = [c for c in calls if c.op == "get_totals" and c.status == 200]
    early, late = max(((a, b) for a in reads for b in reads if a.campaign == b.campaign), key=lambda p: p[1].version - p[0].version)
    late.body = early.body


def spoil_5xx(calls, events):
    call = first(calls, lambda c: c.op == "get_user" and c.status == 200)
    call.status, call.body = 500, {"type": "urn:tidings:problem:internal"}


def spoil_replay(calls, events):
    call = first(calls, lambda c: c.replayed and c.status < 300)
    call.body = {**call.body, "version": call.version + 1}


def spoil_done_twice(calls, events):
    first(calls, lambda c: c.replayed).replayed = False


def spoil_key_reused(calls, events):
    call = first(calls, lambda c: c.op == "sign_up" and c.key is None and c.problem == "email-taken")
    call.key, call.body = "new", {"type": "urn:tidings:problem:idempotency-key-reused"}


@pytest.mark.parametrize("spoil", [f for name, f in sorted(globals().items()) if name.startswith("spoil_")])
def test_every_fault_is_noticed(history, spoil):
    calls, events = history
    spoil(calls, events)
    _, faults = model.replay(calls, events, RESEND)
    assert faults
