/* Does a handler's chores (handlers/handler.h) on threads of its own, wherever its group runs. One look at a time; what it finds
 * goes to a worker each, so a call that hangs holds up that worker alone.
 *
 *   tick (loop) ──▶ look (worker): find ──▶ loop ──▶ per piece: call → settle → release (worker) ──▶ loop, tick
 *   every ten minutes, or while there is more (loop) ──▶ trim (worker) ──▶ loop
 *
 * There is a look every second, one after each piece that is done, and one soon after chores_wake. When Postgres is away, looks
 * come with back-off. A trim holds up neither looks nor pieces. Loop thread only. */
#ifndef TIDINGS_CONSUMERS_CHORES_H
#define TIDINGS_CONSUMERS_CHORES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "consumers/db_pool.h"
#include "core/config.h"
#include "core/inbox.h"
#include "handlers/handler.h"

struct chore_pool;

struct chores_options {
    uv_loop_t *loop;
    struct inbox *inbox;
    const struct config *config;
    const char *group;
    const struct chores *chores;
    struct db_pool *db;
    const _Atomic int64_t *stop_at; /* see struct run */
};

/* All that options names must outlive it. NULL: a thread cannot be made. */
struct chore_pool *chores_start(const struct chores_options *options);

/* There may be something to find. */
void chores_wake(struct chore_pool *p);

/* Lets what is under way end until deadline_us (clock_mono_us); then on_stopped, and it is gone. left_behind: a worker hangs and
 * still uses what options named. */
void chores_stop(struct chore_pool *p, int64_t deadline_us, void (*on_stopped)(void *arg, bool left_behind), void *arg);

#endif
