"""The ingest rate while somebody holds an old snapshot open, as a pg_dump does: whatever is updated or deleted meanwhile
cannot be cleaned up."""

import contextlib
import subprocess
import sys

import time

from . import metrics, report
from .inputs import Inputs
from .points import measure
from .shell import say

CONNECTIONS = 256


@contextlib.contextmanager
def old_snapshot(service):
    holder = subprocess.Popen(["psql", "-qAtX", service.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        holder.stdin.write("begin isolation level repeatable read; select 'held';\n")
        holder.stdin.flush()
        if holder.stdout.readline().strip() != "held":
            sys.exit("loadtest/run: the old snapshot could not be taken")
        yield
        holder.stdin.write("select 'still held';\n")
        holder.stdin.close()
        if holder.stdout.read().strip() != "still held":
            sys.exit("loadtest/run: the old snapshot was lost meanwhile")
    finally:
        holder.kill()
        holder.wait()


class Windows:
    """Sign-ups a second, window by window."""

    def __init__(self, service, seconds):
        self.service, self.seconds, self.rates = service, seconds, []
        self.at, self.count = time.monotonic(), self.read()

    def read(self):
        return metrics.total(self.service.metrics(), "tidings_http_requests_total", route="sign_up", status="201")

    def watch(self, _wrk):
        now = time.monotonic()
        if now - self.at >= self.seconds:
            count = self.read()
            self.rates.append((count - self.count) / (now - self.at))
            self.at, self.count = now, count


def part(service, inputs, seconds, window_s):
    windows = Windows(service, window_s)
    point = measure(service, inputs, "signup", CONNECTIONS, seconds, watch=windows.watch)
    point["windows"] = windows.rates or [point["per_s"]]
    return point


def run(result, service, options, lengths):
    inputs = Inputs(service, options.campaigns, 1)
    window_s = min(10, max(2, options.snapshot_seconds // 5))
    short = max(min(60, options.snapshot_seconds // 3), window_s)
    measure(service, inputs, "signup", 64, lengths.warm_up_s)
    say(f"without an old snapshot, {short} s")
    before = part(service, inputs, short, window_s)
    with old_snapshot(service):
        say(f"with an old snapshot, {options.snapshot_seconds} s")
        held = part(service, inputs, options.snapshot_seconds, window_s)
    say(f"without an old snapshot again, {short} s")
    after = part(service, inputs, short, window_s)
    # The end of the time with it, against the mean of before and after: the table grows meanwhile, with or without it.
    last = held["windows"][-max(1, len(held["windows"]) // 5):]
    without = (before["per_s"] + after["per_s"]) / 2
    result["snapshot"] = {"seconds": options.snapshot_seconds, "window_s": window_s, "before": before, "held": held, "after": after,
                          "ratio": sum(last) / len(last) / without, "worst_window": min(held["windows"]) / without}
    report.snapshot(result["snapshot"])
