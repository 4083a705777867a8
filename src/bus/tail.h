/* The last event of each partition of the topic: what Kafka has last heard of. Blocks: pool threads only. */
#ifndef TIDINGS_BUS_TAIL_H
#define TIDINGS_BUS_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/config.h"
#include "core/uuid.h"

/* An event as its record names it. */
struct tail_event {
    struct uuid aggregate, id;
    int64_t version;
};

struct topic_tail {
    struct tail_event *events; /* of partitions whose last record is one of ours; owned: topic_tail_free */
    size_t count;
};

/* Reads the last record of each of the topic's partitions within timeout_ms. A partition that is empty, or ends with something
 * that is no event of ours, has none. False with a sentence in why: no broker, no such topic, not allowed. */
bool topic_tail_read(const struct config *config, uint32_t partitions, int timeout_ms, struct topic_tail *out,
                     char *why, size_t why_size);
void topic_tail_free(struct topic_tail *tail);

/* As three arrays for Postgres, of the same length: aggregates, versions, ids. Owned by the caller. */
enum { TAIL_ARRAYS = 3 };
void topic_tail_arrays(const struct topic_tail *tail, struct buf out[TAIL_ARRAYS]);

#endif
