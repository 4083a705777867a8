"""One process against two on one database, the load divided among them."""

from . import generator, report, stats
from .inputs import Inputs
from .points import measure
from .service import settle
from .shell import say

CONNECTIONS = 512  # in all


def run(result, one, two, options, lengths):
    """one: a single process; two: the two on another database. Both stay; who is not asked does next to nothing."""
    inputs = {service: Inputs(service, options.campaigns, 1) for service in (one, two[0])}
    measure(one, inputs[one], "signup", 64, lengths.warm_up_s)
    together(two, inputs[two[0]], lengths.warm_up_s)
    alone, divided = [], []
    for _ in range(options.repeats):
        say(f"one process, {CONNECTIONS} connections, {options.seconds} s")
        alone.append(measure(one, inputs[one], "signup", CONNECTIONS, options.seconds))
        say(f"two processes, {CONNECTIONS // 2} connections each, {options.seconds} s")
        divided.append(together(two, inputs[two[0]], options.seconds))
    result["processes"] = {
        "one": stats.merge(alone), "two": stats.middle(divided),
        "two_of_one": stats.summary([d["per_s"] / a["per_s"] for a, d in zip(alone, divided)]),
    }
    report.processes(result["processes"])


def together(services, inputs, seconds):
    before = [service.cpu()["tidings"] for service in services]
    running = [generator.start(service, *inputs.wrk_arguments("signup", CONNECTIONS // 2, seconds)) for service in services]
    with generator.stopped_at_the_end(*running):
        found = [generator.finish(wrk, seconds + 120) for wrk in running]
    after = [service.cpu()["tidings"] for service in services]
    rates = [(wrk["requests"] - wrk["bad_status"]) / wrk["duration_s"] for wrk in found]
    good = sum(wrk["requests"] - wrk["bad_status"] for wrk in found)
    return {
        "connections": CONNECTIONS, "per_s": sum(rates), "each_per_s": rates,
        "p50_ms": max(wrk["p50_ms"] for wrk in found), "p99_ms": max(wrk["p99_ms"] for wrk in found),  # of the slower one
        "tidings_cpu_ms_per_1000": 1e6 * (sum(after) - sum(before)) / max(good, 1),
        "settled_in_s": settle(services, 60),
    }
