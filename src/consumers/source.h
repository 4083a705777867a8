/* Where a group's records come from: a consumer of the topic that shares its partitions with the group's other hosts.
 * This header is the contract; bus/source.c fulfils it over librdkafka (bus may look at consumers, not the other way
 * round), and a test may link its own. Loop thread only; nothing here blocks.
 *
 * Partitions come with on_assign. They go with on_revoke: the callee takes no more from them, lets what runs end,
 * commits, and calls source_release; only then does the group's rebalance go on. */
#ifndef TIDINGS_CONSUMERS_SOURCE_H
#define TIDINGS_CONSUMERS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/config.h"
#include "core/inbox.h"

struct source;

/* A record as Kafka has it; valid during on_record. */
struct source_record {
    int32_t partition;
    int64_t offset;
    const char *key, *value; /* NULL: Kafka's null; not NUL-terminated */
    size_t key_len, value_len;
};

struct source_offset {
    int32_t partition;
    int64_t next; /* the offset to go on from */
};

/* What this process is in its group until the next rebalance, for offsets that go into a transaction. Counted: any number of
 * holders, on the loop; what is in it may be read on any thread meanwhile. */
struct membership;
struct membership *membership_hold(struct membership *m); /* NULL gives NULL */
void membership_release(struct membership *m);            /* NULL is fine */

struct source_events {
    void (*on_assign)(void *arg, const int32_t *partitions, size_t count);
    /* All partitions go. lost: they may be another host's already, nothing can be committed; source_release at once. */
    void (*on_revoke)(void *arg, bool lost);
    void (*on_record)(void *arg, const struct source_record *r); /* within source_take */
    void (*on_committed)(void *arg, bool ok);                    /* once per source_commit that returned true */
    void (*on_wake)(void *arg);                                  /* there may be records, or some 100 ms have passed */
    void (*on_closed)(void *arg);                                /* once, after source_close; the source is gone */
};

/* Starts to consume KAFKA_TOPIC as consumer group KAFKA_GROUP_PREFIX + group, from the earliest record. Kafka may be
 * absent. config, loop, inbox and events must outlive it. NULL with a sentence in why. */
struct source *source_open(uv_loop_t *loop, struct inbox *inbox, const struct config *config, const char *group,
                           const struct source_events *events, void *arg, char *why, size_t why_size);

/* Hands over at most max records of the partition, in order, through on_record. Returns how many. */
size_t source_take(struct source *s, int32_t partition, size_t max);
void source_wake_again(struct source *s); /* on_wake will be called in the loop's next turn */

/* Sends offsets to Kafka. False: a commit is under way (its on_committed is still to come), or there is nothing to do. */
bool source_commit(struct source *s, const struct source_offset *offsets, size_t count);

/* As of the last on_assign; NULL before the first. The source's. */
struct membership *source_membership(struct source *s);

/* Gives the revoked partitions up. */
void source_release(struct source *s);

/* The offset after the partition's newest record, as last seen; -1 while unknown. */
int64_t source_end(struct source *s, int32_t partition);
/* Assigned partitions that should be fetched by now and are not: whatever waits in them, nothing comes of it. 0 is normal. */
size_t source_missing(const struct source *s);
const char *source_trouble(const struct source *s); /* why no records can come, for people; "" when they can */

/* Leaves the group and closes; on_closed comes at deadline_us (clock_mono_us) at the latest. on_revoke may come before. */
void source_close(struct source *s, int64_t deadline_us);

#endif
