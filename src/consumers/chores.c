/* A handler's chores: looks, a worker for each piece, and trims. */
#include "consumers/chores.h"

#include <stdlib.h>
#include <string.h>

#include "consumers/workers.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

#define LOOK_US 1000000
#define LOOK_LEAST_US 20000 /* between two looks */
#define TRIM_FIRST_MS 5000
#define TRIM_FAILED_MS 45000
#define TRIM_EVERY_MS 600000
#define TRIM_AGAIN_MS 100 /* while there is more */
#define AWAY_BASE_MS 500
#define AWAY_MAX_MS 10000
#define SETTLE_TRIES 5
#define SETTLE_BASE_MS 100
#define SETTLE_MAX_MS 2000
#define LOG_EVERY_US 30000000

struct look {
    struct job job;
    struct chore_pool *pool;
    bool away;
    size_t limit, count;
    void *pieces[];
};

struct piece_job {
    struct job job;
    struct chore_pool *pool;
    void *piece;
};

/* A worker of its own: however long it takes, what is due is found meanwhile. */
struct trim {
    struct job job;
    struct chore_pool *pool;
    bool ok, more;
};

struct chore_pool {
    struct chores_options options;
    struct workers *workers;
    uv_timer_t timer, trim_timer;
    size_t timers; /* not closed */
    struct trim trim;
    size_t calls, calls_max; /* pieces with workers */
    bool looking;
    int64_t position;           /* the looks' own */
    int64_t next_us, looked_us; /* the next look; the last one */
    int64_t logged_us;
    int failures; /* looks in a row at which Postgres was away */
    bool stopping, left_behind;
    _Atomic int64_t
        calls_stop_at; /* 0; else calls are broken off then, in time for what has become of them to be recorded */
    void (*on_stopped)(void *arg, bool left_behind);
    void *arg;
};

static void tick(struct chore_pool *p);

static bool process_stops(const struct chore_pool *p)
{
    return atomic_load_explicit(p->options.stop_at, memory_order_relaxed) != 0;
}

/* --- on a worker --- */

static bool open_run(const struct chore_pool *p, struct run *run, void *worker)
{
    char why[200];
    const struct chores_options *o = &p->options;
    *run = (struct run){.config = o->config, .worker = worker, .stop_at = o->stop_at};
    run->conn = db_pool_take(o->db, clock_mono_us() + o->config->db_stall_ms * 1000, why, sizeof why);
    run->deadline_us = clock_mono_us() + db_pool_statement_us(o->db);
    return run->conn != NULL;
}

static bool close_run(const struct chore_pool *p, struct run *run, bool ok, PGresult *failed)
{
    if (failed)
        log_warn("a group's chore failed", "group", p->options.group, "error",
                 PQresultErrorField(failed, PG_DIAG_MESSAGE_PRIMARY));
    PQclear(failed);
    db_pool_give(p->options.db, run->conn);
    run->conn = NULL;
    return ok;
}

/* What a piece's end is goes lost only if Postgres is away for longer than this: then the piece is found again. */
static void settle(const struct chore_pool *p, void *worker, void *piece)
{
    for (int i = 0; i < SETTLE_TRIES; i++) {
        struct run run;
        PGresult *failed = NULL;
        bool ok = open_run(p, &run, worker);
        if (ok) {
            ok = p->options.chores->settle(&run, piece, &failed);
            ok = close_run(p, &run, ok, failed);
        }
        if (ok)
            return;
        if (process_stops(p))
            return;
        clock_sleep_ms(backoff_ms(i, SETTLE_BASE_MS, SETTLE_MAX_MS));
    }
}

/* The process stops: who starts it next need not wait for the leases' end. */
static void give_back(struct look *l, void *worker)
{
    for (size_t i = 0; i < l->count; i++) {
        settle(l->pool, worker, l->pieces[i]);
        l->pool->options.chores->release(l->pieces[i]);
    }
    l->count = 0;
}

static void work_look(struct job *job, void *worker)
{
    struct look *l = (struct look *)job;
    struct chore_pool *p = l->pool;
    const struct chores *c = p->options.chores;
    struct run run;
    PGresult *failed = NULL;
    l->away = !open_run(p, &run, worker);
    if (l->away)
        return;
    bool ok = c->find(&run, &p->position, l->pieces, l->limit, &l->count, &failed);
    l->away = !close_run(p, &run, ok, failed);
    if (process_stops(p))
        give_back(l, worker);
}

static void work_trim(struct job *job, void *worker)
{
    struct trim *t = (struct trim *)job;
    const struct chore_pool *p = t->pool;
    struct run run;
    PGresult *failed = NULL;
    t->more = false;
    t->ok = open_run(p, &run, worker);
    if (t->ok) {
        t->ok = p->options.chores->trim(&run, &t->more, &failed);
        t->ok = close_run(p, &run, t->ok, failed);
    }
}

static void work_piece(struct job *job, void *worker)
{
    struct piece_job *j = (struct piece_job *)job;
    const struct chore_pool *p = j->pool;
    struct run run = {.config = p->options.config, .worker = worker, .stop_at = &p->calls_stop_at};
    if (!process_stops(p))
        p->options.chores->call(&run, j->piece);
    settle(p, worker, j->piece);
    p->options.chores->release(j->piece);
}

/* --- on the loop --- */

static void on_piece_done(struct job *job)
{
    struct piece_job *j = (struct piece_job *)job;
    struct chore_pool *p = j->pool;
    free(j);
    p->calls--;
    chores_wake(p);
}

