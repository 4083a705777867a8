/* `tidings verify`: joins what Postgres committed, what Kafka holds and what the consumer groups did, and counts what does not
 * agree. Only reads; runs beside live processes. Blocks. One thread; app/ alone calls it.
 *
 * The order of looking makes a live system judgeable: first what the groups have committed, then the shards' cursors,
 * then where Kafka's partitions end, then where Postgres' shards end. So
 *   - what a group has committed has had its effect, wherever that is looked for later;
 *   - what a cursor covers is in Kafka before the end that was read;
 *   - what is in Kafka before its end was committed before Postgres was looked at.
 * What came after the ends is not judged. */
#ifndef TIDINGS_VERIFY_VERIFY_H
#define TIDINGS_VERIFY_VERIFY_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "verify/report.h"

struct verify_group {
    const char *name; /* without KAFKA_GROUP_PREFIX */
    uint32_t types;   /* set of (1u << enum event_type) */
    bool handled;     /* it remembers events in `handled`, for HANDLED_KEEP_DAYS */
};

struct verify_options {
    const char *campaign;        /* the id of the only one to be judged; NULL: all */
    const char *since;           /* RFC 3339: only events from that time on; NULL: all */
    int64_t since_us;            /* the same */
    int64_t wait_s;              /* up to so long for outbox and groups to finish what is committed now */
    uint32_t shards, partitions; /* the installation's; partitions 0: not fixed yet */
    const struct verify_group *groups;
    size_t group_count; /* at most REPORT_GROUPS; 0: no groups are judged */
};

/* rows and ask: two connections to the primary, used by nobody else meanwhile. False when it could not look, with a sentence
 * in why; what is wrong with the data is in the report. */
bool verify_run(const struct config *config, const struct verify_options *options, PGconn *rows, PGconn *ask,
                struct report *report, char *why, size_t why_size);

#endif
