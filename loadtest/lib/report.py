"""What is printed: tables as the points come, the medians, and the aims at the end."""


def show(*text):
    print(*text, flush=True)


def head(result):
    m, o = result["machine"], result["options"]
    show(f"{m['cores']} cores, {m['cpu']}, {m['memory_mb']:,} MB; {m['kernel']}; fdatasync of a page {m['fdatasync_us']:.0f} us")
    settings = ", ".join(f"{k} {v}" for k, v in m["postgres"].items() if k != "server_version")
    show(f"{m['tidings']}; Postgres {m['postgres']['server_version']} ({settings}); Kafka {m['kafka']}; {m['wrk']}")
    show("Tidings' settings that are not the defaults: " + ", ".join(f"{k}={v}" for k, v in result["settings"].items()))
    show("options: " + ", ".join(f"{k} {v}" for k, v in o.items()))


def pgbench(rates):
    show("pgbench, one INSERT a transaction: "
         + "; ".join(f"{n} client{'s' if n > 1 else ''} {r:,.0f}/s" for n, r in rates.items()))


def bound(ms):
    if ms is None:
        return "-"
    return "> 60000" if ms == float("inf") else f"≤ {ms:g}"


COLUMNS = (f"{'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'p99.9':>8} {'max ms':>8} {'4xx':>6} {'5xx':>5} {'batch':>6} {'lag':>6}"
           f" {'→Kafka p99':>11} {'RSS MB':>7}   CPU us/answer: {'tidings':>7} (loop + rdkafka) {'postgres':>8} {'kafka':>5}"
           f" {'load':>5}")


def figures(point):
    cpu, threads = point["cpu_ms_per_1000"], point["tidings_threads_ms_per_1000"]
    return (f"{point['p50_ms']:>8.2f} {point['p90_ms']:>8.2f} {point['p99_ms']:>8.2f} {point['p99_9_ms']:>8.2f}"
            f" {point['max_ms']:>8.1f} {point['answers']['4xx']:>6} {point['answers']['5xx']:>5} {point['batch_mean']:>6.0f}"
            f" {point['relay_lag_events']:>6.0f} {bound(point['commit_to_kafka_p99_ms']):>8} ms {point['peak_rss_mb']:>7.0f}"
            f"   {cpu['tidings']:>22.0f} ({threads['loop']:>4.0f} + {threads['librdkafka']:>7.0f}) {cpu['postgres']:>8.0f}"
            f" {cpu['kafka']:>5.0f} {cpu['generator']:>5.0f}{remarks(point)}")


def remarks(point):
    said = [f"{n} {name} errors" for name, n in point["socket_errors"].items() if n]
    if point["ran_dry"]:
        said.append(f"{point['ran_dry']} verifications or rewards became reads: too few users prepared")
    if point.get("rate_asked") and point["per_s"] < 0.97 * point["rate_asked"]:
        said.append("the rate was not reached")
    return "   " + "; ".join(said) if said else ""


def climb_header(scenario):
    show(f"\n{scenario}\n{'conns':>6} {'good/s':>9} {'×pgbench':>8} {COLUMNS}")


def row(point):
    show(f"{point['connections']:>6.0f} {point['per_s']:>9,.0f} {point['of_pgbench']:>8.2f} {figures(point)}")


def spread(found, digits=0):
    return f"{found['median']:,.{digits}f} ({found['min']:,.{digits}f} to {found['max']:,.{digits}f})"


def medians(result):
    show(f"\nmedians of {result['options']['repeats']} repeats (and lowest to highest)")
    show("pgbench, one INSERT a transaction, by clients: "
         + "; ".join(f"{n}: {spread(found)}/s" for n, found in result["pgbench"].items()))
    for scenario, points in result["climbs"].items():
        climb_header(scenario)
        for point in points:
            row(point)
        for point in points:
            low = {name: f"{a:,.2f} to {b:,.2f}" for name, (a, b) in point["spread"].items()}
            show(f"{point['connections']:>6.0f}  good/s {point['spread']['per_s'][0]:,.0f} to {point['spread']['per_s'][1]:,.0f};"
                 f" ×pgbench {low['of_pgbench']}; p50 {low['p50_ms']}; p99 {low['p99_ms']} ms")


def fixed_header(rate):
    show(f"\nat a fixed rate: a third of the best, {rate:,.0f} sign-ups a second; latency from when each was due\n"
         f"{'':<30} {'asked/s':>8} {'good/s':>9} {COLUMNS}")


def fixed_row(name, point):
    show(f"{name:<30} {point['rate_asked']:>8,.0f} {point['per_s']:>9,.0f} {figures(point)}")


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


