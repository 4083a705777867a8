/* Output of a group, and its transactions. */
#include "consumers/publisher.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/transaction.h"
#include "consumers/waiting.h"
#include "consumers/workers.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"

enum { AT_ONCE = 256, BACKOFF_BASE_MS = 200, BACKOFF_MAX_MS = 5000 };
#define WAITING_MAX ((size_t)8 << 20) /* bytes, about */
#define PART_MAX ((size_t)1 << 20)    /* bytes, about, of one Kafka transaction: it must get through in its time */
#define LOG_EVERY_US 30000000

struct commit_job {
    struct job job;
    struct publisher *publisher;
    struct waiting_table taken;
    uint64_t assignment; /* what is of another one comes to nothing */
    struct membership *membership;
    bool tells; /* publisher_commit's: on_committed wants to know */
    bool ok;
    char why[300];
    size_t offset_count;
    struct source_offset *offsets, *standing; /* as many of each */
};

struct publisher {
    const struct config *config;
    const char *group, *topic;
    void (*on_committed)(void *arg, bool ok);
    void *arg;
    struct workers *workers; /* one */
    _Atomic int64_t stop_at;
    struct metric_series *m_committed, *m_failed, *m_records, *m_seconds, *m_waiting;
    /* Shared with the group's workers and our own. The loop takes the lock too: it is held for a moment only. */
    pthread_mutex_t lock;
    struct waiting_table waiting;
    uint64_t assignment;
    _Atomic size_t count, bytes; /* waiting's, for who does not take the lock */
    /* The loop's. */
    bool busy, opened;
    int failures;
    int64_t retry_us, logged_us;
    /* Stopping. */
    uv_timer_t timer;
    bool left_behind;
    void (*on_stopped)(void *arg, bool left_behind);
    void *stopped_arg;
};

/* --- what waits --- */

static bool counts(const struct waiting *w, uint64_t assignment)
{
    return w->assignment == PUBLISHER_ANY || w->assignment == assignment;
}

/* Under the lock. What is not needed any more: w, or what it takes the place of. */
static struct waiting *put(struct publisher *p, struct waiting *w, bool back)
{
    const struct waiting *there = back ? waiting_find(&p->waiting, w) : NULL;
    bool superseded = there && counts(there, p->assignment);
    return superseded || !counts(w, p->assignment) ? w : waiting_put(&p->waiting, w);
}

/* Puts a list into the table, with pauses in which the loop can have the lock. back: it was in a transaction that failed, so
 * that what is there of its keys is newer. */
static void put_all(struct publisher *p, struct waiting *list, bool back)
{
    struct waiting *gone = NULL;
    while (list) {
        pthread_mutex_lock(&p->lock);
        for (int i = 0; i < AT_ONCE && list; i++) {
            struct waiting *w = list;
            list = list->next;
            struct waiting *old = put(p, w, back);
            if (!old)
                continue;
            old->next = gone;
            gone = old;
        }
        atomic_store(&p->count, p->waiting.count);
        atomic_store(&p->bytes, p->waiting.bytes);
        pthread_mutex_unlock(&p->lock);
    }
    waiting_free(gone);
}

void publisher_add(struct publisher *p, uint64_t assignment, struct outputs *o)
{
    put_all(p, waiting_list(o, assignment), false);
}

bool publisher_full(struct publisher *p)
{
    metric_set(p->m_waiting, (int64_t)atomic_load(&p->count));
    return atomic_load(&p->bytes) >= WAITING_MAX;
}

bool publisher_waits(struct publisher *p)
{
    return atomic_load(&p->count) > 0;
}

uint64_t publisher_assignment(const struct publisher *p)
{
    return p->assignment; /* only the loop changes it */
}

void publisher_forget(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    p->assignment++; /* what is of an earlier one goes when it is come across */
    pthread_mutex_unlock(&p->lock);
}

/* --- transactions --- */

