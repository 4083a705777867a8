"""Each scenario through all connection counts, several times, with pgbench before each repeat: what drifts meanwhile (the
machine's clock, the size of the database) hits both, and a ratio is one of the same repeat."""

from . import disk, pgbench, report, stats
from .points import measure
from .shell import say


def climb(service, inputs, options, scenario, yard):
    points = []
    if scenario == "mix":
        inputs.prepare_mix([(connections, options.seconds, None) for connections in options.connections])
    report.climb_header(scenario)
    for connections in options.connections:
        say(f"{scenario}, {connections} connections, {options.seconds} s")
        points.append(measure(service, inputs, scenario, connections, options.seconds))
        points[-1]["of_pgbench"] = points[-1]["per_s"] / yard
        report.row(points[-1])
        if scenario == "signup":
            inputs.best_rate = max(inputs.best_rate or 0, points[-1]["per_s"])
    return points


def sign_ups_and_disk(service, inputs, options, yard):
    """The climb of sign-ups, with what they take on disk: other scenarios write other rows."""
    before = disk.sizes(service)
    points = climb(service, inputs, options, "signup", yard)
    growth = disk.growth(before, disk.sizes(service), sum(point["answers"]["2xx"] for point in points))
    report.disk(growth)
    return points, growth


def repeat(service, inputs, options, number):
    report.show(f"\nrepeat {number} of {options.repeats}")
    rates = pgbench.rates(service, options.seconds)
    report.pgbench(rates)
    found = {"pgbench": rates, "climbs": {}}
    for scenario in options.climbs:
        if scenario == "signup":
            found["climbs"][scenario], found["bytes_per_sign_up"] = sign_ups_and_disk(service, inputs, options, pgbench.yard(rates))
        else:
            found["climbs"][scenario] = climb(service, inputs, options, scenario, pgbench.yard(rates))
    return found


def best_of(points):
    return max(points, key=lambda point: point["per_s"])


def run(result, service, inputs, options):
    repeats = result["repetitions"] = [repeat(service, inputs, options, i + 1) for i in range(options.repeats)]
    result["pgbench"] = {n: stats.summary([r["pgbench"][n] for r in repeats]) for n in pgbench.CLIENTS}
    for scenario in options.climbs:
        climbs = [r["climbs"][scenario] for r in repeats]
        result["climbs"][scenario] = [stats.merge(points) for points in zip(*climbs)]
        result["best"][scenario] = best_of(result["climbs"][scenario])
        # The best of each repeat against pgbench's best of that repeat.
        result["best_of_pgbench"][scenario] = stats.summary([best_of(points)["of_pgbench"] for points in climbs])
    if "signup" in options.climbs and 1 in options.connections:
        ones = [next(p for p in r["climbs"]["signup"] if p["connections"] == 1)["mean_ms"] * r["pgbench"][1] / 1e3 for r in repeats]
        result["one_connection_of_pgbench"] = stats.summary(ones)  # mean time of a sign-up ÷ of a transaction, one at a time
    if "signup" in options.climbs:
        result["bytes_per_sign_up"] = stats.middle([r["bytes_per_sign_up"] for r in repeats])
    if inputs.mix:
        result["left_out_of_the_mix"] = inputs.mix.left_out
    if options.repeats > 1:
        report.medians(result)