static void start_piece(struct chore_pool *p, void *piece)
{
    struct piece_job *j = xcalloc(1, sizeof *j);
    j->job.work = work_piece;
    j->job.on_done = on_piece_done;
    j->pool = p;
    j->piece = piece;
    p->calls++;
    workers_submit(p->workers, &j->job);
}

static void note_away(struct chore_pool *p, int64_t now_us)
{
    p->next_us = now_us + backoff_ms(p->failures++, AWAY_BASE_MS, AWAY_MAX_MS) * 1000;
    if (p->logged_us != 0 && now_us - p->logged_us < LOG_EVERY_US)
        return;
    p->logged_us = now_us;
    log_warn("the group cannot look for what is due, trying on", "group", p->options.group);
}

static void on_looked(struct job *job)
{
    struct look *l = (struct look *)job;
    struct chore_pool *p = l->pool;
    int64_t now = clock_mono_us();
    p->looking = false;
    for (size_t i = 0; i < l->count; i++) {
        if (p->stopping) /* the workers are about to end: the lease has to */
            p->options.chores->release(l->pieces[i]);
        else
            start_piece(p, l->pieces[i]);
    }
    if (l->away) {
        note_away(p, now);
    } else {
        p->failures = 0;
        if (l->count == l->limit)
            p->next_us = now;
    }
    free(l);
    tick(p);
}

static void start_look(struct chore_pool *p, int64_t now_us)
{
    size_t limit = p->calls_max - p->calls;
    struct look *l = xcalloc(1, sizeof *l + limit * sizeof l->pieces[0]);
    l->job.work = work_look;
    l->job.on_done = on_looked;
    l->pool = p;
    l->limit = limit;
    p->looking = true;
    p->looked_us = now_us;
    p->next_us = now_us + LOOK_US;
    workers_submit(p->workers, &l->job);
}

static void on_timer(uv_timer_t *timer)
{
    tick(timer->data);
}

static void tick(struct chore_pool *p)
{
    int64_t now = clock_mono_us();
    if (p->stopping || p->looking || p->calls >= p->calls_max)
        return; /* what is under way comes back here */
    if (now >= p->next_us)
        start_look(p, now);
    else
        uv_timer_start(&p->timer, on_timer, (uint64_t)(p->next_us - now) / 1000 + 1, 0);
}

void chores_wake(struct chore_pool *p)
{
    int64_t now = clock_mono_us(), soon = p->looked_us + LOOK_LEAST_US;
    if (p->failures == 0 && p->next_us > soon)
        p->next_us = soon > now ? soon : now;
    tick(p);
}

static void on_trim_timer(uv_timer_t *timer)
{
    struct chore_pool *p = timer->data;
    workers_submit(p->workers, &p->trim.job);
}

static void on_trimmed(struct job *job)
{
    const struct trim *t = (struct trim *)job;
    struct chore_pool *p = t->pool;
    uint64_t next_ms = t->more ? TRIM_AGAIN_MS : TRIM_EVERY_MS;
    if (!p->stopping)
        uv_timer_start(&p->trim_timer, on_trim_timer, t->ok ? next_ms : TRIM_FAILED_MS, 0);
}

/* --- start and stop --- */

static void *open_worker(void *arg)
{
    const struct chore_pool *p = arg;
    return p->options.chores->worker_open(p->options.config);
}

struct chore_pool *chores_start(const struct chores_options *options)
{
    struct chore_pool *p = xcalloc(1, sizeof *p);
    p->options = *options;
    p->calls_max = options->chores->workers(options->config);
    const struct workers_options pool = {.name = options->group,
                                         .count = p->calls_max + 2, /* who looks, who trims */
                                         .open = open_worker,
                                         .close = options->chores->worker_close,
                                         .arg = p};
    p->workers = workers_start(options->inbox, &pool);
    if (!p->workers)
        return NULL; /* the process does not start then, nothing is cleaned up */
    uv_timer_init(options->loop, &p->timer);
    uv_timer_init(options->loop, &p->trim_timer);
    p->timer.data = p->trim_timer.data = p;
    p->timers = 2;
    p->trim = (struct trim){.job = {.work = work_trim, .on_done = on_trimmed}, .pool = p};
    uv_timer_start(&p->trim_timer, on_trim_timer, TRIM_FIRST_MS, 0);
    p->next_us = clock_mono_us();
    tick(p);
    return p;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct chore_pool *p = handle->data;
    if (--p->timers > 0)
        return;
    void (*on_stopped)(void *, bool) = p->on_stopped;
    void *arg = p->arg;
    bool left_behind = p->left_behind;
    if (!left_behind) /* a hanging worker still uses it */
        free(p);
    on_stopped(arg, left_behind);
}

static void on_workers_stopped(void *arg)
{
    struct chore_pool *p = arg;
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
    uv_close((uv_handle_t *)&p->trim_timer, on_timer_closed);
}

static void on_late(uv_timer_t *timer)
{
    struct chore_pool *p = timer->data;
    log_warn("a worker hangs and is left behind", "group", p->options.group);
    p->left_behind = true;
    workers_abandon(p->workers);
    on_workers_stopped(p);
}

void chores_stop(struct chore_pool *p, int64_t deadline_us, void (*on_stopped)(void *arg, bool left_behind), void *arg)
{
    int64_t now = clock_mono_us(), left = deadline_us - now;
    p->stopping = true;
    uv_timer_stop(&p->trim_timer);
    atomic_store(&p->calls_stop_at, now + (left > 0 ? left / 4 : 0));
    p->on_stopped = on_stopped;
    p->arg = arg;
    uv_timer_start(&p->timer, on_late, left > 0 ? (uint64_t)left / 1000 : 0, 0);
    workers_stop(p->workers, on_workers_stopped, p);
}