/* What has been taken, without what is of an earlier assignment. */
static struct waiting *open_taken(struct commit_job *c)
{
    struct waiting *list = waiting_empty(&c->taken), *gone = NULL;
    for (struct waiting **at = &list, *w; (w = *at);)
        if (counts(w, c->assignment)) {
            at = &w->next;
        } else {
            *at = w->next;
            w->next = gone;
            gone = w;
        }
    waiting_free(gone);
    return list;
}

/* Takes the first of the list, as many as one transaction may have; their outputs are chained as well. */
static struct waiting *cut(struct waiting **list, size_t *records)
{
    struct waiting *part = *list, *last = NULL;
    size_t bytes = 0;
    *records = 0;
    for (struct waiting *w = part; w && (!last || bytes + waiting_size(w) <= PART_MAX); w = w->next) {
        if (last)
            last->output->next = w->output;
        bytes += waiting_size(w);
        last = w;
        ++*records;
    }
    if (!last)
        return NULL;
    last->output->next = NULL;
    *list = last->next;
    last->next = NULL;
    return part;
}

/* One transaction. The last one has the new offsets; those before it have the ones that stand already, which change
 * nothing, but which Kafka takes from a member of the group's present generation only. */
static bool commit_part(struct commit_job *c, struct transactor *t, struct waiting *part, size_t records, bool last)
{
    const struct publisher *p = c->publisher;
    const struct transaction x = {.first = part ? part->output : NULL,
                                  .offsets = last ? c->offsets : c->standing,
                                  .offset_count = c->offset_count,
                                  .membership = c->membership};
    int64_t started_us = clock_mono_us();
    bool ok = transactor_commit(t, &x, &p->stop_at, c->why, sizeof c->why);
    if (ok && c->tells) {
        metric_add(p->m_committed, 1);
        metric_add(p->m_records, (int64_t)records);
        metric_observe(p->m_seconds, clock_mono_us() - started_us);
    }
    return ok;
}

/* What is not committed waits again, unless there is newer output of its key, or its partitions are gone. */
static void work(struct job *job, void *state)
{
    struct commit_job *c = (struct commit_job *)job;
    struct publisher *p = c->publisher;
    struct waiting *left = open_taken(c);
    size_t records;
    do {
        struct waiting *part = cut(&left, &records);
        c->ok = commit_part(c, state, part, records, !left);
        if (c->ok)
            waiting_free(part);
        else
            put_all(p, part, true);
        if (c->ok && left && atomic_load(&p->stop_at) != 0) {
            c->ok = false;
            snprintf(c->why, sizeof c->why, "the process stops");
        }
    } while (c->ok && left);
    put_all(p, left, true);
}

static void note_failure(struct publisher *p, const struct commit_job *c)
{
    int64_t now = clock_mono_us();
    metric_add(p->m_failed, c->tells);
    p->retry_us = now + backoff_ms(p->failures++, BACKOFF_BASE_MS, BACKOFF_MAX_MS) * 1000;
    if (p->logged_us != 0 && now - p->logged_us < LOG_EVERY_US)
        return;
    p->logged_us = now;
    log_warn("a group's output cannot be committed to Kafka, trying on", "group", p->group, "topic", p->topic, "reason",
             c->why);
}

static void note_success(struct publisher *p)
{
    if (p->logged_us != 0)
        log_info("the group's output is committed to Kafka again", "group", p->group);
    p->failures = 0;
    p->retry_us = p->logged_us = 0;
    p->opened = true;
}

static void on_done(struct job *job)
{
    struct commit_job *c = (struct commit_job *)job;
    struct publisher *p = c->publisher;
    bool ok = c->ok, tells = c->tells;
    p->busy = false;
    if (ok)
        note_success(p);
    else
        note_failure(p, c);
    membership_release(c->membership);
    free(c->offsets);
    free(c->standing);
    free(c);
    if (tells)
        p->on_committed(p->arg, ok);
}

static bool may_begin(const struct publisher *p)
{
    return !p->busy && atomic_load(&p->stop_at) == 0 && clock_mono_us() >= p->retry_us && workers_free(p->workers) > 0;
}

static void begin(struct publisher *p, struct commit_job *c)
{
    c->job.work = work;
    c->job.on_done = on_done;
    c->publisher = p;
    p->busy = true;
    workers_submit(p->workers, &c->job);
}

