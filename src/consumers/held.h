/* The records that a group holds in the table dead_letters: to be tried again later (retry), behind one of their key
 * (parked), given up (dead). sql/fn_held.sql says how they depend on each other. Worker threads; blocking. */
#ifndef TIDINGS_CONSUMERS_HELD_H
#define TIDINGS_CONSUMERS_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/item.h"
#include "handlers/handler.h"

enum held_end { HELD_NOTHING, HELD_DONE, HELD_RETRY, HELD_DEAD, HELD_PARKED };

/* Within a run's transaction; false: as with run_sql. The items are of the group of handler h. */

/* Sets `parked` for the items from Kafka that must wait behind rows of their key; false for the others. */
bool held_find(struct run *run, const struct handler *h, struct item *const *items, size_t count, PGresult **failed);

/* Records what has become of items: for one from Kafka a new row (none when it is done), for one read from a row what
 * becomes of that. HELD_NOTHING leaves things as they are; HELD_PARKED is for items from Kafka alone. HELD_RETRY is tried
 * again after retry_wait_ms. */
bool held_write(struct run *run, const struct handler *h, struct item *const *items, const enum held_end *ends,
                size_t count, PGresult **failed);

/* Outside of a transaction. deadline_us: as with sql_exec. */
struct held_session {
    PGconn *conn;
    int64_t deadline_us;
    const _Atomic int64_t *stop_at;
    const struct handler *handler;
};

/* Claims rows that are due, at most max of them, for lease_ms, and makes items of them, the caller's to free.
 * blocked_us: per item, clock_mono_us at which it last could not be tried, 0 = never. Returns how many, -1 when Postgres
 * is away. */
int held_claim(const struct held_session *s, size_t max, int64_t lease_ms, struct item **items, int64_t *blocked_us);

/* Gives claimed rows back that were not settled, until it->due_us: ITEM_BLOCKED and ITEM_AGAIN. What fails here is
 * made good by the end of the lease. */
void held_release(const struct held_session *s, struct item *const *items, size_t count);

/* Lets parked records go on that wait for nobody any more. False: Postgres is away. */
bool held_sweep(const struct held_session *s);

/* How many the group has, each counted up to limit. False: Postgres is away. */
struct held_counts {
    int64_t retry, parked, dead;
};
bool held_count(const struct held_session *s, int64_t limit, struct held_counts *counts);

#endif
