"""What the scenarios need to be there: campaigns, referral codes, users. Written as the files that the Lua scripts read."""

import concurrent.futures

from .mix import Mix
from .service import Client
from .shell import say

CLIMBS = ("signup", "one", "referral", "mix", "read")  # what is measured at all connection counts
THREADS = 4                                            # that ask at the same time, since one waits for its commit


def ask_for_each(service, posts):
    """The answers to these (path, body), in their order."""
    def ask(part):
        client = Client(service.base, service.key)
        return [client.get_it("POST", *post) for post in posts[part::THREADS]]
    answers = [None] * len(posts)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for part, found in enumerate(pool.map(ask, range(THREADS))):
            answers[part::THREADS] = found
    return answers


def create_campaigns(service, names):
    return [made["campaign_id"] for made in ask_for_each(service, [("/v1/campaigns", {"name": name}) for name in names])]


class Inputs:
    """The inputs for one service."""

    def __init__(self, service, campaigns, referrers_each):
        self.service, self.directory = service, service.directory
        self.best_rate = None  # of sign-ups, once one has been measured
        self.campaigns = create_campaigns(service, [f"Load {i}" for i in range(campaigns)])
        self.write("campaigns", self.campaigns)
        self.write("hot", create_campaigns(service, ["Hot"]))
        self.create_referrers(referrers_each)
        self.mix = None

    def write(self, name, lines):
        (self.directory / name).write_text("".join(line + "\n" for line in lines))

    def create_referrers(self, each):
        """Users whose codes and ids the scenarios use."""
        users = ask_for_each(self.service, [(f"/v1/campaigns/{campaign}/users", {"email": f"referrer-{i}@example.com"})
                                            for campaign in self.campaigns for i in range(each)])
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
        arguments = {"signup": ["campaigns=campaigns"], "one": ["campaigns=hot"], "referral": [], "read": [],
                     "mix": self.mix and [f"shares={self.mix.shares()}"]}[scenario]
        return script, self.directory, connections, seconds, arguments
