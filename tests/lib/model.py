"""The rules of campaigns, as plain Python, and whether what a service did follows them.

    calls = [Call(…), …]                      what clients asked of campaigns, at the same time, and what was answered
    events = {campaign_id: [envelope, …]}     what came out in Kafka, in the order of versions
    campaigns, faults = replay(calls, events)

Every action that caused events says which (version and events), so the actions of a campaign have an order: they are done
in the model in that order, and answer and events must be what the model says. What caused no events (errors, repeats,
reads) must be what the model says at one of the moments between those that were over before it began and those that began
after it was over.

Where several refusals apply at once, any of them will do; a campaign that is not there goes before all others."""

import datetime
from collections import defaultdict
from dataclasses import dataclass, field

REWARDS_MAX, RULES_MAX = 100, 10
CLOCK_SLACK = 0.05  # seconds by which clocks here and in Postgres may seem to differ


class _Any:
    """Equal to everything: for what the model does not say."""

    def __eq__(self, other):
        return True

    __hash__ = None

    def __repr__(self):
        return "…"


ANY = _Any()


@dataclass
class Call:
    """One request and its answer. begin and end: seconds since 1970."""

    op: str                # operation's name in docs/openapi.yaml
    campaign: str
    args: dict             # path parameters and members of the body
    begin: float
    end: float
    status: int
    body: dict
    key: str | None = None  # Idempotency-Key
    replayed: bool = False

    @property
    def problem(self):
        return self.body["type"].rsplit(":", 1)[1] if self.status >= 400 else None

    @property
    def events(self):
        return self.body.get("events", 0) if self.status < 300 else 0

    @property
    def version(self):
        return self.body["version"]

    def __repr__(self):
        key = f" key={self.key}" if self.key else ""
        return f"{self.op}({self.args}{key}) → {self.status} {self.body}"


@dataclass
class Outcome:
    """What an action would come to now: it is refused in one of these ways (slug → further members), or done."""

    refusals: dict = field(default_factory=dict)
    status: int = 200
    body: dict = field(default_factory=dict)
    events: list = field(default_factory=list)  # (type, data)
    commit: object = lambda: None

    def fits(self, call):
        if call.status >= 400:
            extra = self.refusals.get(call.problem)
            return extra is not None and all(call.body.get(k) == v for k, v in extra.items())
        return not self.refusals and call.status == self.status and self.body == call.body

    def __repr__(self):
        return f"refused: {self.refusals}" if self.refusals else f"{self.status} {self.body} {self.events}"


def refuse(**slugs):
    return {slug.replace("_", "-"): extra for slug, extra in slugs.items() if extra is not None}


@dataclass
class User:
    id: str
    place: int
    email: str
    code: str
    created_at: str
    metadata: object
    source: object
    verified_at: str | None = None
    count: int = 0         # verified referrals
    mailed: list = field(default_factory=list)  # times of sign-up and further verification mails


@dataclass
class Referral:
    id: str
    referrer: User
    referred: User
    created_at: str
    verified_at: str | None = None


@dataclass
class Reward:
    id: str
    no: int
    fields: dict           # name, delivery, url, message, stock, threshold
    created_at: str
    earned: dict = field(default_factory=dict)  # user id → [(user_reward_id, earned_at), …], the last one last
    released: dict = field(default_factory=dict)  # user_reward_id → when it could not be delivered
    delivered: set = field(default_factory=set)  # user_reward_ids

    def times(self):
        return sum(map(len, self.earned.values()))

    def held(self, user_id):
        """The user_reward_id that the user has, if any."""
        given = self.earned.get(user_id)
        return given[-1][0] if given and given[-1][0] not in self.released else None


