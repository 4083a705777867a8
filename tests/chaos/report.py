"""The result of a run: as a table for people, and as JSON."""

import statistics

from .plan import KINDS


def result(options, plan, recoveries, record, verdict, faults, verify):
    """verdict None: it did not come to that. faults: sentences about what went wrong besides. verify: what `tidings verify`
    said, or None."""
    counts = record.counts()
    by_kind = {}
    for fault in plan:
        by_kind.setdefault(fault.kind, {"count": 0, "recovery_s": []})["count"] += 1
        if fault.number in recoveries:
            by_kind[fault.kind]["recovery_s"].append(round(recoveries[fault.number], 2))
    return {
        "seed": options.seed,
        "seconds": options.seconds,
        "processes": options.processes,
        "actions": {"acknowledged": counts["done"], "refused": counts["refused"], "unknown": counts["unknown"],
                    "repeated under a key": sum(a.repeats for a in record.actions),
                    "asked again after doubt": sum(a.in_doubt and a.key is not None for a in record.actions)},
        "answers": dict(record.statuses.most_common()),
        "slowest_answer_s": round(record.slowest_s, 2),
        "faults": by_kind,
        "skipped": options.skipped,
        "wrong": dict(verdict.counts) if verdict else None,
        "events": verdict.events if verdict else None,
        "repeats_in_kafka": verdict.repeats if verdict else None,
        "external": verdict.external if verdict else None,
        "verify": verify,
        "notes": faults + record.faults + (verdict.notes if verdict else []),
    }


def is_good(result):
    return result["wrong"] is not None and not any(result["wrong"].values()) and not result["notes"]


def table(result):
    lines = ["", "actions"]
    lines += [f"  {name:26} {count:8}" for name, count in result["actions"].items()]
    lines += ["answers"]
    lines += [f"  {name:26} {count:8}" for name, count in result["answers"].items()]
    lines += [f"  {'slowest':26} {result['slowest_answer_s']:8} s", "",
              f"{'faults':28} {'count':>8}   {'recovered after, s: p50':>24} {'max':>6}"]
    for kind in KINDS:
        if kind in result["faults"]:
            of_kind = result["faults"][kind]
            took = of_kind["recovery_s"]
            shown = f"{statistics.median(took):24.2f} {max(took):6.2f}" if took else f"{'-':>24} {'-':>6}"
            lines.append(f"  {kind:26} {of_kind['count']:8}   {shown}")
        elif kind in result["skipped"]:
            lines.append(f"  {kind:26}  skipped: {result['skipped'][kind]}")
    if result["wrong"] is not None:
        lines += ["", f"{'events':28} {result['events']:8}", f"{'repeats in Kafka':28} {result['repeats_in_kafka']:8}"]
        lines += [f"{name:28} {count:8}" for name, count in result["external"].items()]
        lines += ["", "wrong"]
        lines += [f"  {name:26} {count:8}" for name, count in result["wrong"].items()]
    if result["notes"]:
        lines += ["", *result["notes"][:20]]
        if len(result["notes"]) > 20:
            lines.append(f"… and {len(result['notes']) - 20} more")
    return "\n".join(lines)
