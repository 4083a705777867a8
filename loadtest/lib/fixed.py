"""Sign-ups at a fixed rate, which do not wait for each other: latencies free of coordinated omission. By wrk with Lua that
sends what is due, and once by vegeta, to see that two generators that share nothing tell the same story."""

from . import report, stats, vegeta
from .points import around, measure
from .shell import say

CONNECTIONS = 128  # enough that a free one is there when an action is due
CHECK_RATE = 500   # of the comparison at a rate where no generator is short of CPU


def by_vegeta(tool, service, inputs, rate, seconds):
    say(f"fixed rate by vegeta: {rate:,.0f} sign-ups a second, {seconds} s")
    found = around(service, lambda: vegeta.attack(tool, service, inputs.campaigns, rate, seconds))
    return {"scenario": "signup", "connections": None, "rate_asked": rate, **found}


def by_wrk(service, inputs, rate, seconds):
    say(f"fixed rate: {rate:,.0f} sign-ups a second, {seconds} s")
    return measure(service, inputs, "signup", CONNECTIONS, seconds, rate=rate)


def run(result, service, inputs, options):
    rate = result["best"]["signup"]["per_s"] / 3
    tool = None if options.quick else vegeta.find()
    found = result["fixed_rate"] = {"rate": rate}
    report.fixed_header(rate)
    repeats = [by_wrk(service, inputs, rate, options.seconds) for _ in range(options.repeats)]
    found["wrk"] = stats.merge(repeats)
    report.fixed_row("wrk, a third of the best rate", found["wrk"])
    if tool:
        found["vegeta"] = by_vegeta(tool, service, inputs, rate, options.seconds)
        report.fixed_row("vegeta, the same", found["vegeta"])
        found["low_wrk"] = by_wrk(service, inputs, CHECK_RATE, options.seconds)
        report.fixed_row("wrk, a low rate", found["low_wrk"])
        found["low_vegeta"] = by_vegeta(tool, service, inputs, CHECK_RATE, options.seconds)
        report.fixed_row("vegeta, the same", found["low_vegeta"])
