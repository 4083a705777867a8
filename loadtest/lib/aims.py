"""What Tidings aims at, and whether this run saw it. Ratios are of one run: the machine is in both of their sides."""

INGEST, PIPELINE, ONE_CONNECTION = 1.5, 0.5, 2.0          # × pgbench
LAG_S = 1.0
P99_MS, P99_9_MS, KAFKA_P99_MS = 5, 15, 50                # at a third of the best rate
IDLE_MB, FULL_MB, READY_MS = 40, 100, 300
SNAPSHOT, SIZE = 0.7, 0.8


def aim(what, figure, passed):
    """figure and passed: None where it was not measured."""
    return {"aim": what, "figure": figure, "passed": passed}


def unmeasured(what):
    return aim(what, None, None)


def ratio(what, found, least=None, most=None):
    """found: a summary of ratios, one of each repeat."""
    if not found:
        return unmeasured(what)
    middle = found["median"]
    return aim(what, f"{middle:.2f} × ({found['min']:.2f} to {found['max']:.2f})", middle >= least if least else middle <= most)


def below(what, value, limit, unit, digits=1):
    return aim(what, None if value is None else f"{value:.{digits}f} {unit}", None if value is None else value < limit)


def highest(values):
    return max(values, default=None)


def of_ingest(result):
    best = result["best_of_pgbench"]
    points = [point for name in ("signup", "one") for point in result["climbs"].get(name, [])]
    return [
        ratio(f"best sign-up rate ≥ {INGEST:g} × pgbench's best", best.get("signup"), least=INGEST),
        ratio(f"on one hot campaign ≥ {INGEST:g} × pgbench's best", best.get("one"), least=INGEST),
        below(f"relay's lag at the end of each of these < {LAG_S:g} s", highest(p["relay_lag_s"] for p in points), LAG_S, "s", 2),
        ratio(f"one connection: mean time ≤ {ONE_CONNECTION:g} × pgbench's with one client",
              result.get("one_connection_of_pgbench"), most=ONE_CONNECTION),
    ]


def of_fixed_rate(result):
    point = result.get("fixed_rate", {}).get("wrk", {})
    kafka = point.get("commit_to_kafka_p99_ms")
    return [
        below(f"at a third of the best rate: p99 ≤ {P99_MS} ms", point.get("p99_ms"), P99_MS + 1e-9, "ms"),
        below(f"at a third of the best rate: p99.9 ≤ {P99_9_MS} ms", point.get("p99_9_ms"), P99_9_MS + 1e-9, "ms"),
        aim(f"at a third of the best rate: in Kafka within {KAFKA_P99_MS} ms (p99)", kafka and f"≤ {kafka:g} ms",
            kafka and kafka <= KAFKA_P99_MS),
    ]


def of_groups(result):
    return [ratio(f"all groups on: steady rate with every lag < {LAG_S:g} s ≥ {PIPELINE:g} × pgbench's best",
                  result.get("groups", {}).get("of_pgbench"), least=PIPELINE)]


def of_memory(result):
    found, starts = result.get("idle"), result["starts"].values()
    count = f"{found['connections']:,}" if found else "thousands of"
    return [
        below(f"every start: ready in < {READY_MS} ms", highest(s["ready_ms"] for s in starts), READY_MS, "ms", 0),
        below(f"every start: memory when idle < {IDLE_MB} MB", highest(s["idle_rss_mb"] for s in starts), IDLE_MB, "MB", 0),
        below(f"memory at full load with {count} connections < {FULL_MB} MB", found and found["beside"]["peak_rss_mb"], FULL_MB,
              "MB", 0),
        below(f"memory in the whole run < {FULL_MB} MB", result["peak_rss_mb"], FULL_MB, "MB", 0),
    ]


def of_growth(result):
    held, size = result.get("snapshot"), result.get("size")
    users = f"{size['users']:,}" if size else "millions of"
    return [
        aim(f"with an old snapshot ≥ {SNAPSHOT:g} × the rate without", held and f"{held['ratio']:.2f} × after {held['seconds']} s",
            held and held["ratio"] >= SNAPSHOT),
        *(ratio(f"{users} users, {text}: ≥ {SIZE:g} × the rate at 10,000", size and size[load]["ratio"], least=SIZE)
          for load, text in (("big", "one big campaign"), ("small", "many small ones"))),
    ]


def of_checks(result):
    bad = sum(found["answers_5xx"] for found in result["checks"])
    return [aim("no 5xx answers", f"{bad:,}", bad == 0),
            aim("answers, Postgres and Kafka agree", "", all(found["agree"] for found in result["checks"]))]


def all_of(result):
    peers = result.get("peers", {}).get("aims") or [
        unmeasured("what --peers measures: CPU against a bare HTTP endpoint, the relay against other relays")]
    return [*of_ingest(result), *of_groups(result), *of_fixed_rate(result), *of_memory(result), *of_growth(result), *peers,
            *of_checks(result)]
