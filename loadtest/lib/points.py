"""One measured point: a load for some seconds, and what the servers counted and used meanwhile."""

import resource

from . import metrics
from .generator import run_wrk

SETTLE_S = 60
LATENCIES = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms", "quantiles")


def cpu_of_all(service):
    """With the generator's own, which takes the same cores: it is the only child that ends while a point is measured."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {**service.cpu(), "generator": ended.ru_utime + ended.ru_stime}


def per_1000(before, after, answers):
    """CPU seconds as ms per 1,000 answers, which is us per answer."""
    return {part: 1e6 * (after[part] - before[part]) / max(answers, 1) for part in after}


def seen(service, before, after, cpu_before, cpu_after, threads_before, threads_after):
    """What the service's own counters say about the time between two readings."""
    counted = metrics.answers(before, after)
    batches = metrics.grown(before, after, "tidings_lane_batch_actions_count")
    return {
        "answers": counted, "answers_by_route": metrics.answers_by_route(before, after),
        "cpu_ms_per_1000": per_1000(cpu_before, cpu_after, counted["2xx"]),
        "tidings_threads_ms_per_1000": per_1000(threads_before, threads_after, counted["2xx"]),
        "peak_rss_mb": service.peak_rss_mb(),
        "batch_mean": metrics.grown(before, after, "tidings_lane_batch_actions_sum") / batches if batches else 0,
        "relay_lag_events": metrics.total(after, "tidings_relay_lag_events"),
        "relay_lag_s": metrics.total(after, "tidings_relay_lag_seconds"),
        "group_lag_records": {g: metrics.total(after, "tidings_events_committed_total")
                              - metrics.total(after, "tidings_handled_total", group=g) for g in metrics.groups(after)},
        "commit_to_kafka_p99_ms": metrics.quantile_bound_ms(before, after, "tidings_relay_latency_seconds", 0.99),
    }


def around(service, load):
    """What load() gives, as generator.finish does, with what the servers counted meanwhile."""
    service.forget_peak()
    before, cpu_before, threads_before = service.metrics(), cpu_of_all(service), service.threads()
    found = load()
    after, cpu_after, threads_after = service.metrics(), cpu_of_all(service), service.threads()
    if "generator_cpu_s" in found:  # it has children that are not part of the load
        cpu_after["generator"] = cpu_before["generator"] + found["generator_cpu_s"]
    point = {
        "per_s": (found["requests"] - found["bad_status"]) / found["duration_s"],
        **{name: found[name] for name in (*LATENCIES, "ran_dry", "duration_s")},
        "socket_errors": {name: found[name] for name in ("connect", "read", "write", "timeout") if found[name]},
        **seen(service, before, after, cpu_before, cpu_after, threads_before, threads_after),
    }
    # The next point starts with empty queues.
    point["settled_in_s"] = service.settle(SETTLE_S)
    return point


def measure(service, inputs, scenario, connections, seconds, rate=None, watch=None):
    inputs.before(scenario, connections, seconds, rate)
    arguments = inputs.wrk_arguments(scenario, connections, seconds)
    return {"scenario": scenario, "connections": connections, "rate_asked": rate,
            **around(service, lambda: run_wrk(service, *arguments, rate=rate, watch=watch))}
