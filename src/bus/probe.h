/* Asks the cluster about the topic. Blocks: pool threads only. */
#ifndef TIDINGS_BUS_PROBE_H
#define TIDINGS_BUS_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"

struct topic_facts {
    uint32_t partitions;
    uint32_t replicas;           /* the fewest of any partition */
    int64_t min_insync_replicas; /* -1: could not be asked */
    int64_t max_message_bytes;   /* -1: could not be asked */
};

/* Up to timeout_ms. False with a sentence in why: no broker, no such topic, not allowed. */
bool topic_probe(const struct config *config, int timeout_ms, struct topic_facts *out, char *why, size_t why_size);

#endif
