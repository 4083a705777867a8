"""Whether a sign-up costs more when there are millions: the same load on a small database and on a large one, in turns. Both
have as many campaigns; what differs is the rows."""

from . import disk, fill, report, stats
from .inputs import create_campaigns
from .points import measure
from .shell import say

SMALL_USERS = 10_000
CONNECTIONS = 512
LOADS = {"big": "one big campaign", "small": "many small campaigns"}


class Filled:
    """The inputs of a filled database, in the form that points.measure wants."""

    def __init__(self, service, users, campaigns):
        self.service, self.users, self.directory = service, users, service.directory
        service.start()
        ids = create_campaigns(service, ["Big"] + [f"Small {i}" for i in range(campaigns)])
        for name, of in (("big", ids[:1]), ("small", ids[1:])):
            (self.directory / name).write_text("".join(line + "\n" for line in of))
        if service.settle(60) is None:
            raise SystemExit("loadtest/run: the campaigns do not get to Kafka")
        service.stop()
        fill.fill(service, users)
        users_now, events = service.query("select (select count(*) from users), (select count(*) from events)").split()
        service.at_launch = {"users": int(users_now), "events": int(events), "in_kafka": service.stack.records_in(service.topic)}
        service.launch()

    def before(self, *_):
        """Nothing to prepare for a point."""

    def wrk_arguments(self, load, connections, seconds):
        return "signup", self.directory, connections, seconds, [f"campaigns={load}"]


def measure_with_wal(inputs, load, seconds):
    """A page that is changed for the first time since a checkpoint goes into the WAL whole: with millions of rows, most do."""
    before = disk.wal_bytes(inputs.service)
    point = measure(inputs.service, inputs, load, CONNECTIONS, seconds)
    point["wal_bytes_per_sign_up"] = (disk.wal_bytes(inputs.service) - before) / max(point["answers"]["2xx"], 1)
    return point


def run(result, small, large, options, lengths):
    """small, large: services on databases of their own, not started."""
    filled = {"small": Filled(small, SMALL_USERS, lengths.size_campaigns), "large": Filled(large, options.size, lengths.size_campaigns)}
    for inputs in filled.values():
        for load in LOADS:
            measure(inputs.service, inputs, load, 64, lengths.warm_up_s)
    before = disk.sizes(large)
    points = {(load, size): [] for load in LOADS for size in filled}
    for _ in range(options.repeats):
        for load, text in LOADS.items():
            for size, inputs in filled.items():
                say(f"{text}, {inputs.users:,} users, {options.seconds} s")
                points[load, size].append(measure_with_wal(inputs, load, options.seconds))
    sign_ups = sum(point["answers"]["2xx"] for load in LOADS for point in points[load, "large"])
    found = result["size"] = {
        "users": options.size, "small_users": SMALL_USERS, "campaigns": lengths.size_campaigns + 1, "events": large.at_launch["events"],
        "bytes_per_sign_up": disk.growth(before, disk.sizes(large), sign_ups),
        "database_mb": int(large.query("select pg_database_size(current_database())")) / 2**20,
    }
    for load in LOADS:
        ratios = [b["per_s"] / a["per_s"] for a, b in zip(points[load, "small"], points[load, "large"])]
        found[load] = {"small": stats.merge(points[load, "small"]), "large": stats.merge(points[load, "large"]),
                       "ratio": stats.summary(ratios)}
    report.size(found)