def steady(found, lag_s):
    show(f"\nhighest steady rate found with every group's lag under {lag_s:g} s: {spread(found['steady_per_s'])} sign-ups/s,"
         f" {spread(found['of_pgbench'], 2)} × pgbench's best")


def idle(found):
    show(f"\n{found['connections']:,} mostly idle connections\n{'':<30} {'':>8} {'good/s':>9} {COLUMNS}")
    for name in ("alone", "beside"):
        show(f"{'busy ones ' + name:<30} {'':>8} {found[name]['per_s']:>9,.0f} {figures(found[name])}")
    theirs = found["beside"]["idle"]
    show(f"rate kept: {spread(found['rate_kept'], 2)} ×; the idle ones asked {theirs['per_s']:,.0f} times a second: p50"
         f" {theirs['p50_ms']:.1f}, p99 {theirs['p99_ms']:.1f}, max {theirs['max_ms']:.0f} ms; errors: connect {theirs['connect']:g},"
         f" read {theirs['read']:g}, write {theirs['write']:g}, timeout {theirs['timeout']:g}")


def processes(found):
    one, two = found["one"], found["two"]
    show(f"\nprocesses on one database, {two['connections']:.0f} connections in all\n"
         f"  one  {one['per_s']:>9,.0f}/s  p50 {one['p50_ms']:.1f} ms  p99 {one['p99_ms']:.1f} ms"
         f"  CPU of tidings {one['cpu_ms_per_1000']['tidings']:.0f} us/answer\n"
         f"  two  {two['per_s']:>9,.0f}/s  p50 {two['p50_ms']:.1f} ms  p99 {two['p99_ms']:.1f} ms"
         f"  CPU of tidings {two['tidings_cpu_ms_per_1000']:.0f} us/answer  ({' + '.join(f'{r:,.0f}' for r in two['each_per_s'])})\n"
         f"  two ÷ one: {spread(found['two_of_one'], 2)}")


def snapshot(found):
    show(f"\nan old snapshot held open for {found['seconds']} s: sign-ups a second in windows of {found['window_s']} s")
    for name in ("before", "held", "after"):
        show(f"  {name:<7}" + " ".join(f"{rate:,.0f}" for rate in found[name]["windows"]))
    show(f"  the last fifth with it ÷ without it: {found['ratio']:.2f}; the worst window: {found['worst_window']:.2f}")


def size(found):
    show(f"\n{found['users']:,} users and {found['events']:,} events ({found['database_mb']:,.0f} MB) against"
         f" {found['small_users']:,} users, {found['campaigns']:,} campaigns each\n{'':<30} {'users':>12} {'good/s':>9} {COLUMNS}")
    for load, text in (("big", "one big campaign"), ("small", "many small campaigns")):
        for name, users in (("small", found["small_users"]), ("large", found["users"])):
            point = found[load][name]
            show(f"{text:<30} {users:>12,} {point['per_s']:>9,.0f} {figures(point)}")
        wal = " and ".join(f"{found[load][name]['wal_bytes_per_sign_up']:,.0f}" for name in ("small", "large"))
        show(f"{'':<30} ratio {spread(found[load]['ratio'], 2)}; WAL bytes a sign-up {wal}")
    disk(found["bytes_per_sign_up"])


def disk(growth):
    show("bytes a sign-up: " + "; ".join(f"{name} {table:.0f} + indexes {indexes:.0f}" for name, (table, indexes) in growth.items())
         + f"; in all {sum(map(sum, growth.values())):.0f}")


def check(found):
    repeats = f" (and {found['repeats_in_kafka']:,} repeats)" if found["repeats_in_kafka"] else ""
    show(f"\n{found['topic']}: sign-ups answered 201: {found['sign_ups_answered_201']:,}; users: {found['users']:,};"
         f" events committed: {found['events_committed']:,}; in Postgres: {found['events']:,}; in Kafka:"
         f" {found['in_kafka'] - found['repeats_in_kafka']:,}{repeats}"
         + "".join(f"; finished by {g}: {n:,}" for g, n in found["finished_by_group"].items())
         + (f"; dead letters: {found['dead_letters']:,}" if found["dead_letters"] else "")
         + (": they agree" if found["agree"] else ": THEY DO NOT AGREE"))


def starts(result):
    show("\nstart to ready, and memory then: "
         + "; ".join(f"{name} (groups: {of['groups']}) {of['ready_ms']:.0f} ms, {of['idle_rss_mb']:.0f} MB"
                     for name, of in result["starts"].items()))


def show_aims(found):
    show("\naims")
    for aim in found:
        verdict = "not measured" if aim["passed"] is None else "pass" if aim["passed"] else "MISS"
        show(f"  {verdict:<12}  {aim['aim']:<72} {aim['figure'] or ''}")
