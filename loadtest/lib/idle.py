"""Thousands of connections that are open and mostly silent, beside some busy ones."""

from . import generator, report, stats
from .inputs import Inputs
from .points import measure
from .shell import say

BUSY = 64
EVERY_S = 4     # an idle connection asks once in that time, on average
MARGIN_S = 600  # the idle ones are stopped when the busy ones are done


def run(result, service, options, lengths):
    found = result["idle"] = {"connections": lengths.idle_connections}
    inputs = Inputs(service, options.campaigns, lengths.referrers_each)
    measure(service, inputs, "signup", BUSY, lengths.warm_up_s)
    alone, beside = [], []
    for _ in range(options.repeats):
        say(f"{BUSY} connections alone, {options.seconds} s")
        alone.append(measure(service, inputs, "signup", BUSY, options.seconds))
        say(f"{BUSY} connections beside {lengths.idle_connections:,} idle ones, {options.seconds} s")
        beside.append(beside_idle(service, inputs, options, lengths))
    found.update(alone=stats.merge(alone), beside=stats.merge(beside))
    found["rate_kept"] = stats.summary([b["per_s"] / a["per_s"] for a, b in zip(alone, beside)])
    report.idle(found)


def beside_idle(service, inputs, options, lengths):
    idle = generator.start(service, "idle", inputs.directory, lengths.idle_connections, options.seconds + MARGIN_S,
                           [f"every={EVERY_S}"])
    with generator.stopped_at_the_end(idle):
        generator.wait_open(service, lengths.idle_connections)
        point = measure(service, inputs, "signup", BUSY, options.seconds)
        generator.interrupt(idle)
        theirs = generator.finish(idle, 60)
    point["idle"] = {name: theirs[name] for name in ("p50_ms", "p99_ms", "max_ms", "connect", "read", "write", "timeout")}
    point["idle"]["per_s"] = theirs["requests"] / theirs["duration_s"]
    return point
