"""Throughput and latency against connections, drawn by gnuplot."""

import pathlib
import subprocess
import sys

TERMINALS = {".png": "pngcairo size 1100,900 font 'sans,11'", ".svg": "svg size 1100,900 font 'sans,13' background 'white'"}


def table(scenario, points):
    rows = "\n".join(f"{p['connections']} {p['per_s']} {p['p50_ms']} {p['p99_ms']}" for p in points)
    return f"${scenario} <<END\n{rows}\nEND\n"


def script(file, result):
    scenarios = {name: points for name, points in result["climbs"].items() if points}
    yard = max(result["pgbench"].values())
    title = f"{result['machine']['tidings']}, {result['machine']['cores']} cores ({result['machine']['cpu']})"
    rates = ", ".join([f"${s} using 1:2 with linespoints lw 2 lc {i} pt 7 title '{s}'" for i, s in enumerate(scenarios, 1)]
                      + [f"{yard} with lines dt 2 lc 'black' title 'pgbench INSERTs'"])
    times = ", ".join(f"${s} using 1:3 with linespoints lw 2 dt 3 lc {i} pt 6 title '{s} p50', "
                      f"${s} using 1:4 with linespoints lw 2 lc {i} pt 7 title '{s} p99'" for i, s in enumerate(scenarios, 1))
    title = title.replace("'", "")
    return "".join(table(s, points) for s, points in scenarios.items()) + f"""
set terminal {TERMINALS[pathlib.Path(file).suffix]} noenhanced
set output '{str(file).replace("'", "''")}'
set multiplot layout 2,1 title '{title}'
set grid
set lmargin at screen 0.09
set rmargin at screen 0.80
set logscale x 2
set key outside right
set xlabel 'connections'
set ylabel 'good answers a second'
set format y "%'.0f"
set yrange [0:*]
plot {rates}
set ylabel 'latency in ms'
set format y '%g'
set yrange [*:*]
set logscale y
plot {times}
"""


def draw(file, result):
    done = subprocess.run(["gnuplot"], input=script(file, result), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"loadtest/run: gnuplot: {done.stderr}")
