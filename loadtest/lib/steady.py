"""With the consumer groups on: the highest steady rate at which every group's lag stays under a second."""

from . import report
from .generator import interrupt
from .lag import Lag
from .points import measure
from .shell import say

LAG_S = 1.0
GROWTH_S = 0.2      # more than that from one third of a step to the next is a queue that fills
RATE_KEPT = 0.97    # of what was asked, or the step was not at its rate
CONNECTIONS = 128


def step(service, inputs, scenario, rate, seconds):
    """Ends as soon as a lag is too long: the backlog only takes time."""
    lag = Lag(service)

    def watch(wrk):
        if lag.sample() >= LAG_S:
            interrupt(wrk)

    point = measure(service, inputs, scenario, CONNECTIONS, seconds, rate=rate, watch=watch)
    point.update(lag_s=lag.highest(), lag_growth_s=lag.growth())
    point["rate_kept"] = point["per_s"] >= RATE_KEPT * rate
    point["holds"] = (point["rate_kept"] and point["answers"]["5xx"] == 0 and point["settled_in_s"] is not None
                      and all(age < LAG_S for age in point["lag_s"].values())
                      and all(growth < GROWTH_S for growth in point["lag_growth_s"].values()))
    return point


def find(service, inputs, best, steps, seconds):
    """Bisects between nothing and the best rate without groups. Returns the rate (0: none held) and the steps."""
    low, high, done = 0.0, best, []
    report.group_header()
    for _ in range(steps):
        rate = (low + high) / 2
        say(f"with the groups: {rate:,.0f} sign-ups a second for {seconds} s")
        done.append(step(service, inputs, "signup", rate, seconds))
        report.group_row(done[-1])
        if done[-1]["settled_in_s"] is None:
            say("the groups do not finish their backlog in time: no further steps")
            break
        low, high = (rate, high) if done[-1]["holds"] else (low, rate)
    return low, done
