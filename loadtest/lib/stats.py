"""Several repeats of the same measurement as one: the median, and how far they lie apart."""

import statistics

SPREAD = ("per_s", "of_pgbench", "p50_ms", "p99_ms", "p99_9_ms", "max_ms")  # of a point
SUMMED = ("answers", "answers_by_route", "socket_errors", "ran_dry")


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def middle(values):
    """The median of numbers; of dictionaries and lists, of each member; of anything else, the first."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    if all(value == values[0] for value in values):
        return values[0]
    if all(map(is_number, values)):
        return statistics.median(values)
    if all(isinstance(value, dict) for value in values):
        return {key: middle([value[key] for value in values if key in value]) for key in values[0]}
    if all(isinstance(value, list) for value in values):
        return [middle(members) for members in zip(*values)]
    return values[0]


def total(values):
    if isinstance(values[0], dict):
        return {key: sum(value.get(key, 0) for value in values) for value in values for key in value}
    return sum(values)


def merge(points):
    """The repeats of a point as a point, with "spread": {figure: [lowest, highest]}."""
    merged = middle(points)
    merged.update({key: total([point[key] for point in points]) for key in SUMMED if key in points[0]})
    merged["spread"] = {key: [min(p[key] for p in points), max(p[key] for p in points)] for key in SPREAD if key in points[0]}
    return merged
