/* Metrics in Prometheus' text format, one table (metrics_table.h). Any thread: values are relaxed atomics. */
#ifndef TIDINGS_CORE_METRICS_H
#define TIDINGS_CORE_METRICS_H

#include <stdint.h>

#include "core/buf.h"
#include "core/metrics_table.h"

enum metric {
#define METRIC_ENUM(id, kind, name, labels, help) id,
    METRICS_TABLE(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

/* A series of a metric: the metric plus label values. Get it once (it is interned for the life of the process), keep
 * the pointer, then update without locks. Label values are given in the table's order; NULL stands for an unused one.
 * At most METRIC_MAX_SERIES per metric; beyond that all share a series with label values "other". */
#define METRIC_MAX_SERIES 512
struct metric_series;
struct metric_series *metric_get(enum metric id, const char *label1, const char *label2);

void metric_add(struct metric_series *s, int64_t n);           /* counter and gauge */
void metric_set(struct metric_series *s, int64_t value);       /* gauge; a gauge named …_seconds is set in microseconds */
void metric_observe(struct metric_series *s, int64_t value);   /* histogram; a …_seconds one takes microseconds */
int64_t metric_value(struct metric_series *s);                 /* counter, gauge; a histogram's count */

/* Short forms for metrics without labels. */
void metric_inc(enum metric id);
void metric_gauge(enum metric id, int64_t value);
void metric_seen(enum metric id, int64_t value);

void metrics_render(struct buf *out); /* the whole exposition; Content-Type: text/plain; version=0.0.4 */

#endif
