/* The relay: committed events go to Kafka, each shard's in order, from memory or, for a gap, from Postgres. Loop thread only. */
#ifndef TIDINGS_RELAY_RELAY_H
#define TIDINGS_RELAY_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/config.h"
#include "domain/event.h"

struct relay;

/* How the relay learns the topic's partitions that hold for this installation. Blocks, on a pool thread: given how many the
 * topic has, returns how many are used (0: a sentence in why). */
typedef uint32_t (*relay_fix_partitions)(void *arg, uint32_t topic_partitions, char *why, size_t why_size);

/* Starts; Kafka, the topic and Postgres may all be absent: it keeps trying. */
struct relay *relay_start(uv_loop_t *loop, const struct config *config, uint32_t shards, relay_fix_partitions fix,
                          void *arg);

/* Committed events, in seq order per shard. Rows are used during the call only. */
void relay_feed(struct relay *r, const struct event_row *rows, size_t count);

/* Something that a person must look at: nothing is sent any more. why is copied. */
void relay_alarm(struct relay *r, const char *why);

/* Why events do not reach Kafka at the moment, for people; "" when they do. */
const char *relay_trouble(const struct relay *r);

/* Waits until what is in flight is acknowledged or deadline_us (clock_mono_us), saves the cursors, closes, calls back. */
void relay_stop(struct relay *r, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg);

#endif
