/* One record on its way through a group: taken from Kafka on the loop, waiting behind its key, with a worker, back
 * again. Whoever holds it owns it: the dispatch (loop thread), or, while `running`, the worker that has its run. */
#ifndef TIDINGS_CONSUMERS_ITEM_H
#define TIDINGS_CONSUMERS_ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/source.h"
#include "handlers/handler.h"

struct key_queue;
struct partition;

/* What became of an item in a run. */
enum item_result {
    ITEM_FINISHED, /* done, skipped, dead, held or parked, and committed */
    ITEM_BEHIND,   /* not tried: an earlier record of its key is not finished */
    ITEM_AGAIN,    /* failed for a passing reason: after a back-off */
    ITEM_BLOCKED,  /* could not be tried: what all records need is away */
};

struct item {
    struct record record; /* what the handler sees */

    /* The worker's: read by the loop once the run is back. */
    enum item_result result;
    bool bury;   /* not for the handler, record.reason says why: only a dead letter is written */
    bool hold;   /* with OUTCOME_RETRY: it is tried again from its row in dead_letters, not from memory */
    bool stays;  /* set on the loop: never held, since its run's output goes out with its offset */
    bool parked; /* it did not come to the handler: it has a row behind an earlier one of its key */

    int64_t held_id; /* the row that it was read from (held.h); 0: it came from Kafka */

    /* The loop's. */
    struct key_queue *key; /* the worker may compare it and read its bytes, which never change. NULL: read from a row */
    struct partition *partition;
    struct item *prev, *next;                     /* in its key's queue, in order */
    struct item *partition_prev, *partition_next; /* in its partition's list */
    uint64_t ticket;                              /* its partition's watermark's */
    bool running;
    int64_t due_us;           /* with ITEM_AGAIN and ITEM_BLOCKED: not before this time of clock_mono_us */
    bool alone;               /* only in a run of its own: it may be what makes runs fail */
    int blocked;              /* times it came back ITEM_BLOCKED */
    uint64_t finished_before; /* the group's count of finished records at that time */
    bool suspect;             /* for the worker: others went through since it was blocked, and its run is its own now */
    size_t bytes;             /* memory it stands for, an estimate */

    size_t raw_key_len, raw_value_len;
    bool raw_key_null, raw_value_null;
    char raw[]; /* the record's key, then its value, for a dead letter */
};

/* Whether both have the same key. Those read from rows stand each for themselves. */
static inline bool item_same_key(const struct item *a, const struct item *b)
{
    return a->key && a->key == b->key;
}

/* A copy of a record, not yet parsed. Never NULL. */
struct item *item_new(const struct source_record *r);
const char *item_raw_key(const struct item *it);
const char *item_raw_value(const struct item *it);
void item_free(struct item *it); /* any thread; with its event. record.state was released by the worker */

#endif