class Campaign:
    """now: the events' timestamp for what is done; ids: what gives new ids, ids(kind, number in it)."""

    public_url = "https://tidings.example"  # PUBLIC_URL of all services

    def __init__(self, campaign_id, settings, created_at):
        self.id = campaign_id
        self.settings = dict(settings)  # name, points_per_referral, milestones, landing_url
        self.created_at = created_at
        self.closed_at = None
        self.deleted = False
        self.version = 1
        self.users = []
        self.referrals = {}    # by referred user's id
        self.rewards = []
        self.resend = {"seconds": 60, "per_day": 5}

    # --- who is who ---

    def user(self, user_id):
        return next((u for u in self.users if u.id == user_id), None)

    def by_code(self, code):
        return next((u for u in self.users if u.code == code.upper()), None)

    def reward(self, reward_id):
        return next((r for r in self.rewards if r.id == reward_id), None)

    def referral(self, referral_id):
        return next((r for r in self.referrals.values() if r.id == referral_id), None)

    def referral_link(self, code):
        url = self.settings["landing_url"]
        return f"{url}{'&' if '?' in url else '?'}ref={code}" if url else f"{self.public_url}/?ref={code}"

    def position(self, user):
        return max(1, user.place - user.count * self.settings["points_per_referral"])

    # --- the actions ---

    def decide(self, op, args, ids, now):
        """The Outcome of an action or a read. ids and now: see replay."""
        if self.deleted:
            return Outcome({"no-campaign": {}, "unknown-referral-code": {}} if "referral_code" in args else {"no-campaign": {}})
        return getattr(self, op)(ids=ids, now=now, **args)

    def _done(self, status, members, events, commit=lambda: None):
        def commit_all():
            commit()
            self.version += len(events)

        return Outcome({}, status, {**members, "version": self.version + len(events), "events": len(events)}, events, commit_all)

    def sign_up(self, email, ids, now, referral_code=None, metadata=None, source=None):
        taken = next((u for u in self.users if u.email.lower() == email.lower()), None)
        referrer = self.by_code(referral_code) if referral_code is not None else None
        refusals = refuse(campaign_closed={} if self.closed_at else None,
                          email_taken={"user_id": taken.id} if taken else None,
                          unknown_referral_code={} if referral_code is not None and not referrer else None)
        if refusals:
            return Outcome(refusals)
        place = len(self.users) + 1
        user = User(ids("user", place), place, email, ids("code", place), now, metadata, source, mailed=[now])
        events = [("user.signed_up", {"user_id": user.id, "campaign_id": self.id, "email": email})]
        referral = None
        if referrer:
            referral = Referral(ids("referral", place), referrer, user, now)
            events.append(("referral.created", self._referral_data(referral)))
        if place in self.settings["milestones"]:
            events.append(("campaign.milestone_reached", {"campaign_id": self.id, "milestone": f"{place}_participants",
                                                          "participant_count": place}))

        def commit():
            self.users.append(user)
            if referral:
                self.referrals[user.id] = referral

        return self._done(201, {"user_id": user.id, "campaign_id": self.id, "email": email, "referral_code": user.code,
                                "referral_link": self.referral_link(user.code), "position": place, "created_at": now}, events, commit)

    def verify_user(self, user_id, ids, now):
        user = self.user(user_id)
        if not user:
            return Outcome(refuse(no_user={}))
        members = {"user_id": user.id, "campaign_id": self.id, "verified": True}
        if user.verified_at:
            return self._done(200, members, [])
        referral = self.referrals.get(user.id)
        events = [("user.verified", {"user_id": user.id, "campaign_id": self.id, "email": user.email})]
        count = lambda: None
        if referral and not referral.verified_at:
            more, count = self._verify_referral(referral, ids, now)
            events += more

        def commit():
            user.verified_at = now
            count()

        return self._done(200, members, events, commit)

    def request_verification(self, user_id, ids, now):
        user = self.user(user_id)
        if not user:
            return Outcome(refuse(no_user={}))
        if user.verified_at:
            return Outcome(refuse(already_verified={}))
        since = seconds(now) - seconds(user.mailed[-1])
        many = len(user.mailed) > self.resend["per_day"]  # the sign-up's mail does not count
        refusals = refuse(too_soon={} if many or since < self.resend["seconds"] + CLOCK_SLACK else None)
        if refusals and (many or since < self.resend["seconds"] - CLOCK_SLACK or ids is nothing_new):
            return Outcome(refusals)
        return self._done(202, {"user_id": user.id, "campaign_id": self.id}, [
            ("user.verification_requested", {"user_id": user.id, "campaign_id": self.id, "email": user.email})],
            lambda: user.mailed.append(now))

    def create_referral(self, referred_id, ids, now, referrer_id=None, referral_code=None):
        referred = self.user(referred_id)
        referrer = self.user(referrer_id) if referrer_id is not None else self.by_code(referral_code)
        has = self.referrals.get(referred.id) if referred else None
        refusals = refuse(campaign_closed={} if self.closed_at else None,
                          has_referrer={"referral_id": has.id} if has else None,
                          self_referral={} if (referred_id == referrer_id or referrer and referrer is referred) else None,
                          unknown_referral_code={} if referral_code is not None and not referrer else None)
        if not referred or referrer_id is not None and not referrer:
            missing = ["referred_id"] * (not referred) + ["referrer_id"] * (referrer_id is not None and not referrer)
            refusals["no-user"] = {"field": OneOf(missing)}
        if refusals:
            return Outcome(refusals)
        referral = Referral(ids("referral", referred.place), referrer, referred, now)
        return self._done(201, self.referral_item(referral),
                          [("referral.created", self._referral_data(referral))],
                          lambda: self.referrals.__setitem__(referred.id, referral))

    def verify_referral(self, referral_id, ids, now):
        referral = self.referral(referral_id)
        if not referral:
            return Outcome(refuse(no_referral={}))
        if referral.verified_at:
            return self._done(200, self.referral_item(referral), [])
        return self._done(200, {**self.referral_item(referral), "status": "verified", "verified_at": now},
                          *self._verify_referral(referral, ids, now))

    def _referral_data(self, referral):
        return {"referral_id": referral.id, "referrer_id": referral.referrer.id, "referred_id": referral.referred.id,
                "campaign_id": self.id}

    def _verify_referral(self, referral, ids, now):
        """(events, commit) of a pending referral that counts from now on."""
        user = referral.referrer
        events = [("referral.verified", {**self._referral_data(referral),
                                         "points_per_referral": self.settings["points_per_referral"]})]
        earned = []
        for reward in self.rewards:
            threshold = reward.fields["threshold"]
            # What could not be delivered is not earned again by itself.
            if threshold and user.count + 1 >= threshold and user.id not in reward.earned and self._in_stock(reward):
                earned.append((reward, ids("user_reward", user.place), ids("earned_at", None) or now))
        for reward, user_reward_id, _ in earned:
            events += self._earn_events(reward, user, user_reward_id)

        def commit():
            referral.verified_at = now
            user.count += 1
            for reward, user_reward_id, at in earned:
                reward.earned.setdefault(user.id, []).append((user_reward_id, at))

        return events, commit

    def _in_stock(self, reward, more=0):
        stock = reward.fields["stock"]
        return stock is None or reward.times() + more - len(reward.released) < stock

    def _earn_events(self, reward, user, user_reward_id):
        events = [("reward.earned", self._earned_data(reward, user, user_reward_id))]
        if not self._in_stock(reward, more=1):
            events.append(("reward.exhausted", {"reward_id": reward.id, "campaign_id": self.id, "stock": reward.fields["stock"]}))
        return events

    def end_saga(self, event):
        """An event that no call asked for: what became of an earned reward. What is wrong with it, or None."""
        data = dict(event["data"])
        reason = data.pop("reason", None)
        reward, user = self.reward(data["reward_id"]), self.user(data["user_id"])
        known = reward and user and data["user_reward_id"] in [i for i, _ in reward.earned.get(user.id, [])]
        if not known or data != self._earned_data(reward, user, data["user_reward_id"]):
            return "nobody has earned that"
        if data["user_reward_id"] in reward.released or data["user_reward_id"] in reward.delivered:
            return "it has ended before"
        if event["type"] == "reward.delivered":
            reward.delivered.add(data["user_reward_id"])
        elif not reason:
            return "it does not say why"
        else:
            reward.released[data["user_reward_id"]] = event["timestamp"]
        self.version += 1
        return None

    def _earned_data(self, reward, user, user_reward_id):
        return {"user_reward_id": user_reward_id, "user_id": user.id, "campaign_id": self.id, "reward_id": reward.id}

    def create_reward(self, name, delivery, ids, now, url=None, secret=None, message=None, stock=None, threshold=None):
        rules = sum(r.fields["threshold"] is not None for r in self.rewards)
        if len(self.rewards) >= REWARDS_MAX or threshold and rules >= RULES_MAX:
            return Outcome(refuse(limit_reached={}))
        number = len(self.rewards) + 1
        reward = Reward(ids("reward", number), number, {
            "name": name, "delivery": delivery, "url": url, "message": message, "stock": stock, "threshold": threshold}, now)
        members = self.reward_item(reward)
        if delivery == "webhook":
            members["secret"] = secret or ANY
        return self._done(201, members, [("reward.created", {"reward_id": reward.id, "campaign_id": self.id, "name": name})],
                          lambda: self.rewards.append(reward))

    def grant_reward(self, user_id, reward_id, ids, now):
        user, reward = self.user(user_id), self.reward(reward_id)
        refusals = refuse(no_user=None if user else {}, no_reward=None if reward else {})
        if refusals:
            return Outcome(refusals)
        has = reward.held(user.id)
        refusals = refuse(already_earned={"user_reward_id": has} if has else None,
                          out_of_stock=None if self._in_stock(reward) else {})
        if refusals:
            return Outcome(refusals)
        new = ids("user_reward", user.place)
        item = {**self.user_reward_item(reward, user, new, now), "status": "pending", "delivered_at": None, "released_at": None,
                "attempts": 0, "error": None}
        return self._done(201, item, self._earn_events(reward, user, new),
                          lambda: reward.earned.setdefault(user.id, []).append((new, now)))

    def update_campaign(self, ids, now, reward_rules=None, expected_version=None, **settings):
        rules = {r["reward_id"]: r["threshold"] for r in reward_rules or []}
        after = [rules.get(r.id, r.fields["threshold"]) for r in self.rewards]
        refusals = refuse(
            version_conflict={"version": self.version} if expected_version not in (None, self.version) else None,
            no_reward=None if all(map(self.reward, rules)) else {},
            limit_reached={} if sum(t is not None for t in after) > RULES_MAX else None)
        if refusals:
            return Outcome(refusals)
        before = [r.fields["threshold"] for r in self.rewards]
        new = {**self.settings, **settings}
        changed = new != self.settings or after != before
        events = [("campaign.updated", {"campaign_id": self.id, "name": new["name"],
                                        "points_per_referral": new["points_per_referral"]})] if changed else []

        def commit():
            self.settings = new
            for reward, threshold in zip(self.rewards, after):
                reward.fields["threshold"] = threshold

        return self._done(200, self.item(new, after), events, commit)

    def close_campaign(self, ids, now):
        members = {"campaign_id": self.id, "status": "closed"}
        if self.closed_at:
            return self._done(200, members, [])
        return self._done(200, members, [("campaign.closed", {"campaign_id": self.id})], lambda: setattr(self, "closed_at", now))

    def delete_campaign(self, ids, now):
        if not self.closed_at:
            return Outcome(refuse(campaign_open={}))
        return self._done(200, {"campaign_id": self.id, "status": "deleted"},
                          [("campaign.deleted", {"campaign_id": self.id})], lambda: setattr(self, "deleted", True))

    # --- what reads show ---

    def item(self, settings=None, thresholds=None):
        settings = settings or self.settings
        thresholds = thresholds if thresholds is not None else [r.fields["threshold"] for r in self.rewards]
        return {"campaign_id": self.id, "status": "closed" if self.closed_at else "open", **settings,
                "created_at": self.created_at, "closed_at": self.closed_at,
                "reward_rules": [{"reward_id": r.id, "threshold": t} for r, t in zip(self.rewards, thresholds)
                                 if t is not None]}

    def user_item(self, user):
        referral = self.referrals.get(user.id)
        return {"user_id": user.id, "campaign_id": self.id, "email": user.email, "referral_code": user.code,
                "referral_link": self.referral_link(user.code), "position": self.position(user), "original_position": user.place,
                "verified": user.verified_at is not None, "verified_at": user.verified_at, "verified_referrals": user.count,
                "created_at": user.created_at, "referred_by": referral.referrer.id if referral else None,
                "metadata": user.metadata, "source": user.source}

    def reward_item(self, reward):
        return {"reward_id": reward.id, "campaign_id": self.id, **reward.fields, "earned": reward.times(),
                "released": len(reward.released), "created_at": reward.created_at}

    def referral_item(self, referral):
        return {**self._referral_data(referral), "status": "verified" if referral.verified_at else "pending",
                "created_at": referral.created_at, "verified_at": referral.verified_at}

    def user_reward_item(self, reward, user, user_reward_id, earned_at):
        new = user_reward_id is ANY
        released_at = None if new else reward.released.get(user_reward_id)
        delivered = not new and user_reward_id in reward.delivered
        status = "released" if released_at else "delivered" if delivered else NotReleased()
        return {**self._earned_data(reward, user, user_reward_id), "name": reward.fields["name"],
                "delivery": reward.fields["delivery"], "status": status, "earned_at": earned_at, "delivered_at": ANY,
                "released_at": released_at, "attempts": ANY, "error": ANY}

    def user_reward_items(self, user):
        return [self.user_reward_item(r, user, *given) for r in self.rewards for given in r.earned.get(user.id, [])]

    def referral_items(self, user, status=None):
        found = sorted((r for r in self.referrals.values() if r.referrer is user), key=lambda r: r.referred.place)
        return [item for item in map(self.referral_item, found) if status in (None, item["status"])]

    def leaderboard(self):
        items = [{"position": self.position(u), "original_position": u.place, "user_id": u.id, "verified_referrals": u.count,
                  "email": u.email} for u in self.users]
        return sorted(items, key=lambda i: (i["position"], i["original_position"]))

    def totals(self):
        return {"campaign_id": self.id, "participants": len(self.users),
                "verified": sum(u.verified_at is not None for u in self.users), "referrals": len(self.referrals),
                "verified_referrals": sum(r.verified_at is not None for r in self.referrals.values()),
                "rewards_earned": sum(r.times() for r in self.rewards), "version": self.version}

    def get_campaign(self, ids, now):
        return Outcome({}, 200, {**self.item(), "version": self.version, "participants": len(self.users)})

    def get_totals(self, ids, now):
        return Outcome({}, 200, self.totals())

    def get_user(self, user_id, ids, now):
        user = self.user(user_id)
        return Outcome({}, 200, self.user_item(user)) if user else Outcome(refuse(no_user={}))

    def get_referral(self, referral_id, ids, now):
        referral = self.referral(referral_id)
        return Outcome({}, 200, self.referral_item(referral)) if referral else Outcome(refuse(no_referral={}))

    def get_reward(self, reward_id, ids, now):
        reward = self.reward(reward_id)
        return Outcome({}, 200, self.reward_item(reward)) if reward else Outcome(refuse(no_reward={}))

    def list_users(self, ids, now, search=None, **filters):
        found = [self.user_item(u) for u in self.users if search is None or u.email.lower().startswith(search.lower())]
        found = [i for i in found if all(self._passes(i, name, value) for name, value in filters.items())]
        if search is not None:
            found.sort(key=lambda i: i["email"].lower())
        return Outcome({}, 200, {"items": found, "next_cursor": None})

    @staticmethod
    def _passes(item, name, value):
        if name == "email":
            return item["email"].lower() == value.lower()
        if name == "utm_source":
            return (item["source"] or {}).get("utm_source") == value
        return item[name] == value

    def list_rewards(self, ids, now):
        return Outcome({}, 200, {"items": [self.reward_item(r) for r in self.rewards], "next_cursor": None})

    def list_user_rewards(self, user_id, ids, now):
        user = self.user(user_id)
        if not user:
            return Outcome(refuse(no_user={}))
        return Outcome({}, 200, {"items": self.user_reward_items(user), "next_cursor": None})

    def list_user_referrals(self, user_id, ids, now, status=None):
        user = self.user(user_id)
        if not user:
            return Outcome(refuse(no_user={}))
        return Outcome({}, 200, {"items": self.referral_items(user, status), "next_cursor": None})


