/* Kafka transactions: records to a topic, and a group's offsets, become visible together or not at all. bus/transaction.c
 * fulfils this over librdkafka (bus may look at consumers, not the other way round). Blocks: one thread of its own. */
#ifndef TIDINGS_CONSUMERS_TRANSACTION_H
#define TIDINGS_CONSUMERS_TRANSACTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/source.h"
#include "core/config.h"
#include "handlers/outputs.h"

struct transactor;

/* Connects to nothing yet. group: whose transactions they are, without KAFKA_GROUP_PREFIX; topic: the output's. Both and
 * config must outlive it. Never NULL. */
struct transactor *transactor_open(const struct config *config, const char *group, const char *topic);
void transactor_close(struct transactor *t); /* what is not committed never is */

struct transaction {
    const struct output *first; /* the output; NULL: none */
    const struct source_offset *offsets;
    size_t offset_count;
    const struct membership *membership; /* offsets count only while it holds; NULL with no offsets */
};

/* One transaction from begin to commit. With nothing in it, only sees to it that there is a producer and the topic. True:
 * it is committed. False with a sentence in why: it is not, or nobody knows; then the same offsets, or later ones, with
 * output that is not older, may be committed again. Takes TRANSACTION_MAX_MS at most, once *stop_at is set (see struct run)
 * about a second. */
#define TRANSACTION_MAX_MS 15000
bool transactor_commit(struct transactor *t, const struct transaction *x, const _Atomic int64_t *stop_at, char *why,
                       size_t why_size);

#endif
