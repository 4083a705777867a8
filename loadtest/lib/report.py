"""What is printed: tables as the points come, and the aims at the end."""

RSS_MB, HALF_P99_MS, KAFKA_P99_MS = 64, 20, 50


def show(*text):
    print(*text, flush=True)


def head(result):
    m, o = result["machine"], result["options"]
    show(f"{m['cores']} cores, {m['cpu']}, {m['memory_mb']:,} MB; {m['kernel']}")
    settings = ", ".join(f"{k} {v}" for k, v in m["postgres"].items() if k != "server_version")
    show(f"{m['tidings']}; Postgres {m['postgres']['server_version']} ({settings}); Kafka {m['kafka']}")
    show("Tidings' settings that are not the defaults: " + ", ".join(f"{k}={v}" for k, v in result["settings"].items()))
    show("options: " + ", ".join(f"{k} {v}" for k, v in o.items()))


def yardstick(rates):
    show("\npgbench, one INSERT a transaction: " + "; ".join(f"{n} clients {r:,.0f}/s" for n, r in rates.items()))


def bound(ms):
    if ms is None:
        return "-"
    return "> 60000" if ms == float("inf") else f"≤ {ms:g}"


def climb_header(scenario):
    show(f"\n{scenario}\n{'conns':>6} {'good/s':>9} {'×pgbench':>8} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'max ms':>8}"
         f" {'4xx':>6} {'5xx':>5} {'batch':>6} {'lag':>6} {'→Kafka p99':>11} {'RSS MB':>7}"
         "   CPU ms per 1,000: tidings postgres kafka  wrk")


def row(point, yard):
    cpu = point["cpu_ms_per_1000"]
    show(f"{point['connections']:>6} {point['per_s']:>9,.0f} {point['per_s'] / yard:>8.2f} {point['p50_ms']:>8.1f}"
         f" {point['p90_ms']:>8.1f} {point['p99_ms']:>8.1f} {point['max_ms']:>8.1f} {point['answers']['4xx']:>6}"
         f" {point['answers']['5xx']:>5} {point['batch_mean']:>6.0f} {point['relay_lag_events'] or 0:>6.0f}"
         f" {bound(point['commit_to_kafka_p99_ms']):>8} ms {point['peak_rss_mb']:>7.0f}"
         f"   {cpu['tidings']:>25.0f} {cpu['postgres']:>8.0f} {cpu['kafka']:>5.0f} {cpu['wrk']:>4.0f}{remarks(point)}")


def remarks(point):
    said = [f"{n} {name} errors" for name, n in point["socket_errors"].items()]
    if point["ran_dry"]:
        said.append(f"{point['ran_dry']} verifications or rewards became reads: too few users prepared")
    if point["rate_asked"] and point["per_s"] < 0.97 * point["rate_asked"]:
        said.append("the rate was not reached")
    return "   " + "; ".join(said) if said else ""


def half_load(point, yard):
    climb_header(f"at half load: {point['rate_asked']:,.0f} sign-ups a second, latency from when each was due")
    row(point, yard)


def group_header():
    show(f"\nwith the consumer groups, mails recorded and not sent\n{'asked/s':>9} {'good/s':>9} {'p50 ms':>8} {'p99 ms':>8}"
         f" {'5xx':>5} {'→Kafka p99':>11} {'settled s':>9}  {'holds':>5}   longest lag and lag at the end")


def group_row(point):
    lags = ", ".join(f"{group} {age:.2f} s, {point['group_lag_records'][group]:,.0f} records"
                     for group, age in point["lag_s"].items())
    settled = "never" if point["settled_in_s"] is None else f"{point['settled_in_s']:.1f}"
    show(f"{point['rate_asked']:>9,.0f} {point['per_s']:>9,.0f} {point['p50_ms']:>8.1f} {point['p99_ms']:>8.1f}"
         f" {point['answers']['5xx']:>5} {bound(point['commit_to_kafka_p99_ms']):>8} ms {settled:>9}"
         f"  {'yes' if point['holds'] else 'no':>5}   {lags}{remarks(point)}")


def check(found):
    show(f"\n{found['topic']}: sign-ups answered 201: {found['sign_ups_answered_201']:,}; users: {found['users']:,};"
         f" events committed: {found['events_committed']:,}; in Postgres: {found['events']:,}; in Kafka:"
         f" {found['in_kafka']:,}" + "".join(f"; finished by {g}: {n:,}" for g, n in found["finished_by_group"].items())
         + (f"; dead letters: {found['dead_letters']:,}" if found["dead_letters"] else "")
         + (": they agree" if found["agree"] else ": THEY DO NOT AGREE"))


def aims(result):
    """[(what, figure, whether it passed or None where it was not measured)]"""
    best, half, yard = result.get("best_sign_up_per_s"), result.get("half_load"), max(result["pgbench"].values())
    bad = sum(found["answers_5xx"] for found in result["checks"])
    kafka = half and half["commit_to_kafka_p99_ms"]
    return [
        ("best sign-up rate ≥ pgbench's best", best and f"{best / yard:.2f} ×", best and best >= yard),
        ("no 5xx answers", f"{bad:,}", bad == 0),
        (f"p99 at half load < {HALF_P99_MS} ms", half and f"{half['p99_ms']:.1f} ms", half and half["p99_ms"] < HALF_P99_MS),
        (f"Kafka within {KAFKA_P99_MS} ms (p99) at half load", kafka and f"{bound(kafka)} ms", kafka and kafka <= KAFKA_P99_MS),
        (f"peak RSS < {RSS_MB} MB", f"{result['peak_rss_mb']:.0f} MB", result["peak_rss_mb"] < RSS_MB),
        ("answers, Postgres and Kafka agree", "", all(found["agree"] for found in result["checks"])),
    ]


def show_aims(found):
    show("\naims")
    for what, figure, passed in found:
        show(f"  {'not measured' if passed is None else 'pass' if passed else 'MISS':<12}  {what:<45} {figure or ''}")
