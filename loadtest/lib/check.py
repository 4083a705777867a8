"""At the end: what was answered is committed, and what is committed is in Kafka. For one service's whole life."""

from . import metrics

SETTLE_S = 120


def check(service):
    settled = service.settle(SETTLE_S)
    now = service.metrics()
    users, events = service.query("select (select count(*) from users), (select count(*) from events)").split()
    found = {
        "topic": service.topic,
        "sign_ups_answered_201": int(metrics.total(now, "tidings_http_requests_total", route="sign_up", status="201")),
        "users": int(users),
        "events_committed": int(metrics.total(now, "tidings_events_committed_total")),  # what the answers counted
        "events": int(events),
        "in_kafka": service.stack.records_in(service.topic),
        "finished_by_group": {g: int(metrics.total(now, "tidings_handled_total", group=g)) for g in metrics.groups(now)},
        "dead_letters": int(metrics.total(now, "tidings_handled_total", outcome="dead")),
        "answers_5xx": metrics.answers({}, now)["5xx"],
        "settled": settled is not None,
    }
    found["agree"] = (found["sign_ups_answered_201"] == found["users"]
                      and found["events_committed"] == found["events"] == found["in_kafka"]
                      and all(n == found["events"] for n in found["finished_by_group"].values())
                      and found["dead_letters"] == 0)
    return found
