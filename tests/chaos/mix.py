"""What clients want next: a mix of actions, each of which can be told from all others."""

import json
import uuid
from collections import deque

from .record import Action

WEIGHTS = {"sign_up": 38, "keyed_sign_up": 14, "referred_sign_up": 24, "verify": 14, "grant": 3, "update": 2, "reward": 1,
           "campaign": 1, "taken": 2, "again": 1}
CAMPAIGNS_MAX = 24  # more would make every campaign small
REWARDS_MAX = 20    # of a campaign: some of the service's own limit


class Field:
    """A campaign, and what is known to be in it."""

    def __init__(self, campaign, rewards=()):
        self.campaign = campaign
        self.users = []          # (user id, referral code), acknowledged
        self.unverified = deque()  # (user id, whether somebody referred them)
        self.rewards = list(rewards)  # ids of those that are given by hand
        self.emails = []         # taken ones
        self.rewards_asked = len(self.rewards)


class Mix:
    def __init__(self, fields, reward_url, make_token):
        self.fields = fields
        self.asked = len(fields)
        self._reward_url = reward_url
        self._make_token = make_token
        self._number = 0
        self._granted = set()
        self._keyed = deque(maxlen=200)  # done, under an Idempotency-Key

    def next(self, rng):
        """An Action; or one that is done already, which shall be asked for again under its key."""
        self._number += 1
        kind = rng.choices(list(WEIGHTS), WEIGHTS.values())[0]
        field = rng.choice(self.fields)
        return getattr(self, f"_{kind}")(field, rng) or self._sign_up(field, rng)

    def done(self, action):
        """What an acknowledged action adds."""
        if action.key:
            self._keyed.append(action)
        field, answer = action.subject, action.answer
        match action.ident[0]:
            case "user.signed_up":
                field.users.append((answer["user_id"], answer["referral_code"]))
                field.emails.append(action.ident[2])
                field.unverified.append((answer["user_id"], bool(action.companions)))
            case "reward.created":
                field.rewards.append(answer["reward_id"])
            case "campaign.created":
                self.fields.append(Field(answer["campaign_id"]))

    # --- the kinds; None: not possible yet ---

    @staticmethod
    def _action(method, path, fields, **rest):
        return Action(method, path, json.dumps(fields).encode(), **rest)

    def _sign_up(self, field, rng, key=None, **more):
        email = f"u{self._number}-{rng.getrandbits(32):08x}@example.com"
        return self._action("POST", f"/v1/campaigns/{field.campaign}/users", {"email": email, **more}, key=key, subject=field,
                            ident=("user.signed_up", field.campaign, email),
                            companions=("referral.created",) if more else ())

    def _keyed_sign_up(self, field, rng):
        return self._sign_up(field, rng, str(uuid.UUID(int=rng.getrandbits(128))))

    def _referred_sign_up(self, field, rng):
        if not field.users:
            return None
        # Few referrers with many referrals, many with few.
        _, code = field.users[int(len(field.users) * rng.random() ** 3)]
        key = str(uuid.UUID(int=rng.getrandbits(128))) if rng.random() < 0.3 else None
        return self._sign_up(field, rng, key, referral_code=code)

    def _verify(self, field, rng):
        if not field.unverified:
            return None
        user, referred = field.unverified.popleft()
        return self._action("POST", f"/v1/campaigns/{field.campaign}/users/{user}/verify",
                            {"token": self._make_token(field.campaign, user)}, subject=field,
                            ident=("user.verified", field.campaign, user),
                            companions=("referral.verified",) if referred else (),
                            key=f"verify-{user}" if rng.random() < 0.5 else None)

    def _grant(self, field, rng):
        if not field.users or not field.rewards:
            return None
        user, reward = rng.choice(field.users)[0], rng.choice(field.rewards)
        if (user, reward) in self._granted:
            return None
        self._granted.add((user, reward))
        return self._action("POST", f"/v1/campaigns/{field.campaign}/users/{user}/rewards", {"reward_id": reward}, secret=True,
                            ident=("reward.earned", field.campaign, user, reward), subject=field,
                            key=f"grant-{user}-{reward}" if rng.random() < 0.5 else None)

    def _update(self, field, rng):
        name = f"Launch {self._number}"
        return self._action("PATCH", f"/v1/campaigns/{field.campaign}",
                            {"name": name, "points_per_referral": rng.randint(1, 5)}, secret=True, subject=field,
                            ident=("campaign.updated", field.campaign, name))  # a PATCH takes no key

    def _reward(self, field, rng):
        if field.rewards_asked >= REWARDS_MAX:
            return None
        field.rewards_asked += 1
        name = f"Reward {self._number}"
        delivery = {"delivery": "webhook", "url": self._reward_url} if rng.random() < 0.6 else {"delivery": "email"}
        return self._action("POST", f"/v1/campaigns/{field.campaign}/rewards", {"name": name, **delivery}, secret=True,
                            ident=("reward.created", field.campaign, name), subject=field,
                            key=f"reward-{self._number}" if rng.random() < 0.5 else None)

    def _campaign(self, field, rng):
        if self.asked >= CAMPAIGNS_MAX:
            return None
        self.asked += 1
        name = f"Campaign {self._number}"
        return self._action("POST", "/v1/campaigns", {"name": name}, secret=True, subject=field,
                            ident=("campaign.created", None, name), key=f"campaign-{self._number}")

    def _taken(self, field, rng):
        """An address that has signed up already: refused, whatever happens."""
        if not field.emails:
            return None
        email = rng.choice(field.emails)
        return self._action("POST", f"/v1/campaigns/{field.campaign}/users", {"email": email}, subject=field,
                            ident=("user.signed_up", field.campaign, email, "again"))

    def _again(self, field, rng):
        return rng.choice(self._keyed) if self._keyed else None
