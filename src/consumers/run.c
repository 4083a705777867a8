/* One run of records through a handler.
 *
 *   apply ──committed──▶ call ──▶ settle ──committed──▶ results
 *     │ data at fault: each half for itself; alone: a dead letter. What fails for long is held in Postgres (held.h)
 *     │ Postgres at fault: all are blocked                (settle tries again by itself first: the mail is out)
 */
#include "consumers/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/retry.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"

#define BLOCKED_MAX_MS 5000 /* the group as a whole backs off too */
#define SETTLE_TRIES 5
#define SETTLE_BASE_MS 100
#define SETTLE_MAX_MS 2000

static void split(const struct run_env *env, void *worker, struct item *const *items, size_t count);

static void set_all(struct item *const *items, size_t count, enum outcome outcome, const char *reason)
{
    for (size_t i = 0; i < count; i++) {
        struct record *r = &items[i]->record;
        r->outcome = OUTCOME_DONE;
        if (items[i]->bury)
            r->outcome = outcome; /* its reason stays: it is what the dead letter shall say */
        else
            record_fail(r, outcome, "%s", reason);
    }
}

static void start_over(struct item *it)
{
    struct record *r = &it->record;
    it->result = ITEM_FINISHED;
    it->hold = it->parked = false;
    r->known = r->call = false;
    r->later_ms = 0;
    r->later_held = false;
    r->progress_next = r->progress;
    r->outcome = it->bury ? OUTCOME_REJECT : OUTCOME_DONE;
    if (!it->bury)
        r->reason[0] = '\0';
}

static void release(const struct run_env *env, struct item *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct record *r = &items[i]->record;
        if (r->state && env->handler->release)
            env->handler->release(r);
        r->state = NULL;
    }
}

/* A record alone that is given up, or held. reason: why it is given up; NULL: its outcome stays as it is. */
static void put_aside(const struct run_env *env, struct item *it, const char *reason)
{
    char why[200];
    if (reason)
        set_all(&it, 1, OUTCOME_REJECT, reason);
    if (run_tx_put_aside(env, &it, 1, why, sizeof why) != TX_COMMITTED)
        set_all(&it, 1, OUTCOME_UNAVAILABLE, why);
}

static bool stopping(const struct run_env *env)
{
    return atomic_load_explicit(env->stop_at, memory_order_relaxed) != 0;
}

/* A suspect cannot blame the circumstances: the attempt counts. */
static void blame_suspect(const struct run_env *env, struct item *it)
{
    if (it->suspect && it->record.outcome == OUTCOME_UNAVAILABLE && !stopping(env))
        it->record.outcome = OUTCOME_RETRY;
}

/* apply found Postgres away for these. */
static void give_up_apply(const struct run_env *env, struct item *const *items, size_t count, const char *why)
{
    set_all(items, count, OUTCOME_UNAVAILABLE, why);
    if (count > 1)
        return;
    blame_suspect(env, items[0]);
    retry_decide(env->config, items[0], clock_mono_us());
    if (items[0]->record.outcome == OUTCOME_REJECT || items[0]->hold)
        put_aside(env, items[0], NULL);
}

/* Runs apply until it is committed or known to fail. Returns how many of the items took part (those that fell behind
 * are taken out of the array), 0 when the matter is settled. */
static size_t apply(const struct run_env *env, void *worker, struct item **items, size_t count)
{
    char why[200];
    while (count > 0) {
        for (size_t i = 0; i < count; i++)
            start_over(items[i]);
        enum tx_end end = run_tx_apply(env, worker, items, count, why, sizeof why);
        if (end == TX_COMMITTED)
            return count;
        release(env, items, count);
        if (end == TX_AWAY) {
            give_up_apply(env, items, count, why);
            return 0;
        }
        if (end == TX_DATA && count == 1) {
            put_aside(env, items[0], why);
            return 0;
        }
        if (end == TX_DATA) {
            split(env, worker, items, count);
            return 0;
        }
        size_t kept = 0;
        for (size_t i = 0; i < count; i++)
            if (items[i]->result != ITEM_BEHIND)
                items[kept++] = items[i];
        count = kept;
    }
    return 0;
}

