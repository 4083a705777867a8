"""How far each consumer group is behind, in seconds.

Committed and finished events are two curves over time. A group that has finished F events is as far behind as the time since
the F+1st was committed: the age of its oldest unfinished event, if they are finished about in order. It takes in the whole
way: relay, Kafka, waiting, work."""

import bisect
import time

from . import metrics


class Lag:
    """Samples one service, from a moment on when nothing is unfinished."""

    def __init__(self, service):
        self.service, self.times, self.committed, self.finished = service, [], [], []
        self.ages = {group: [] for group in metrics.groups(service.metrics())}  # group: [(time, age)]

    def sample(self):
        asked = time.monotonic()
        reading = self.service.metrics()
        now = (asked + time.monotonic()) / 2
        self.times.append(now)
        self.committed.append(metrics.total(reading, "tidings_events_committed_total"))
        for group, ages in self.ages.items():
            ages.append((now, self.age(now, metrics.total(reading, "tidings_handled_total", group=group))))
        return max((ages[-1][1] for ages in self.ages.values()), default=0)

    def age(self, now, finished):
        """The time since finished + 1 events were committed, between two samples by proportion."""
        at = bisect.bisect_left(self.committed, finished + 1)
        if at == len(self.committed):
            return 0.0  # all is finished
        if at == 0:
            return now - self.times[0]
        low, high = self.committed[at - 1], self.committed[at]
        part = (finished + 1 - low) / (high - low)
        return now - (self.times[at - 1] + part * (self.times[at] - self.times[at - 1]))

    def highest(self):
        return {group: max((age for _, age in ages), default=0) for group, ages in self.ages.items()}

    def growth(self):
        """By how many seconds the lag grew from the middle third of the time to the last one."""
        def mean(ages):
            return sum(age for _, age in ages) / max(len(ages), 1)
        return {group: mean(ages[2 * len(ages) // 3:]) - mean(ages[len(ages) // 3:2 * len(ages) // 3])
                for group, ages in self.ages.items()}
