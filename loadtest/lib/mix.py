"""The mix's own inputs: which operations the server has, users to verify with their tokens, users to give a reward."""

import base64
import hashlib
import hmac
import sys
import time

from .generator import run_wrk, threads_of
from .shell import say

SHARES = {"sign_up": 50, "verify": 15, "read_user": 20, "leaderboard": 5, "award": 5, "read_campaign": 5}
SUPPOSED_RATE = 15000  # of sign-ups, where none has been measured
PER_CONNECTION = 5000  # one connection asks no more often than this in a second
HEADROOM = 2           # the mix is faster than sign-ups alone, which its need of users is estimated from
TOKEN_LIFE_S = 86400
PURPOSE = b"tidings verification token 1\0"

UNVERIFIED = """
select c.id, u.id from referrals r
join users u on u.campaign = r.campaign and u.place = r.referred
join campaigns c on c.no = r.campaign
where not exists (select from verifications v where v.campaign = r.campaign and v.place = r.referred)
"""


def token(secret, campaign, user, expires_s):
    """As src/domain/token.h says."""
    body = bytes.fromhex((campaign + user).replace("-", "")) + expires_s.to_bytes(8, "big")
    mac = hmac.digest(secret.encode(), PURPOSE + body, hashlib.sha256)[:16]
    return base64.urlsafe_b64encode(body + mac).decode().rstrip("=")


class Mix:
    def __init__(self, inputs):
        self.inputs, self.service = inputs, inputs.service
        self.left_out = [name for name, there in (("leaderboard", self.has_leaderboard()), ("award", self.has_rewards()))
                         if not there]
        for name in self.left_out:
            say(f"MIX: THE SERVER HAS NO OPERATION '{name}' (404): left out, its {SHARES[name]} % are spread over the others")
        self.pool, self.rounds = [], 0

    def answers(self, method, path, body=None):
        """Whether the server has this operation: a request that it must accept is not a 404 or 405."""
        status, found = self.service.client.call(method, f"/v1/campaigns/{self.inputs.campaigns[0]}{path}", body)
        if status in (404, 405):
            return False
        if status >= 300:
            sys.exit(f"loadtest/run: {method} …{path}: {status} {found}")
        return True

    def has_leaderboard(self):
        return self.answers("GET", "/leaderboard?limit=50")

    def has_rewards(self):
        return self.answers("POST", "/rewards", {"name": "Probe", "delivery": "email"})

    def shares(self):
        return ",".join(f"{name}:{share}" for name, share in SHARES.items() if name not in self.left_out)

    def need(self, connections, seconds, rate):
        """Users that a point verifies, at the most."""
        if not rate:
            rate = min(HEADROOM * (self.inputs.best_rate or SUPPOSED_RATE), PER_CONNECTION * connections)
        whole = sum(share for name, share in SHARES.items() if name not in self.left_out)
        return int(1.2 * rate * seconds * SHARES["verify"] / whole) + 100

    def gather(self, points):
        """Users who were referred and are not verified: a verification of theirs verifies the referral, the dearest kind."""
        wanted = sum(self.need(*point) for point in points)
        have = int(self.service.query(f"select count(*) from ({UNVERIFIED}) q"))
        while have < wanted:
            say(f"signing up referred users for the mix: {have:,} of {wanted:,}")
            run_wrk(self.service, *self.inputs.wrk_arguments("referral", 64, 2))
            before, have = have, int(self.service.query(f"select count(*) from ({UNVERIFIED}) q"))
            if have <= before:
                sys.exit("loadtest/run: sign-ups with a referral code do not work")
        self.service.settle(60)
        self.pool = self.service.query(f"{UNVERIFIED} order by random() limit {wanted}").splitlines()

    def write_slice(self, connections, seconds, rate):
        """Each point gets users of its own: they are verified once, and get the round's reward once."""
        need = self.need(connections, seconds, rate)
        people, self.pool = self.pool[:need], self.pool[need:]
        expires = int(time.time()) + TOKEN_LIFE_S
        tokens = [f"{line} {token(self.service.token_secret, *line.split(), expires)}" for line in people]
        awards = [] if "award" in self.left_out else self.awards(people[:need // 2])  # fewer are given than verified
        threads = threads_of(connections)
        for thread in range(threads):
            self.inputs.write(f"tokens.{thread + 1}", tokens[thread::threads])
            self.inputs.write(f"awards.{thread + 1}", awards[thread::threads])

    def awards(self, people):
        """A new reward in every campaign, so that nobody has it yet."""
        self.rounds += 1
        rewards = {campaign: self.service.client.get_it("POST", f"/v1/campaigns/{campaign}/rewards",
                                                        {"name": f"Round {self.rounds}", "delivery": "email"})["reward_id"]
                   for campaign in self.inputs.campaigns}
        return [f"{line} {rewards[line.split()[0]]}" for line in people]