static bool pause_ms(const struct run_env *env, int64_t ms)
{
    if (stopping(env))
        return false;
    clock_sleep_ms(ms);
    return true;
}

/* Records what call did. When that fails the call is made again later, which is allowed but better avoided: it tries on
 * for some seconds. */
static void settle(const struct run_env *env, void *worker, struct item *const *items, size_t count)
{
    char why[200];
    enum tx_end end = TX_AWAY;
    for (int i = 0; i < SETTLE_TRIES; i++) {
        end = run_tx_settle(env, worker, items, count, why, sizeof why);
        if (end != TX_AWAY || !pause_ms(env, backoff_ms(i, SETTLE_BASE_MS, SETTLE_MAX_MS)))
            break;
    }
    if (end == TX_COMMITTED)
        return;
    if (end == TX_DATA && count > 1) {
        settle(env, worker, items, count / 2);
        settle(env, worker, items + count / 2, count - count / 2);
    } else if (end == TX_DATA) {
        put_aside(env, items[0], why);
    } else {
        set_all(items, count, OUTCOME_UNAVAILABLE, why);
    }
}

static bool not_tried(const struct record *r)
{
    return r->outcome == OUTCOME_UNAVAILABLE || r->outcome == OUTCOME_LATER;
}

/* What was called has had its effect, so an outcome that is none cannot be undone: it is told. */
static void check_outcomes(const struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        int outcome = (int)r->outcome;
        if (outcome_known(r->outcome))
            continue;
        r->outcome = OUTCOME_REJECT;
        record_reason(r, "the handler gave an outcome that is none: %d", outcome);
    }
}

/* Those that could not be tried have nothing to be recorded. */
static size_t keep_called(struct item **items, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!not_tried(&items[i]->record))
            items[kept++] = items[i];
    return kept;
}

static void call_and_settle(const struct run_env *env, void *worker, struct item *const *items, size_t count)
{
    struct item **called = xmalloc((count + 1) * sizeof(struct item *));
    struct record **records = xmalloc((count + 1) * sizeof(struct record *));
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (items[i]->record.call && items[i]->record.outcome == OUTCOME_DONE) {
            records[n] = &items[i]->record;
            called[n++] = items[i];
        }
    struct run run = {.config = env->config, .records = records, .count = n, .worker = worker, .stop_at = env->stop_at};
    if (n > 0) {
        env->handler->call(&run);
        check_outcomes(&run);
        if (n == 1)
            blame_suspect(env, called[0]);
        n = keep_called(called, n);
    }
    if (n > 0)
        settle(env, worker, called, n);
    free(records);
    free(called);
}

/* A handler without apply: Postgres is asked only about what is given up, held, or was read from a row. */
static void call_alone(const struct run_env *env, void *worker, struct item *const *items, size_t count)
{
    struct record **records = xmalloc((count + 1) * sizeof(struct record *));
    size_t called = 0;
    for (size_t i = 0; i < count; i++)
        if (!items[i]->bury)
            records[called++] = &items[i]->record;
    struct run run = {
        .config = env->config, .records = records, .count = called, .worker = worker, .stop_at = env->stop_at};
    if (called > 0)
        env->handler->call(&run);
    check_outcomes(&run);
    free(records);
    if (count == 1)
        blame_suspect(env, items[0]);
    for (size_t i = 0; i < count; i++) {
        struct item *it = items[i];
        if (it->record.outcome == OUTCOME_RETRY)
            retry_decide(env->config, it, clock_mono_us());
        if (it->record.outcome == OUTCOME_REJECT || it->hold || (it->held_id != 0 && !not_tried(&it->record)))
            put_aside(env, it, NULL);
    }
    release(env, items, count);
}

static void run_part(const struct run_env *env, void *worker, struct item *const *items, size_t count)
{
    struct item **part = xmalloc((count + 1) * sizeof(struct item *));
    memcpy(part, items, count * sizeof(struct item *));
    size_t n = apply(env, worker, part, count);
    if (n > 0 && env->handler->call)
        call_and_settle(env, worker, part, n);
    release(env, part, n);
    free(part);
}

