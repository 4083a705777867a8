/* The relay's window: per shard which events are committed, per partition which are with Kafka and which are acknowledged.
 * Pure data, no I/O: what to send, what to read again, and how far the cursor may move. Loop thread only.
 *
 * A partition belongs to one shard (partitions is a multiple of shards). Every seq of a shard is the business of one of
 * its partitions; for the others it counts as passed. Per partition:
 *     passed      every seq up to here was sent or belongs to another partition
 *     in flight   sent, not acknowledged, in order
 *     settled     the seq before the first one in flight, or `passed` when none is
 * The shard's cursor is the least `settled` of its partitions: all up to it is acknowledged. */
#ifndef TIDINGS_RELAY_WINDOW_H
#define TIDINGS_RELAY_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "domain/event.h"

struct window;

/* Sends a row to its partition. Returns the bytes it takes; 0: no room now, it will be read again. */
typedef size_t (*window_send)(void *arg, uint32_t partition, const struct event_row *row);

/* max_count and max_bytes bound what is in flight per partition. */
struct window *window_new(uint32_t shards, uint32_t partitions, size_t max_count, size_t max_bytes);
void window_free(struct window *w);

/* Whether this process relays the shard; at first it relays none. Of a shard that is not its own nothing is sent or missed;
 * what is in flight then may still be acknowledged. */
void window_own(struct window *w, uint32_t shard, bool own);

/* Everything up to seq is acknowledged: the saved cursor of a shard that was taken over. Only forwards, and only for partitions
 * that have nothing in flight: of those more is known here. */
void window_start_at(struct window *w, uint32_t shard, int64_t seq);

/* Sends everything after seq again. Nothing of the shard may be in flight. */
void window_go_back(struct window *w, uint32_t shard, int64_t seq);

/* Rows of one or more shards, in seq order per shard, from a commit's answer or a read. Rows that come too early (a gap
 * before them), too late (passed already) or find no room are left out; window_gap says what to read. A row of type
 * EVENT_NONE was purged, which only happens to what Kafka has acknowledged: it is passed without being sent. */
void window_feed(struct window *w, const struct event_row *rows, size_t count, window_send send, void *arg);

/* The shard has events up to seq. */
void window_saw(struct window *w, uint32_t shard, int64_t seq);

/* Forgets what was only seen and not passed: another server may not have it. */
void window_unsee(struct window *w);

/* Whether a partition of the shard misses events and has room for all of them, for page of them, or is half empty: reading for
 * less room would read again and again. *from: the last seq passed by the one furthest behind of these; *count: how many
 * events after it to read, at most page. */
bool window_gap(const struct window *w, uint32_t shard, size_t page, int64_t *from, size_t *count);

/* The first in flight of the partition is acknowledged. False when it is not seq: the producer broke its promise. */
bool window_ack(struct window *w, uint32_t partition, int64_t seq, int64_t now_us, int64_t *at_us);

/* What is in flight is given up: everything past the settled is sent again, one event alone first per partition (a broker
 * accepts any first sequence number from a producer that it does not know). */
void window_rewind(struct window *w);

/* Partitions idle since before idle_since_us must prove themselves again in the same way. */
void window_distrust_idle(struct window *w, int64_t idle_since_us);

/* A partition whose next event can never be sent: nothing more is sent to it. */
void window_halt(struct window *w, uint32_t partition);
uint32_t window_halted(const struct window *w); /* how many */

int64_t window_cursor(const struct window *w, uint32_t shard);
int64_t window_head(const struct window *w, uint32_t shard);
/* The id of the event at seq, when it is the last that one of the shard's partitions had acknowledged. */
bool window_id_at(const struct window *w, uint32_t shard, int64_t seq, struct uuid *id);
/* The shard's newest event whose id is known: in flight or acknowledged. False when there is none yet. */
bool window_newest(const struct window *w, uint32_t shard, int64_t *seq, struct uuid *id);
/* Event time of the oldest event in flight, INT64_MAX when none. */
int64_t window_oldest_us(const struct window *w);
size_t window_in_flight(const struct window *w);
size_t window_shard_in_flight(const struct window *w, uint32_t shard);

#endif
