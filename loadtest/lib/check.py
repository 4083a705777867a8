"""At the end: what was answered is committed, and what is committed is in Kafka. For one database's whole life."""

from . import metrics
from .service import settle

SETTLE_S = 120


def check(*services):
    """services: the processes on one database."""
    settled = settle(services, SETTLE_S)
    now = [service.metrics() for service in services]
    first = services[0]

    def counted(name, **labels):
        return int(sum(metrics.total(reading, name, **labels) for reading in now))

    users, events = first.query("select (select count(*) from users), (select count(*) from events)").split()
    found = {
        "topic": first.topic, "processes": len(services),
        "sign_ups_answered_201": counted("tidings_http_requests_total", route="sign_up", status="201"),
        "users": int(users) - first.at_launch["users"],
        "events_committed": counted("tidings_events_committed_total"),  # what the answers counted
        "events": int(events) - first.at_launch["events"],
        "in_kafka": first.stack.records_in(first.topic) - first.at_launch["in_kafka"],
        "finished_by_group": {g: counted("tidings_handled_total", group=g) for g in metrics.groups(now[0])},
        "dead_letters": counted("tidings_handled_total", outcome="dead"),
        "answers_5xx": sum(metrics.answers({}, reading)["5xx"] for reading in now),
        "settled": settled is not None,
    }
    # While processes divide the shards among them an event may be sent twice; consumers know them by their ids.
    found["repeats_in_kafka"] = found["in_kafka"] - first.stack.events_in(first.topic) if len(services) > 1 else 0
    found["agree"] = (found["sign_ups_answered_201"] == found["users"]
                      and found["events_committed"] == found["events"] == found["in_kafka"] - found["repeats_in_kafka"]
                      and all(n == found["events"] for n in found["finished_by_group"].values())
                      and found["dead_letters"] == 0)
    return found
