/* Which record may run when: per key in order and one run at a time, different keys in parallel, so many per partition.
 * A data structure without threads, clocks or I/O: the loop thread's.
 *
 *   a key's queue:  READY ──dispatch_take──▶ HELD ──dispatch_return──▶ READY, WAITING (back-off), or gone when empty
 *                     ▲                                                       │
 *                     └──────────────── dispatch_due ◀────────────────────────┘
 */
#ifndef TIDINGS_CONSUMERS_DISPATCH_H
#define TIDINGS_CONSUMERS_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/item.h"
#include "consumers/watermark.h"

struct dispatch_options {
    size_t window;       /* records per partition taken and not yet covered by its watermark */
    size_t window_bytes; /* memory of all records taken and not yet finished, about */
    size_t run_max;      /* records of one run at most */
    bool one_per_key;    /* a run has one record of a key at most */
};

/* A partition that is ours; made by dispatch_assign. */
struct partition {
    int32_t id;
    uint64_t assignment; /* the group's: publisher_assignment's, if it has output; a worker may read it */
    struct watermark watermark;
    int64_t committed;  /* the group's: offset last committed, -1 = none yet */
    int64_t committing; /* the group's: offset in the commit under way */
    size_t items;       /* taken and not yet back for good */
    size_t running;     /* of them with a worker */
    bool closing;       /* revoked: what comes back unfinished is dropped */
    bool orphan;        /* given up: goes when its last running item is back */
    struct item *first; /* its items, in no order */
};

struct dispatch;

struct dispatch *dispatch_new(const struct dispatch_options *options);
void dispatch_free(struct dispatch *d); /* with all items that are not running, and all partitions that were orphaned */

struct partition *dispatch_assign(struct dispatch *d, int32_t id);
/* The partition was revoked: drops its waiting items; running ones may still finish and move its watermark. */
void dispatch_revoke(struct dispatch *d, struct partition *p);
/* Gives the partition up: what comes back later is dropped. p is gone for the caller. Revokes it first if need be. */
void dispatch_forget(struct dispatch *d, struct partition *p);

/* How many records the partition may take now. At least one when it has none, whatever the others hold. */
size_t dispatch_room(const struct dispatch *d, const struct partition *p);

/* Queues an item behind its key. The dispatch owns it. */
void dispatch_add(struct dispatch *d, struct partition *p, struct item *it, const void *key, size_t key_len);
/* A record with nothing to do. */
void dispatch_skip(struct dispatch *d, struct partition *p, int64_t offset);

/* Picks the next run when `share` workers will share what is ready: fills out[0..run_max), returns the count, 0 =
 * nothing is ready. A key's records stand together, in order. They are the worker's until dispatch_return. */
size_t dispatch_take(struct dispatch *d, size_t share, struct item **out);

/* Takes a run back, each item with its result (and due_us, when it is to be tried again); finished ones are freed. */
void dispatch_return(struct dispatch *d, struct item *const *items, size_t count);

/* Makes the keys ready whose wait is over; returns when the next one is due, INT64_MAX = none waits. */
int64_t dispatch_due(struct dispatch *d, int64_t now_us);

size_t dispatch_ready(const struct dispatch *d); /* records, or keys with one_per_key, that could run now */
size_t dispatch_items(const struct dispatch *d); /* taken and not finished, running ones included */
size_t dispatch_running(const struct dispatch *d);

#endif
