"""The figures drawn by gnuplot: throughput and latency against connections, the latency distribution at the fixed rate, and
where the CPU time of an answer goes."""

import pathlib
import subprocess
import sys

SIZE = "1500,1150"
TERMINALS = {".png": f"pngcairo size {SIZE} font 'sans,11'", ".svg": f"svg size {SIZE} font 'sans,13' background 'white'"}
NOTHING = "set key off\nset xrange [0:1]\nset yrange [0:1]\nunset tics\nplot NaN\nset tics\n"


def block(name, rows):
    return f"${name} <<END\n" + "\n".join(" ".join(str(value) for value in row) for row in rows) + "\nEND\n"


def with_spread(point, figure):
    return (point[figure], *point["spread"][figure])


def climbs(result):
    """Lines through the medians, bars from the lowest to the highest repeat."""
    scenarios = [name for name, points in result["climbs"].items() if points]
    data = "".join(block(name, [(p["connections"], *with_spread(p, "per_s"), p["p50_ms"], *with_spread(p, "p99_ms"))
                                for p in result["climbs"][name]]) for name in scenarios)
    if not scenarios:
        return data, NOTHING + NOTHING
    rates, times = [], []
    for i, name in enumerate(scenarios, 1):
        rates.append(f"${name} using 1:2:3:4 with yerrorlines lw 2 lc {i} pt 7 title '{name}'")
        times.append(f"${name} using 1:5 with linespoints lw 2 dt 3 lc {i} pt 6 title '{name} p50'")
        times.append(f"${name} using 1:6:7:8 with yerrorlines lw 2 lc {i} pt 7 title '{name} p99'")
    yard = max(found["median"] for found in result["pgbench"].values())
    return data, f"""
set title 'throughput'
set logscale x 2
set key outside below
set xlabel 'connections'
set ylabel 'good answers a second'
set format y "%'.0f"
set yrange [0:*]
plot {", ".join(rates)}, {yard} with lines dt 2 lc 'black' title 'pgbench, one INSERT a transaction'
set title 'latency under that load'
set ylabel 'ms'
set format y '%g'
set yrange [*:*]
set logscale y
plot {", ".join(times)}
"""


def distribution(result):
    found = result.get("fixed_rate", {})
    names = [name for name in ("wrk", "vegeta") if name in found]
    if not names:
        return "", NOTHING
    # 1 / (1 - share): each decade is one more nine.
    data = "".join(block(f"fixed_{name}", [(1 / (1 - q), ms) for q, ms in found[name]["quantiles"]]) for name in names)
    lines = ", ".join(f"$fixed_{name} using 1:2 with linespoints lw 2 pt 7 title 'by {name}'" for name in names)
    return data, f"""
set title 'latency at {found['rate']:.0f} sign-ups a second, from when each was due'
set logscale xy 10
set xlabel 'share of the answers'
set xtics ('50 %%' 2, '90 %%' 10, '99 %%' 100, '99.9 %%' 1000, '99.99 %%' 10000)
set xrange [1:12000]
plot {lines}
set xtics auto
set xrange [*:*]
"""


def cpu(result):
    """One bar a scenario, at its best number of connections."""
    best = {name: point for name, point in result["best"].items() if point}
    if not best:
        return "", NOTHING
    rows = []
    for name, point in best.items():
        of, threads = point["cpu_ms_per_1000"], point["tidings_threads_ms_per_1000"]
        rows.append((f'"{name}, {point["connections"]:.0f}"', threads["loop"], threads["librdkafka"], threads["others"],
                     of["postgres"], of["kafka"], of["generator"]))
    parts = ("tidings, loop", "tidings, librdkafka", "tidings, others", "Postgres", "Kafka", "load generator")
    bars = ", ".join(f"$cpu using {i}{':xtic(1)' if i == 2 else ''} title '{part}'" for i, part in enumerate(parts, 2))
    return block("cpu", rows), f"""
set title 'CPU time of an answer, at the best number of connections'
unset logscale
set style data histograms
set style histogram rowstacked
set style fill solid 0.8
set boxwidth 0.6
set xlabel ''
set ylabel 'us'
set yrange [0:*]
plot {bars}
"""


def script(file, result):
    title = f"{result['machine']['tidings']}, {result['machine']['cores']} cores ({result['machine']['cpu']})".replace("'", "")
    parts = [climbs(result), distribution(result), cpu(result)]
    return "".join(data for data, _ in parts) + f"""
set terminal {TERMINALS[pathlib.Path(file).suffix]} noenhanced
set output '{str(file).replace("'", "''")}'
set multiplot layout 2,2 title '{title}'
set grid
set bmargin 6
""" + "".join(plot for _, plot in parts)


def draw(file, result):
    done = subprocess.run(["gnuplot"], input=script(file, result), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"loadtest/run: gnuplot: {done.stderr}")
