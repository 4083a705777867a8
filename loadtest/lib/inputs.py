"""What the scenarios need to be there: campaigns, referral codes, users. Written as the files that the Lua scripts read."""

import concurrent.futures

from .mix import Mix
from .service import Client
from .shell import say

NAMES = ("signup", "one", "referral", "mix")
SIGN_UP_THREADS = 4


class Inputs:
    """The inputs for one service."""

    def __init__(self, service, campaigns, referrers_each):
        self.service, self.directory = service, service.directory
        self.best_rate = None  # of sign-ups, once one has been measured
        self.campaigns = [self.create_campaign(f"Load {i}") for i in range(campaigns)]
        self.write("campaigns", self.campaigns)
        self.write("hot", [self.create_campaign("Hot")])
        self.create_referrers(referrers_each)
        self.mix = None

    def write(self, name, lines):
        (self.directory / name).write_text("".join(line + "\n" for line in lines))

    def create_campaign(self, name):
        return self.service.client.get_it("POST", "/v1/campaigns", {"name": name})["campaign_id"]

    def create_referrers(self, each):
        """Users whose codes and ids the scenarios use; several at a time, since one waits for its commit."""
        def sign_up(part):
            client = Client(self.service.base, self.service.key)
            return [client.get_it("POST", f"/v1/campaigns/{campaign}/users", {"email": f"referrer-{i}@example.com"})
                    for campaign in self.campaigns[part::SIGN_UP_THREADS] for i in range(each)]
        with concurrent.futures.ThreadPoolExecutor(SIGN_UP_THREADS) as pool:
            users = [user for part in pool.map(sign_up, range(SIGN_UP_THREADS)) for user in part]
        self.write("codes", [f"{user['campaign_id']} {user['referral_code']}" for user in users])
        self.write("people", [f"{user['campaign_id']} {user['user_id']}" for user in users])

    def prepare_mix(self, points):
        """points: (connections, seconds, rate or None) of what is going to be measured."""
        say("preparing the mix: operations, users to verify, their tokens")
        self.mix = Mix(self)
        self.mix.gather(points)

    def before(self, scenario, connections, seconds, rate):
        if scenario == "mix":
            self.mix.write_slice(connections, seconds, rate)

    def wrk_arguments(self, scenario, connections, seconds):
        script = "signup" if scenario == "one" else scenario
        arguments = {"signup": ["campaigns=campaigns"], "one": ["campaigns=hot"], "referral": [],
                     "mix": self.mix and [f"shares={self.mix.shares()}"]}[scenario]
        return script, self.directory, connections, seconds, arguments
