/* The topic, as a reader without a group sees it: ends, committed offsets, and partitions read from one offset to another.
 * Blocks. One thread. */
#ifndef TIDINGS_VERIFY_TOPIC_H
#define TIDINGS_VERIFY_TOPIC_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"

struct topic;

/* Connects. streams: how many partitions will be read at a time (it bounds what is fetched ahead). NULL with a sentence in
 * why. */
struct topic *topic_open(const struct config *config, uint32_t streams, char *why, size_t why_size);
void topic_close(struct topic *t);

uint32_t topic_partitions(const struct topic *t);

struct topic_range {
    int64_t low;  /* the first offset that Kafka still has */
    int64_t high; /* the one after the last committed record */
};
bool topic_range(struct topic *t, uint32_t partition, struct topic_range *out, char *why, size_t why_size);

/* The first offset whose record's time is at_ms (since 1970) or later; range.high when there is none. */
bool topic_offset_at(struct topic *t, uint32_t partition, int64_t at_ms, struct topic_range range, int64_t *out,
                     char *why, size_t why_size);

/* What a group has committed, per partition; -1: nothing. */
bool topic_committed(struct topic *t, const char *group, int64_t *out, char *why, size_t why_size);

/* How many records of a partition a group has not finished that has committed this. */
int64_t topic_lag(struct topic_range range, int64_t committed);

/* A partition's records from one offset to another. */
struct stream;

struct stream *stream_open(struct topic *t, uint32_t partition, int64_t from, int64_t to, char *why, size_t why_size);
void stream_close(struct stream *s);

/* The next records, at most max (the caller destroys them). 0: the end, or a failure with a sentence in why (else ""). */
size_t stream_take(struct stream *s, rd_kafka_message_t **out, size_t max, char *why, size_t why_size);

#endif
