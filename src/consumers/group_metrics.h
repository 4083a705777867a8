/* The metric series of one group, looked up once. Any thread. */
#ifndef TIDINGS_CONSUMERS_GROUP_METRICS_H
#define TIDINGS_CONSUMERS_GROUP_METRICS_H

#include "core/metrics.h"
#include "domain/event.h"

/* By event type; what has no type of ours counts as UNKNOWN or MALFORMED. */
enum { SERIES_UNKNOWN = EVENT_NONE, SERIES_MALFORMED = EVENT_TYPE_MAX, SERIES_COUNT };

struct group_metrics {
    struct metric_series *messages[SERIES_COUNT], *errors[SERIES_COUNT], *seconds[SERIES_COUNT];
    struct metric_series *done, *skipped, *dead, *ignored, *held, *parked;
    struct metric_series *held_retry, *held_parked, *held_dead;
    struct metric_series *run_size, *lag, *window, *partitions, *missing;
};

void group_metrics_init(struct group_metrics *m, const char *group);

#endif
