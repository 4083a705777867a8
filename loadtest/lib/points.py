"""One measured point: wrk for some seconds, and what the servers counted and used meanwhile."""

import resource

from . import metrics
from .generator import run_wrk

SETTLE_S = 60


def cpu_of_all(service):
    """With wrk's own, which takes the same cores: it is the only child that ends while a point is measured."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {**service.cpu(), "wrk": ended.ru_utime + ended.ru_stime}


def measure(service, inputs, scenario, connections, seconds, rate=None, watch=None):
    inputs.before(scenario, connections, seconds, rate)
    service.forget_peak()
    before, cpu_before = service.metrics(), cpu_of_all(service)
    wrk = run_wrk(service, *inputs.wrk_arguments(scenario, connections, seconds), rate=rate, watch=watch)
    after, cpu_after = service.metrics(), cpu_of_all(service)
    counted = metrics.answers(before, after)
    batches = metrics.grown(before, after, "tidings_lane_batch_actions_count")
    point = {
        "scenario": scenario, "connections": connections, "rate_asked": rate,
        "per_s": (wrk["requests"] - wrk["bad_status"]) / wrk["duration_s"],
        **{name: wrk[name] for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms", "ran_dry", "duration_s")},
        "answers": counted, "answers_by_route": metrics.answers_by_route(before, after),
        "socket_errors": {name: wrk[name] for name in ("connect", "read", "write", "timeout") if wrk[name]},
        "cpu_ms_per_1000": {part: 1e6 * (cpu_after[part] - cpu_before[part]) / max(counted["2xx"], 1) for part in cpu_after},
        "peak_rss_mb": service.peak_rss_mb(),
        "batch_mean": metrics.grown(before, after, "tidings_lane_batch_actions_sum") / batches if batches else 0,
        "relay_lag_events": after.get("tidings_relay_lag_events"),
        "group_lag_records": {g: metrics.total(after, "tidings_events_committed_total")
                              - metrics.total(after, "tidings_handled_total", group=g) for g in metrics.groups(after)},
        "commit_to_kafka_p99_ms": metrics.quantile_bound_ms(before, after, "tidings_relay_latency_seconds", 0.99),
    }
    # The next point starts with empty queues.
    point["settled_in_s"] = service.settle(SETTLE_S)
    return point