class NotReleased:
    """Any other state of a reward: deliveries are not in the model, only how they end."""

    def __eq__(self, other):
        return other in ("pending", "sending", "delivered", "failed")

    __hash__ = None


class OneOf:
    def __init__(self, values):
        self.values = values

    def __eq__(self, other):
        return other in self.values

    __hash__ = None

    def __repr__(self):
        return " or ".join(self.values)


def seconds(timestamp):
    return datetime.datetime.fromisoformat(timestamp).timestamp()


def stamp(at):
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- Idempotency-Keys -------------------------------------------------------------------------------------------------

NOT_KEPT = {"invalid", "malformed", "bad-token", "token-expired", "unknown-referral-code", "idempotency-key-reused",
            "unauthorized", "forbidden", "no-campaign", "too-soon"}


def same_answer(a, b):
    return a.status == b.status and {**a.body, "request_id": None} == {**b.body, "request_id": None}


def check_keys(calls):
    """(the calls that were decided, what is wrong with those that came with a key that was used before)."""
    decided, faults, by_key = [], [], defaultdict(list)
    for call in calls:
        if call.key is None:
            decided.append(call)
        else:
            by_key[call.key if call.op == "create_campaign" else (call.campaign, call.key)].append(call)
    for group in by_key.values():
        first = [c for c in group if not c.replayed and c.problem not in NOT_KEPT]
        if len(first) > 1:
            faults.append(f"one key, decided {len(first)} times:\n  " + "\n  ".join(map(repr, first)))
        for call in group:
            if not call.replayed and call.problem != "idempotency-key-reused":
                decided.append(call)
                continue
            same = [c for c in group if (c.op, c.args) == (call.op, call.args) and not c.replayed
                    and c.problem != "idempotency-key-reused" and c.begin < call.end]
            others = [c for c in group if (c.op, c.args) != (call.op, call.args) and c.begin < call.end]
            if call.replayed and not any(same_answer(call, c) for c in same):
                faults.append(f"{call}: replayed, but the first answer was {same}")
            if not call.replayed and not others:
                faults.append(f"{call}: the key was not used for another request before")
    return decided, faults