static bool unfinished(const struct run_env *env, const struct item *it)
{
    if (it->record.outcome == OUTCOME_REJECT && env->handler->strict)
        return true;
    return it->result == ITEM_BEHIND || it->record.outcome == OUTCOME_RETRY || not_tried(&it->record);
}

/* Each half for itself, the second after the first: it may hold the rest of the same key. */
static void split(const struct run_env *env, void *worker, struct item *const *items, size_t count)
{
    size_t half = count / 2, next = half;
    run_part(env, worker, items, half);
    bool blocked = false;
    for (size_t i = half; i > 0 && item_same_key(items[i - 1], items[half]); i--)
        blocked = blocked || unfinished(env, items[i - 1]);
    for (; blocked && next < count && item_same_key(items[next], items[half]); next++)
        items[next]->result = ITEM_BEHIND;
    if (next < count)
        run_part(env, worker, items + next, count - next);
}

static void log_failure(const struct run_env *env, const struct record *r)
{
    char event[UUID_TEXT_SIZE], campaign[UUID_TEXT_SIZE];
    bool parsed = r->event.type != EVENT_NONE;
    uuid_format(r->event.id, event);
    uuid_format(r->event.campaign_id, campaign);
    log_warn(r->outcome == OUTCOME_REJECT ? "record is a dead letter" : "record failed, will be tried again", "group",
             env->handler->group, "event", parsed ? event : NULL, "campaign", parsed ? campaign : NULL, "type",
             event_type_name(r->event.type), "partition", log_int(r->partition), "offset", log_int(r->offset),
             "attempt", log_int(r->attempt + 1), "reason", r->reason);
}

static int series_of(const struct item *it)
{
    return it->record.event.type == EVENT_NONE ? SERIES_MALFORMED : (int)it->record.event.type;
}

/* Turns an outcome into the item's result. */
static void conclude(const struct run_env *env, struct item *it, int64_t now_us)
{
    struct record *r = &it->record;
    const struct config *c = env->config;
    const struct group_metrics *m = env->metrics;
    if (it->result == ITEM_BEHIND)
        return;
    if (r->outcome == OUTCOME_UNAVAILABLE) {
        it->result = ITEM_BLOCKED;
        it->due_us = now_us + backoff_ms(it->blocked, c->retry_base_ms, BLOCKED_MAX_MS) * 1000;
        return;
    }
    if (r->outcome == OUTCOME_LATER) {
        it->result = it->hold ? ITEM_FINISHED : ITEM_AGAIN;
        r->waited = true;
        metric_add(m->held, it->hold);
        it->due_us = now_us + r->later_ms * 1000;
        return;
    }
    if (it->parked && r->outcome == OUTCOME_DONE) {
        it->result = ITEM_FINISHED;
        metric_add(m->parked, 1);
        return;
    }
    if (r->outcome != OUTCOME_DONE) {
        log_failure(env, r);
        metric_add(m->errors[series_of(it)], 1);
    }
    if (r->outcome == OUTCOME_RETRY) {
        it->result = it->hold ? ITEM_FINISHED : ITEM_AGAIN;
        it->due_us = now_us + retry_wait_ms(c, r) * 1000;
        r->attempt++;
        metric_add(m->held, it->hold && it->held_id == 0);
        return;
    }
    it->result = ITEM_FINISHED;
    metric_add(r->outcome == OUTCOME_REJECT ? m->dead : r->known ? m->skipped : m->done, 1);
}

void run_items(const struct run_env *env, void *worker, struct item *const *items, size_t count)
{
    int64_t start = clock_mono_us();
    for (size_t i = 0; i < count; i++)
        start_over(items[i]);
    if (env->handler->apply)
        run_part(env, worker, items, count);
    else
        call_alone(env, worker, items, count);
    int64_t now = clock_mono_us();
    for (size_t i = 0; i < count; i++) {
        conclude(env, items[i], now);
        metric_observe(env->metrics->seconds[series_of(items[i])], (now - start) / (int64_t)count);
    }
    metric_observe(env->metrics->run_size, (int64_t)count);
}
