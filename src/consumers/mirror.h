/* Copies of dead letters in Kafka, with DEAD_LETTER_TOPICS=on: each goes to the topic of its group, <KAFKA_TOPIC>.<group>.dlq, at
 * least once. Worker thread. */
#ifndef TIDINGS_CONSUMERS_MIRROR_H
#define TIDINGS_CONSUMERS_MIRROR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/db_pool.h"
#include "core/config.h"

/* One turn for all groups: at most MIRROR_BATCH of each. Returns how many went out; -1: none could, for now. */
#define MIRROR_BATCH 100
int64_t mirror_dead_letters(const struct config *config, struct db_pool *db, const _Atomic int64_t *stop_at);

/* --- the way to Kafka; bus/mirror_sender.c fulfils it --- */

struct mirror_header {
    const char *name, *value; /* text; NULL: the header is left out */
};

#define MIRROR_HEADERS 7

struct mirror_record {
    const char *key, *value; /* NULL: Kafka's null */
    size_t key_len, value_len;
    struct mirror_header headers[MIRROR_HEADERS];
    bool sent; /* the brokers have it */
};

/* Sends them to a topic, each to its key's partition, and waits for what becomes of them, some seconds at most. Sets `sent`.
 * False with a sentence in why when one was not. */
bool mirror_send(const struct config *config, const char *topic, struct mirror_record *records, size_t count,
                 const _Atomic int64_t *stop_at, char *why, size_t why_size);

#endif
