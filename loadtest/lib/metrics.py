"""Readings of /metrics: {series: value}, and what can be said from two of them."""

import re

ASIDE = {"metrics", "readyz", "healthz"}  # routes that the load test itself asks


def parse(text):
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            found[series] = float(value)
    return found


def labels(series):
    return dict(re.findall(r'(\w+)="([^"]*)"', series))


def total(reading, name, **wanted):
    """The sum over a metric's series that have these labels."""
    return sum(value for series, value in reading.items()
               if series.split("{", 1)[0] == name and wanted.items() <= labels(series).items())


def grown(before, after, name, **wanted):
    return total(after, name, **wanted) - total(before, name, **wanted)


def groups(reading):
    """The consumer groups that run in this process."""
    return sorted(labels(s)["group"] for s in reading if s.startswith("tidings_group_partitions{"))


def answers(before, after):
    """HTTP answers by class of status, those to the load test's own questions aside."""
    counted = {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}
    for route_and_status, n in answers_by_route(before, after).items():
        counted[route_and_status.split()[-1][0] + "xx"] += n
    return counted


def answers_by_route(before, after):
    """{"sign_up 201": n, …}, those that grew."""
    found = {}
    for series, value in after.items():
        if series.startswith("tidings_http_requests_total{") and value > before.get(series, 0):
            of = labels(series)
            if of["route"] not in ASIDE:
                found[f"{of['route']} {of['status']}"] = int(value - before.get(series, 0))
    return found


def quantile_bound_ms(before, after, name, q):
    """The upper bound of the histogram's bucket that a quantile falls in: it is at most that. None: nothing was seen."""
    buckets = []
    for series, value in after.items():
        if series.startswith(name + "_bucket{"):
            bound = float(labels(series)["le"].replace("+Inf", "inf"))
            buckets.append((bound, value - before.get(series, 0)))
    buckets.sort()
    if not buckets or buckets[-1][1] <= 0:
        return None
    return next(bound for bound, count in buckets if count >= q * buckets[-1][1]) * 1000
