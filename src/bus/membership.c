/* A consumer's membership in its group. */
#include "bus/membership.h"

#include <stdlib.h>

#include "core/buf.h"

struct membership *membership_of(rd_kafka_t *rk)
{
    struct membership *m = xcalloc(1, sizeof *m);
    m->holders = 1;
    m->metadata = rd_kafka_consumer_group_metadata(rk);
    return m;
}

struct membership *membership_hold(struct membership *m)
{
    if (m)
        m->holders++;
    return m;
}

void membership_release(struct membership *m)
{
    if (!m || --m->holders > 0)
        return;
    if (m->metadata)
        rd_kafka_consumer_group_metadata_destroy(m->metadata);
    free(m);
}