static struct source_offset *copy(const struct source_offset *offsets, size_t count)
{
    struct source_offset *own = xcalloc(count + 1, sizeof *own);
    if (count > 0)
        memcpy(own, offsets, count * sizeof *own);
    return own;
}

bool publisher_commit(struct publisher *p, struct membership *membership, const struct source_offset *offsets,
                      const struct source_offset *standing, size_t count)
{
    if (!may_begin(p))
        return false;
    struct commit_job *c = xcalloc(1, sizeof *c);
    c->offsets = copy(offsets, count);
    c->standing = copy(standing, count);
    c->offset_count = count;
    c->membership = count > 0 ? membership_hold(membership) : NULL;
    c->tells = true;
    pthread_mutex_lock(&p->lock);
    c->taken = p->waiting;
    p->waiting = (struct waiting_table){.buckets = NULL};
    c->assignment = p->assignment;
    atomic_store(&p->count, 0);
    atomic_store(&p->bytes, 0);
    pthread_mutex_unlock(&p->lock);
    begin(p, c);
    return true;
}

void publisher_open(struct publisher *p)
{
    if (!p->opened && may_begin(p))
        begin(p, xcalloc(1, sizeof(struct commit_job)));
}

/* --- start and stop --- */

static void *open_transactor(void *arg)
{
    const struct publisher *p = arg;
    return transactor_open(p->config, p->group, p->topic);
}

static void close_transactor(void *state)
{
    transactor_close(state);
}

struct publisher *publisher_start(uv_loop_t *loop, struct inbox *inbox, const struct config *config, const char *group,
                                  const char *topic, void (*on_committed)(void *arg, bool ok), void *arg)
{
    struct publisher *p = xcalloc(1, sizeof *p);
    p->config = config;
    p->group = group;
    p->topic = topic;
    p->on_committed = on_committed;
    p->arg = arg;
    p->assignment = PUBLISHER_ANY + 1;
    p->m_committed = metric_get(M_OUTPUT_TRANSACTIONS, group, "committed");
    p->m_failed = metric_get(M_OUTPUT_TRANSACTIONS, group, "failed");
    p->m_records = metric_get(M_OUTPUT_RECORDS, group, NULL);
    p->m_seconds = metric_get(M_OUTPUT_SECONDS, group, NULL);
    p->m_waiting = metric_get(M_OUTPUT_WAITING, group, NULL);
    pthread_mutex_init(&p->lock, NULL);
    const struct workers_options options = {
        .name = "output", .count = 1, .open = open_transactor, .close = close_transactor, .arg = p};
    p->workers = workers_start(inbox, &options);
    if (!p->workers) {
        free(p);
        return NULL;
    }
    uv_timer_init(loop, &p->timer);
    p->timer.data = p;
    return p;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct publisher *p = handle->data;
    void (*on_stopped)(void *, bool) = p->on_stopped;
    void *arg = p->stopped_arg;
    bool left_behind = p->left_behind;
    if (!left_behind) {
        waiting_free(waiting_empty(&p->waiting));
        pthread_mutex_destroy(&p->lock);
        free(p);
    }
    on_stopped(arg, left_behind);
}

static void on_workers_stopped(void *arg)
{
    struct publisher *p = arg;
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
}

static void on_late(uv_timer_t *timer)
{
    struct publisher *p = timer->data;
    log_warn("a Kafka transaction does not end in time and is left behind", "group", p->group);
    p->left_behind = true;
    workers_abandon(p->workers);
    on_workers_stopped(p);
}

void publisher_stop(struct publisher *p, bool in_use, int64_t deadline_us,
                    void (*on_stopped)(void *arg, bool left_behind), void *arg)
{
    int64_t left = deadline_us - clock_mono_us();
    p->on_stopped = on_stopped;
    p->stopped_arg = arg;
    p->left_behind = in_use;
    atomic_store(&p->stop_at, deadline_us);
    uv_timer_start(&p->timer, on_late, left > 0 ? (uint64_t)left / 1000 : 0, 0);
    workers_stop(p->workers, on_workers_stopped, p);
}
