"""A second opinion on the paced mode: the same sign-ups at the same fixed rate by vegeta, an open-loop generator in Go."""

import base64
import csv
import itertools
import random
import resource
import subprocess

from . import tools
from .generator import tags
from .shell import PROJECT, run

WORKERS = (64, 1024)  # at the start, and at most: each is a request that is on its way
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)


def find():
    return tools.go(PROJECT / "loadtest/tools", "github.com/tsenart/vegeta/v12", "vegeta")


def write_targets(file, service, campaigns, count):
    tag = next(tags)
    with open(file, "w") as out:
        for i in range(count):
            body = base64.b64encode(b'{"email":"%d-v%d-%d@example.com"}' % (random.randrange(10**8), tag, i)).decode()
            out.write(f'{{"method":"POST","url":"{service.base}/v1/campaigns/{random.choice(campaigns)}/users","body":"{body}"}}\n')


def attack(vegeta, service, campaigns, rate, seconds):
    """What generator.finish gives of wrk."""
    targets, results = service.directory / "targets", service.directory / "results"
    write_targets(targets, service, campaigns, int(rate * seconds * 1.01) + 100)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(vegeta, "attack", "-format=json", f"-targets={targets}", "-lazy", f"-rate={rate:.0f}", f"-duration={seconds}s",
        f"-workers={WORKERS[0]}", f"-max-workers={WORKERS[1]}", f"-connections={WORKERS[1]}", "-max-body=0", "-timeout=30s",
        "-header", f"Authorization: Bearer {service.key}", "-header", "Content-Type: application/json", f"-output={results}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen([vegeta, "encode", "-to", "csv", results], stdout=subprocess.PIPE, text=True) as encoder:
        rows = [(int(row[8]), int(row[0]), int(row[1]), int(row[2])) for row in csv.reader(encoder.stdout)]
    targets.unlink()
    results.unlink()
    return {**figures(sorted(rows), rate), "generator_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def figures(rows, rate):
    """rows: number, time of sending in ns, status, latency in ns. A latency counts from when the request was due: vegeta's own
    begins when it was sent, and on a busy machine the generator may be late as well."""
    due = itertools.count(min(sent - number * 1e9 / rate for number, sent, _, _ in rows), 1e9 / rate)
    latencies = sorted((sent - at + latency) / 1e6 for (_, sent, _, latency), at in zip(rows, due))
    last = max(sent + latency for _, sent, _, latency in rows)

    def at(q):
        return latencies[min(int(q * len(latencies)), len(latencies) - 1)]
    return {
        "requests": len(rows), "bad_status": sum(status >= 300 or status == 0 for _, _, status, _ in rows),
        "duration_s": (last - rows[0][1]) / 1e9, "mean_ms": sum(latencies) / len(latencies), "max_ms": latencies[-1],
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "p99_9_ms": at(0.999),
        "quantiles": [[q, at(q)] for q in QUANTILES],
        "connect": sum(status == 0 for _, _, status, _ in rows), "read": 0, "write": 0, "timeout": 0, "ran_dry": 0,
    }