# --- replaying --------------------------------------------------------------------------------------------------------


class Ids:
    """The new ids of one action, from its answer and its events."""

    def __init__(self, call, events, seen):
        self.body = call.body
        self.created = [e["data"]["referral_id"] for e in events if e["type"] == "referral.created"]
        self.earned = [e["data"]["user_reward_id"] for e in events if e["type"] == "reward.earned"]
        self.times = [e["timestamp"] for e in events if e["type"] == "reward.earned"]
        self.seen = seen  # all ids that there were before
        self.faults = []

    def __call__(self, kind, number):
        if kind == "earned_at":
            return self.times.pop(0) if self.times else None
        if kind == "code":
            return self._new(self.body.get("referral_code"), kind)
        given = {"user": [self.body.get("user_id")], "reward": [self.body.get("reward_id")], "referral": self.created,
                 "user_reward": self.earned}[kind]
        value = given.pop(0) if given else None
        if value and int(value[-8:], 16) != number:
            self.faults.append(f"the {kind}'s id {value} does not carry {number}")
        return self._new(value, kind)

    def _new(self, value, kind):
        if value is None or (kind, value) in self.seen:
            self.faults.append(f"there is no new {kind}: {value}")
        self.seen.add((kind, value))
        return value


def nothing_new(kind, number):
    """Ids for an action that has caused nothing: whatever it would have made."""
    return ANY


