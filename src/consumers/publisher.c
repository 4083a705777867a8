/* Output of a group, and its transactions. */
#include "consumers/publisher.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/transaction.h"
#include "consumers/workers.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/metrics.h"

enum { BUCKETS = 4096, BACKOFF_BASE_MS = 200, BACKOFF_MAX_MS = 5000 };
#define WAITING_MAX ((size_t)8 << 20) /* bytes, about */
#define LOG_EVERY_US 30000000

/* A key's newest output. */
struct waiting {
    struct waiting *next;
    uint64_t assignment;
    struct output *output;
};

struct commit_job {
    struct job job;
    struct publisher *publisher;
    struct waiting *first; /* what the transaction has; its outputs are chained as well */
    size_t records;
    struct membership *membership;
    int64_t started_us;
    bool tells; /* publisher_commit's: on_committed wants to know */
    bool ok;
    char why[300];
    size_t offset_count;
    struct source_offset offsets[];
};

struct publisher {
    const struct config *config;
    const char *group, *topic;
    void (*on_committed)(void *arg, bool ok);
    void *arg;
    struct workers *workers; /* one */
    _Atomic int64_t stop_at;
    struct metric_series *m_committed, *m_failed, *m_records, *m_seconds, *m_waiting;
    /* Shared with the group's workers. */
    pthread_mutex_t lock;
    struct waiting *buckets[BUCKETS];
    size_t count, bytes;
    uint64_t assignment;
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

/* --- what waits; under the lock --- */

static size_t bucket_of(const struct output *o)
{
    return hash64(o->bytes, o->key_len) % BUCKETS;
}

static size_t size_of(const struct output *o)
{
    return sizeof(struct waiting) + sizeof *o + o->key_len + o->value_len;
}

/* Where the key is, or would be. */
static struct waiting **find(struct publisher *p, const struct output *o)
{
    struct waiting **at = &p->buckets[bucket_of(o)];
    while (*at && ((*at)->output->key_len != o->key_len || memcmp((*at)->output->bytes, o->bytes, o->key_len) != 0))
        at = &(*at)->next;
    return at;
}

static void put(struct publisher *p, uint64_t assignment, struct output *o)
{
    struct waiting **at = find(p, o), *w = *at;
    if (w) {
        p->bytes -= size_of(w->output);
        free(w->output);
    } else {
        w = *at = xcalloc(1, sizeof *w);
        p->count++;
    }
    w->assignment = assignment;
    w->output = o;
    p->bytes += size_of(o);
}

/* Takes out what an assignment had, or all that waits. The caller's to free. */
static struct waiting *take(struct publisher *p, bool all)
{
    struct waiting *taken = NULL, **last = &taken;
    for (size_t i = 0; i < BUCKETS && p->count > 0; i++)
        for (struct waiting **at = &p->buckets[i], *w; (w = *at);) {
            if (!all && w->assignment == PUBLISHER_ANY) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            w->next = NULL;
            *last = w;
            last = &w->next;
            p->count--;
            p->bytes -= size_of(w->output);
        }
    return taken;
}

static void free_waiting(struct waiting *w)
{
    for (struct waiting *next; w; w = next) {
        next = w->next;
        free(w->output);
        free(w);
    }
}

/* --- any thread --- */

void publisher_add(struct publisher *p, uint64_t assignment, struct outputs *o)
{
    pthread_mutex_lock(&p->lock);
    bool counts = assignment == PUBLISHER_ANY || assignment == p->assignment;
    for (struct output *out = o->first, *next; counts && out; out = next) {
        next = out->next;
        out->next = NULL;
        put(p, assignment, out);
    }
    pthread_mutex_unlock(&p->lock);
    if (counts)
        *o = (struct outputs){.first = NULL};
    outputs_clear(o);
}

bool publisher_full(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    bool full = p->bytes >= WAITING_MAX;
    metric_set(p->m_waiting, (int64_t)p->count);
    pthread_mutex_unlock(&p->lock);
    return full;
}

bool publisher_waits(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    bool waits = p->count > 0;
    pthread_mutex_unlock(&p->lock);
    return waits;
}

uint64_t publisher_assignment(const struct publisher *p)
{
    return p->assignment; /* only the loop changes it */
}

void publisher_forget(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    p->assignment++;
    struct waiting *gone = take(p, false);
    pthread_mutex_unlock(&p->lock);
    free_waiting(gone);
}

/* --- transactions --- */

static void work(struct job *job, void *state)
{
    struct commit_job *c = (struct commit_job *)job;
    struct transaction x = {.first = c->first ? c->first->output : NULL,
                            .offsets = c->offsets,
                            .offset_count = c->offset_count,
                            .membership = c->membership};
    for (struct waiting *w = c->first; w; w = w->next)
        w->output->next = w->next ? w->next->output : NULL;
    c->ok = transactor_commit(state, &x, &c->publisher->stop_at, c->why, sizeof c->why);
}

/* What a failed transaction had waits again, unless there is newer output of its key, or its partitions are gone. */
static void put_back(struct publisher *p, struct waiting *w)
{
    struct waiting *gone = NULL;
    pthread_mutex_lock(&p->lock);
    for (struct waiting *next; w; w = next) {
        next = w->next;
        struct waiting **at = find(p, w->output);
        if (*at || (w->assignment != PUBLISHER_ANY && w->assignment != p->assignment)) {
            w->next = gone;
            gone = w;
        } else {
            w->next = NULL;
            *at = w;
            p->count++;
            p->bytes += size_of(w->output);
        }
    }
    pthread_mutex_unlock(&p->lock);
    free_waiting(gone);
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

static void note_success(struct publisher *p, const struct commit_job *c)
{
    if (p->logged_us != 0)
        log_info("the group's output is committed to Kafka again", "group", p->group);
    p->failures = 0;
    p->retry_us = p->logged_us = 0;
    p->opened = true;
    if (!c->tells)
        return;
    metric_add(p->m_committed, 1);
    metric_add(p->m_records, (int64_t)c->records);
    metric_observe(p->m_seconds, clock_mono_us() - c->started_us);
}

static void on_done(struct job *job)
{
    struct commit_job *c = (struct commit_job *)job;
    struct publisher *p = c->publisher;
    bool ok = c->ok, tells = c->tells;
    p->busy = false;
    if (ok) {
        note_success(p, c);
        free_waiting(c->first);
    } else {
        note_failure(p, c);
        put_back(p, c->first);
    }
    membership_release(c->membership);
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
    c->started_us = clock_mono_us();
    p->busy = true;
    workers_submit(p->workers, &c->job);
}

bool publisher_commit(struct publisher *p, struct membership *membership, const struct source_offset *offsets,
                      size_t count)
{
    if (!may_begin(p))
        return false;
    struct commit_job *c = xcalloc(1, sizeof *c + count * sizeof c->offsets[0]);
    if (count > 0)
        memcpy(c->offsets, offsets, count * sizeof c->offsets[0]);
    c->offset_count = count;
    c->membership = count > 0 ? membership_hold(membership) : NULL;
    c->tells = true;
    pthread_mutex_lock(&p->lock);
    c->records = p->count;
    c->first = take(p, true);
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
        free_waiting(take(p, true));
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
