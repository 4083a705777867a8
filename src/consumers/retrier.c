/* Trying held records again.
 *
 *   tick (loop) ──▶ job (worker): [sweep, count] → claim → run → claim → run … until nothing is due, or its turn is over
 *
 * A look that finds much takes one more worker per second, up to half of them. When Postgres, or what the handler calls,
 * is away, looks come with back-off. */
#include "consumers/retrier.h"

#include <stdbool.h>
#include <stdlib.h>

#include "consumers/held.h"
#include "consumers/publisher.h"
#include "consumers/run.h"
#include "core/buf.h"
#include "core/clock.h"

#define LOOK_US 1000000
#define SWEEP_US 5000000
#define COUNT_US 15000000
#define COUNT_MAX 10000
#define TURN_US 200000 /* then the worker goes to who waits for it; what is left comes at once */
#define CLAIM_MAX 200
#define CALL_CLAIM_MAX 4 /* calls take long: a lease that covers more of them would be long too */
#define AWAY_BASE_MS 1000
#define AWAY_MAX_MS 30000
#define CLOCKS_US 1000000    /* so exact is what is known of when a row was blocked, by the clock of this host */
#define BLOCKED_BASE_MS 4000 /* half of it at least: longer than that, so that what went through meanwhile tells */
#define BLOCKED_MAX_MS 5000
#define ROOM_MS 50 /* between looks whether there is room for output */

enum look { LOOK_NOTHING_DUE, LOOK_MORE, LOOK_AWAY };

struct retrier {
    const struct run_env *env;
    struct workers *workers;
    size_t claim_max, jobs_max;
    int64_t lease_ms;
    size_t jobs; /* with workers */
    int64_t next_us, sweep_us, count_us;
    int failures;    /* looks in a row at which something was away */
    int64_t good_us; /* clock_mono_us at which the group last finished a record */
    void (*on_done)(void *arg);
    void *arg;
};

struct look_job {
    struct job job;
    struct retrier *retrier; /* constant in it: env, claim_max, lease_ms */
    bool sweeps, counts;
    int64_t good_us;
    enum look end;
};

/* --- on a worker --- */

static bool open_session(const struct retrier *r, struct held_session *s)
{
    char why[200];
    const struct run_env *env = r->env;
    *s = (struct held_session){.stop_at = env->stop_at, .handler = env->handler};
    s->conn = db_pool_take(env->db, clock_mono_us() + env->config->db_stall_ms * 1000, why, sizeof why);
    s->deadline_us = clock_mono_us() + db_pool_statement_us(env->db);
    return s->conn != NULL;
}

static bool keep_house(const struct look_job *j, const struct held_session *s)
{
    const struct group_metrics *m = j->retrier->env->metrics;
    struct held_counts counts;
    if (j->sweeps && s->handler->ordered && !held_sweep(s))
        return false;
    if (!j->counts)
        return true;
    if (!held_count(s, COUNT_MAX, &counts))
        return false;
    metric_set(m->held_retry, counts.retry);
    metric_set(m->held_parked, counts.parked);
    metric_set(m->held_dead, counts.dead);
    return true;
}

static void run_some(struct look_job *j, void *worker, struct item *const *items, size_t count)
{
    run_items(j->retrier->env, worker, items, count);
    for (size_t i = 0; i < count; i++)
        if (items[i]->result == ITEM_FINISHED && items[i]->record.outcome == OUTCOME_DONE)
            j->good_us = clock_mono_us();
}

/* One that could not be tried last time may be what makes its runs fail: it is run alone, and if the group got others
 * done since then, it counts as an attempt. */
static void run_claimed(struct look_job *j, void *worker, struct item **items, const int64_t *blocked_us, size_t count)
{
    struct item *together[CLAIM_MAX];
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (blocked_us[i] == 0)
            together[n++] = items[i];
    if (n > 0)
        run_some(j, worker, together, n);
    for (size_t i = 0; i < count; i++)
        if (blocked_us[i] != 0) {
            items[i]->suspect = j->good_us > blocked_us[i] + CLOCKS_US;
            run_some(j, worker, &items[i], 1);
        }
}

static bool stopping(const struct run_env *env)
{
    return atomic_load_explicit(env->stop_at, memory_order_relaxed) != 0;
}

static bool has_more(const struct item *it)
{
    return it->result == ITEM_AGAIN && it->record.outcome == OUTCOME_LATER && it->record.progress != 0;
}

/* Those that have a part of their output behind them go on here, since their rows do not say how far they are. Should a lease
 * run out meanwhile, the output is made twice. */
static void run_on(struct look_job *j, void *worker, struct item **items, size_t count)
{
    const struct run_env *env = j->retrier->env;
    for (size_t i = 0; i < count; i++)
        while (has_more(items[i]) && !stopping(env))
            if (env->publisher && publisher_full(env->publisher))
                clock_sleep_ms(ROOM_MS);
            else
                run_some(j, worker, &items[i], 1);
}