def replay(calls, events, resend=None):
    """({campaign id: Campaign as it is at the end}, [what does not agree, sentences])."""
    decided, faults = check_keys(calls)
    campaigns, by_campaign = {}, defaultdict(list)
    for call in decided:
        if call.status >= 500:
            faults.append(f"{call}: there was no reason for that")
        else:
            by_campaign[call.campaign].append(call)
    for campaign_id, asked in by_campaign.items():
        if campaign_id is None:  # creations that were refused
            faults += [f"{c}: there was no reason for that" for c in asked]
            continue
        campaigns[campaign_id] = campaign = _Replay(asked, events.get(campaign_id, []), resend)
        faults += [f"campaign {campaign_id}: {fault}" for fault in campaign.run()]
    return {i: r.model for i, r in campaigns.items() if r.model}, faults


UNASKED = ("reward.delivered", "reward.released")  # events that belong to no call: see Campaign.end_saga


class _Replay:
    def __init__(self, calls, events, resend):
        self.events = events
        self.unasked = [e for e in events if e["type"] in UNASKED]
        self.resend = resend
        self.model = None
        self.seen = set()
        self.effects = sorted((c for c in calls if c.events), key=lambda c: c.version)
        self.others = [c for c in calls if not c.events]
        for call in self.others:
            call.after = max((e.version for e in self.effects if e.end < call.begin), default=0)
            call.until = min((e.version - e.events for e in self.effects if e.begin > call.end), default=len(events))

    def run(self):
        faults = self._order()
        if faults:
            return faults
        unasked = list(self.unasked)
        for call in [*self.effects, None]:
            while unasked and (not call or unasked[0]["version"] < call.version):
                fault = self._apply_unasked(unasked.pop(0))
                if fault:
                    return [fault]
            faults = self._apply(call) if call else []
            if faults:
                return faults  # all that follows would be wrong too
            self._look()
        return [self._unexplained(c) for c in self.others]

    def _apply_unasked(self, event):
        fault = self.model.end_saga(event) if self.model else "it is of a campaign that nobody created"
        if fault:
            return f"{event}: {fault}"
        self._look()
        return None

    def _order(self):
        """The answers' versions, and what belongs to no answer, tile the log, in an order that time allows."""
        last, begun, unasked = 0, None, {e["version"] for e in self.unasked}
        for call in self.effects:
            while last + 1 in unasked:
                last += 1
            if call.version - call.events != last:
                return [f"{call}: comes after version {last}"]
            last = call.version
            if begun and call.end < begun.begin:
                return [f"{call}: was over before this began, whose version is less: {begun}"]
            if not begun or call.begin > begun.begin:
                begun = call
        while last + 1 in unasked:
            last += 1
        versions = [e["version"] for e in self.events]
        if versions != list(range(1, last + 1)):
            return [f"answers go to version {last}, events are {versions}"]
        return []

    def _apply(self, call):
        events = self.events[call.version - call.events:call.version]
        now, ids = events[0]["timestamp"], Ids(call, events, self.seen)
        if call.op == "create_campaign":
            outcome = self._create(call, now)
        elif not self.model:
            return [f"{call}: is version {call.version} of a campaign that nobody created"]
        else:
            outcome = self.model.decide(call.op, call.args, ids, now)
        if not outcome.fits(call):
            return [f"{call}\n  in the model, at version {self.model.version}: {outcome}"]
        found = [(e["type"], e["data"]) for e in events]
        if found != outcome.events:
            return [f"{call}: its events are {found}\n  in the model {outcome.events}"]
        if any(e["timestamp"] != now for e in events if e["type"] not in ("reward.earned", "reward.exhausted")):
            return [f"{call}: its events have several times"]
        outcome.commit()
        return [f"{call}: {fault}" for fault in ids.faults]

    def _create(self, call, now):
        settings = {"points_per_referral": 1, "milestones": [10**n for n in range(2, 10)], "landing_url": None, **call.args}
        self.model = Campaign(call.campaign, settings, now)
        if self.resend:
            self.model.resend = self.resend
        return Outcome({}, 201, {**self.model.item(), "version": 1, "events": 1}, [("campaign.created", {
            "campaign_id": call.campaign, "name": settings["name"],
            "points_per_referral": settings["points_per_referral"]})])

    def _look(self):
        """Explains what caused no events and could be at this moment."""
        def fits(call):
            if not call.after <= self.model.version <= call.until:
                return False
            return self.model.decide(call.op, call.args, nothing_new, stamp(call.begin)).fits(call)

        self.others = [c for c in self.others if not fits(c)]
        for call in self.others:
            if call.after <= self.model.version <= call.until:
                call.expected = (self.model.version, self.model.decide(call.op, call.args, nothing_new, stamp(call.begin)))

    @staticmethod
    def _unexplained(call):
        return (f"{call}\n  fits no moment from version {call.after} to {call.until}; in the model, at version "
                f"{getattr(call, 'expected', ('?', 'nothing'))}")
