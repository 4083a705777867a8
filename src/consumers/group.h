/* One consumer group of this process: its source of records, its dispatch, its workers. Loop thread only.
 *
 *              on_revoke                 nothing runs, or late          committed, or late
 *   RUNNING ──────────────▶ DRAINING ─────────────────────▶ COMMITTING ───────┬──▶ RUNNING (source_release)
 *      └─────group_stop────────▲                                              └──▶ CLOSING ──▶ gone (when it stops)
 *
 * When Postgres, or what the handler calls, is away, the group tries on with one run at a time, with back-off. */
#ifndef TIDINGS_CONSUMERS_GROUP_H
#define TIDINGS_CONSUMERS_GROUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "consumers/db_pool.h"
#include "consumers/workers.h"
#include "core/config.h"
#include "core/inbox.h"
#include "handlers/handler.h"

struct group;

struct group_options {
    uv_loop_t *loop;
    struct inbox *inbox;
    const struct config *config;
    const struct handler *handler;
    struct db_pool *db;
    const _Atomic int64_t *stop_at; /* see struct run */
    bool checks_order;              /* see order_check.h */
    void (*on_run)(void *arg);      /* a run has ended; may be NULL */
    void *arg;
};

/* All that options names must outlive it. NULL with a sentence in why. */
struct group *group_start(const struct group_options *options, char *why, size_t why_size);

int64_t group_workers(const struct config *config, const struct handler *handler); /* the pool's size, 1..512 */
const char *group_trouble(const struct group *g); /* why it gets no records, for people; "" when it does */

/* Runs a job of somebody else's on a worker. False: none is free now. */
bool group_lend_worker(struct group *g, struct job *job);

/* Lets what runs end until drain_us, commits, leaves the group; on_stopped comes once, at deadline_us (both
 * clock_mono_us) at the latest, and the group is gone. left_behind: a worker hangs and still uses what options named. */
void group_stop(struct group *g, int64_t drain_us, int64_t deadline_us, void (*on_stopped)(void *arg, bool left_behind),
                void *arg);

#endif
