/* The metric series of one group. */
#include "consumers/group_metrics.h"

#include <stddef.h>

static const char *label(int series)
{
    const char *name = series == SERIES_MALFORMED ? "malformed" : event_type_name((enum event_type)series);
    return name ? name : "unknown";
}

void group_metrics_init(struct group_metrics *m, const char *group)
{
    for (int i = 0; i < SERIES_COUNT; i++) {
        m->messages[i] = metric_get(M_MESSAGES, group, label(i));
        m->errors[i] = metric_get(M_HANDLER_ERRORS, group, label(i));
        m->seconds[i] = metric_get(M_HANDLER_SECONDS, group, label(i));
    }
    m->done = metric_get(M_HANDLED, group, "done");
    m->skipped = metric_get(M_HANDLED, group, "skipped");
    m->dead = metric_get(M_HANDLED, group, "dead");
    m->ignored = metric_get(M_HANDLED, group, "ignored");
    m->held = metric_get(M_HANDLED, group, "held");
    m->parked = metric_get(M_HANDLED, group, "parked");
    m->held_retry = metric_get(M_HELD, group, "retry");
    m->held_parked = metric_get(M_HELD, group, "parked");
    m->held_dead = metric_get(M_HELD, group, "dead");
    m->run_size = metric_get(M_RUN_SIZE, group, NULL);
    m->lag = metric_get(M_GROUP_LAG, group, NULL);
    m->window = metric_get(M_GROUP_WINDOW, group, NULL);
    m->partitions = metric_get(M_GROUP_PARTITIONS, group, NULL);
    m->missing = metric_get(M_GROUP_MISSING, group, NULL);
}