/* Gives back what was not settled. False: something that all need was away. */
static bool give_back(const struct retrier *r, struct item *const *items, size_t count)
{
    struct held_session s;
    bool unsettled = false, away = false;
    for (size_t i = 0; i < count; i++) {
        unsettled = unsettled || items[i]->result != ITEM_FINISHED;
        if (items[i]->result == ITEM_BLOCKED) {
            items[i]->due_us = clock_mono_us() + backoff_ms(1, BLOCKED_BASE_MS, BLOCKED_MAX_MS) * 1000;
            away = true;
        }
    }
    if (unsettled && open_session(r, &s)) {
        held_release(&s, items, count);
        db_pool_give(r->env->db, s.conn);
    }
    return !away;
}

static enum look look_once(struct look_job *j, void *worker)
{
    const struct retrier *r = j->retrier;
    struct item *items[CLAIM_MAX];
    int64_t blocked_us[CLAIM_MAX];
    struct held_session s;
    if (!open_session(r, &s))
        return LOOK_AWAY;
    int count = keep_house(j, &s) ? held_claim(&s, r->claim_max, r->lease_ms, items, blocked_us) : -1;
    db_pool_give(r->env->db, s.conn);
    j->sweeps = j->counts = false;
    if (count <= 0)
        return count < 0 ? LOOK_AWAY : LOOK_NOTHING_DUE;
    run_claimed(j, worker, items, blocked_us, (size_t)count);
    run_on(j, worker, items, (size_t)count);
    bool well = give_back(r, items, (size_t)count);
    for (int i = 0; i < count; i++)
        item_free(items[i]);
    return well ? LOOK_MORE : LOOK_AWAY;
}

static void work(struct job *job, void *worker)
{
    struct look_job *j = (struct look_job *)job;
    int64_t until_us = clock_mono_us() + TURN_US;
    do
        j->end = look_once(j, worker);
    while (j->end == LOOK_MORE && clock_mono_us() < until_us && !stopping(j->retrier->env));
}

/* --- on the loop --- */

static void on_job_done(struct job *job)
{
    struct look_job *j = (struct look_job *)job;
    struct retrier *r = j->retrier;
    int64_t now = clock_mono_us();
    r->jobs--;
    if (j->good_us > r->good_us)
        r->good_us = j->good_us;
    if (j->end == LOOK_AWAY)
        r->next_us = now + backoff_ms(r->failures++, AWAY_BASE_MS, AWAY_MAX_MS) * 1000;
    else
        r->failures = 0;
    if (j->end == LOOK_MORE)
        r->next_us = now;
    free(j);
    r->on_done(r->arg);
}

/* Whether it is time for something that is done now and then. */
static bool is_time(int64_t *at_us, int64_t now_us, int64_t every_us)
{
    bool due = now_us >= *at_us;
    if (due)
        *at_us = now_us + every_us;
    return due;
}

void retrier_tick(struct retrier *r, int64_t now_us)
{
    if (now_us < retrier_due(r))
        return;
    struct look_job *j = xcalloc(1, sizeof *j);
    j->job.work = work;
    j->job.on_done = on_job_done;
    j->retrier = r;
    j->sweeps = is_time(&r->sweep_us, now_us, SWEEP_US);
    j->counts = is_time(&r->count_us, now_us, COUNT_US);
    j->good_us = r->good_us;
    r->next_us = now_us + LOOK_US;
    r->jobs++;
    workers_submit(r->workers, &j->job);
}

int64_t retrier_due(const struct retrier *r)
{
    return r->jobs < r->jobs_max && workers_room(r->workers) > 0 ? r->next_us : INT64_MAX;
}

void retrier_note_good(struct retrier *r)
{
    r->good_us = clock_mono_us();
}

struct retrier *retrier_new(const struct run_env *env, struct workers *workers, size_t run_max, bool gathers,
                            void (*on_done)(void *arg), void *arg)
{
    struct retrier *r = xcalloc(1, sizeof *r);
    const struct config *c = env->config;
    bool calls = env->handler->call && !gathers;
    size_t most = calls ? CALL_CLAIM_MAX : CLAIM_MAX, workers_half = workers_free(workers) / 2;
    int64_t call_ms = c->smtp_timeout_ms > c->webhook_timeout_ms ? c->smtp_timeout_ms : c->webhook_timeout_ms;
    r->env = env;
    r->workers = workers;
    r->claim_max = run_max < most ? run_max : most;
    r->jobs_max = workers_half > 0 ? workers_half : 1;
    /* As long as a run takes at worst: each call its time-out, each transaction a statement that does not end. */
    r->lease_ms = (calls ? (int64_t)r->claim_max * call_ms : 0) + 2 * db_pool_statement_us(env->db) / 1000;
    r->next_us = clock_mono_us() + LOOK_US;
    r->good_us = INT64_MIN; /* a row may have been blocked before this host started */
    r->on_done = on_done;
    r->arg = arg;
    return r;
}

void retrier_free(struct retrier *r)
{
    free(r);
}
