/* One consumer group: from the source through the dispatch to the workers and back. */
#include <stdio.h>
#include <stdlib.h>

#include "consumers/group_impl.h"
#include "core/clock.h"
#include "core/log.h"

#define WINDOW_BYTES ((size_t)16 << 20)
#define SECOND_US 1000000
#define REVOKE_DRAIN_US 10000000 /* the group's other hosts wait meanwhile */
#define COMMIT_WAIT_US 3000000
#define PUBLISH_US 250000

/* --- commits --- */

static bool send_offsets(struct group *g, const struct source_offset *offsets, const struct source_offset *standing,
                         size_t count)
{
    if (g->publisher)
        return publisher_commit(g->publisher, source_membership(g->source), offsets, standing, count);
    return count > 0 && source_commit(g->source, offsets, count);
}

/* Sends what the watermarks have gained. False: nothing to send now. Output that has come besides goes with the offsets as
 * they are: it must not go without any, by which Kafka tells whether the partitions are still ours. */
static bool commit(struct group *g)
{
    struct source_offset *offsets = xcalloc(g->partition_count + 1, sizeof *offsets);
    struct source_offset *standing = xcalloc(g->partition_count + 1, sizeof *standing);
    bool output = g->publisher && publisher_waits(g->publisher);
    size_t count = 0;
    for (size_t i = 0; i < g->partition_count && !g->committing; i++) {
        struct partition *p = g->partitions[i];
        p->committing = -1;
        if (p->watermark.next < 0 || (p->watermark.next <= p->committed && !output))
            continue;
        p->committing = p->watermark.next;
        standing[count] =
            (struct source_offset){.partition = p->id, .next = p->committed < 0 ? p->watermark.first : p->committed};
        offsets[count++] = (struct source_offset){.partition = p->id, .next = p->committing};
    }
    bool sent = !g->committing && (count > 0 || output) && send_offsets(g, offsets, standing, count);
    g->committing = g->committing || sent;
    free(offsets);
    free(standing);
    return sent;
}

static void forget_partitions(struct group *g)
{
    if (g->order)
        order_check_forget(g->order);
    if (g->publisher)
        publisher_forget(g->publisher);
    for (size_t i = 0; i < g->partition_count; i++)
        dispatch_forget(g->dispatch, g->partitions[i]);
    workers_recall(g->workers);
    free(g->partitions);
    g->partitions = NULL;
    g->partition_count = 0;
}

/* --- stopping --- */

static void on_part_closed(struct group *g)
{
    if (--g->open_parts > 0)
        return;
    void (*on_stopped)(void *, bool) = g->on_stopped;
    void *arg = g->arg;
    bool left_behind = g->left_behind;
    buf_free(&g->key);
    order_check_free(g->order);
    free(g->picked);
    if (!left_behind) { /* a hanging worker still uses the rest */
        dispatch_free(g->dispatch);
        retrier_free(g->retrier);
        free(g);
    }
    on_stopped(arg, left_behind);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_part_closed(handle->data);
}

static void on_publisher_stopped(void *arg, bool left_behind)
{
    struct group *g = arg;
    g->left_behind = g->left_behind || left_behind;
    on_part_closed(g);
}

static void on_workers_stopped(void *arg)
{
    struct group *g = arg;
    if (g->publisher) {
        g->open_parts++;
        publisher_stop(g->publisher, g->left_behind, g->deadline_us, on_publisher_stopped, g);
    }
    uv_close((uv_handle_t *)&g->timer, on_timer_closed); /* it guarded their end */
    on_part_closed(g);
}

static void on_source_closed(void *arg)
{
    on_part_closed(arg);
}

static void on_workers_late(uv_timer_t *timer)
{
    struct group *g = timer->data;
    log_warn("a worker hangs and is left behind", "group", g->handler->group);
    g->left_behind = true;
    workers_abandon(g->workers);
    on_workers_stopped(g);
}

static void close_group(struct group *g)
{
    g->state = GROUP_CLOSING;
    g->open_parts = 3;
    int64_t left = g->deadline_us - clock_mono_us();
    uv_timer_start(&g->timer, on_workers_late, left > 0 ? (uint64_t)left / 1000 : 0, 0);
    workers_stop(g->workers, on_workers_stopped, g);
    source_close(g->source, g->deadline_us);
}

/* --- the states --- */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void start_draining(struct group *g, int64_t until_us)
{
    for (size_t i = 0; i < g->partition_count; i++)
        dispatch_revoke(g->dispatch, g->partitions[i]);
    workers_recall(g->workers);
    g->state_until_us = g->state == GROUP_DRAINING ? earlier(g->state_until_us, until_us) : until_us;
    g->state = GROUP_DRAINING;
}

static void start_committing(struct group *g, int64_t now_us)
{
    g->state = GROUP_COMMITTING;
    g->state_until_us = now_us + COMMIT_WAIT_US;
    if (g->stopping) /* half of what is left; the other half is for leaving the group */
        g->state_until_us = earlier(g->state_until_us, now_us + (g->deadline_us - now_us) / 2);
}

static void give_up_partitions(struct group *g)
{
    forget_partitions(g);
    if (g->revoked)
        source_release(g->source);
    g->revoked = false;
    if (g->stopping)
        close_group(g);
    else
        g->state = GROUP_RUNNING;
}

static void sweep(struct group *g, int64_t now_us)
{
    int64_t lag = 0;
    if (now_us - g->swept_us < SECOND_US)
        return;
    g->swept_us = now_us;
    commit(g);
    for (size_t i = 0; i < g->partition_count; i++) {
        const struct partition *p = g->partitions[i];
        int64_t end = source_end(g->source, p->id);
        if (p->watermark.next >= 0 && end > p->watermark.next)
            lag += end - p->watermark.next;
    }
    metric_set(g->metrics.lag, lag);
    metric_set(g->metrics.window, (int64_t)dispatch_items(g->dispatch));
    metric_set(g->metrics.partitions, (int64_t)g->partition_count);
    metric_set(g->metrics.missing, (int64_t)source_missing(g->source)); /* they have no part in the lag */
}

/* A transaction costs Kafka some writes, whatever is in it. */
static void publish(struct group *g, int64_t now_us)
{
    if (!g->publisher || now_us - g->published_us < PUBLISH_US)
        return;
    g->published_us = now_us;
    publisher_open(g->publisher);
    commit(g);
}

static void on_timer(uv_timer_t *timer)
{
    group_tick(timer->data);
}

/* While nothing can be done, records from Kafka find out when that is over. */
static bool may_retry(const struct group *g)
{
    return g->outage == 0 || dispatch_items(g->dispatch) == 0;
}

/* Waits for what is due next; the source wakes us some ten times a second besides. */
static void set_timer(struct group *g, int64_t now_us)
{
    int64_t due = dispatch_due(g->dispatch, now_us);
    if (may_retry(g))
        due = earlier(due, retrier_due(g->retrier));
    if (g->outage > 0 && dispatch_ready(g->dispatch) > 0)
        due = earlier(due, g->outage_until_us);
    if (g->gather_until_us > now_us)
        due = earlier(due, g->gather_until_us);
    if (due == INT64_MAX)
        uv_timer_stop(&g->timer);
    else
        uv_timer_start(&g->timer, on_timer, due > now_us ? (uint64_t)(due - now_us) / 1000 + 1 : 1, 0);
}

void group_tick(struct group *g)
{
    int64_t now = clock_mono_us();
    if (g->state == GROUP_DRAINING && (dispatch_running(g->dispatch) == 0 || now >= g->state_until_us))
        start_committing(g, now);
    if (g->state == GROUP_COMMITTING && !commit(g) && (!g->committing || now >= g->state_until_us))
        give_up_partitions(g);
    if (g->state != GROUP_RUNNING)
        return;
    dispatch_due(g->dispatch, now);
    if (may_retry(g)) /* first: under load there is never a worker left over */
        retrier_tick(g->retrier, now);
    group_start_runs(g, now);
    publish(g, now);
    sweep(g, now);
    set_timer(g, now);
}

/* --- what the source reports --- */

static void on_assign(void *arg, const int32_t *ids, size_t count)
{
    struct group *g = arg;
    forget_partitions(g);
    g->partitions = xcalloc(count + 1, sizeof(struct partition *));
    for (size_t i = 0; i < count; i++) {
        struct partition *p = g->partitions[g->partition_count++] = dispatch_assign(g->dispatch, ids[i]);
        p->assignment = g->publisher ? publisher_assignment(g->publisher) : 0;
    }
    group_tick(g);
}

static void on_revoke(void *arg, bool lost)
{
    struct group *g = arg;
    g->revoked = true;
    if (lost) {
        forget_partitions(g);
        if (!g->stopping) {
            give_up_partitions(g);
            return;
        }
        source_release(g->source);
        g->revoked = false;
    } else if (g->state == GROUP_RUNNING) {
        start_draining(g, clock_mono_us() + REVOKE_DRAIN_US);
    }
    group_tick(g);
}

static void on_committed(void *arg, bool ok)
{
    struct group *g = arg;
    g->committing = false;
    for (size_t i = 0; ok && i < g->partition_count; i++)
        if (g->partitions[i]->committing > g->partitions[i]->committed)
            g->partitions[i]->committed = g->partitions[i]->committing;
    if (!ok && g->state == GROUP_COMMITTING)
        give_up_partitions(g); /* what was not committed comes again */
    else
        group_tick(g);
}

/* Records are taken here only, once per turn of the loop, so that the loop is never busy with them for long. */
static void on_wake(void *arg)
{
    struct group *g = arg;
    g->woken = false;
    if (g->state == GROUP_RUNNING && !(g->publisher && publisher_full(g->publisher)))
        group_take_records(g);
    group_tick(g);
}

static const struct source_events source_events = {
    .on_assign = on_assign,
    .on_revoke = on_revoke,
    .on_record = group_on_record,
    .on_committed = on_committed,
    .on_wake = on_wake,
    .on_closed = on_source_closed,
};

/* --- start and stop --- */

int64_t group_workers(const struct config *config, const struct handler *h)
{
    if (h->fixed_pool > 0)
        return h->fixed_pool;
    return h->pool_size ? h->pool_size(config) : config->pool_size;
}

static size_t group_run_max(const struct group *g)
{
    const struct handler *h = g->handler;
    size_t max = (size_t)g->config->run_max, own = h->run_max ? h->run_max(g->config) : h->apply || g->gathers ? 0 : 1;
    return own > 0 && own < max ? own : max;
}

static void on_retried(void *arg)
{
    group_tick(arg);
}

static void *open_worker(void *arg)
{
    const struct group *g = arg;
    return g->handler->worker_open ? g->handler->worker_open(g->config) : NULL;
}

struct group *group_start(const struct group_options *options, char *why, size_t why_size)
{
    struct group *g = xcalloc(1, sizeof *g);
    const struct handler *h = options->handler;
    g->options = *options;
    g->config = options->config;
    g->handler = h;
    group_metrics_init(&g->metrics, h->group);
    g->env = (struct run_env){
        .config = g->config, .handler = h, .db = options->db, .metrics = &g->metrics, .stop_at = options->stop_at};
    g->gathers = h->gathers && h->gathers(g->config);
    g->run_max = group_run_max(g);
    const struct dispatch_options limits = {
        .window = (size_t)g->config->group_window,
        .window_bytes = WINDOW_BYTES,
        .run_max = g->run_max,
        .one_per_key = h->call && (!g->gathers || !h->apply),
    };
    g->dispatch = dispatch_new(&limits);
    g->order = options->checks_order ? order_check_new() : NULL;
    g->picked = xcalloc(limits.run_max, sizeof(struct item *));
    uv_timer_init(options->loop, &g->timer);
    g->timer.data = g;
    g->source = source_open(options->loop, options->inbox, g->config, h->group, &source_events, g, why, why_size);
    if (!g->source)
        return NULL; /* as with the workers: the process does not start then, nothing is cleaned up */
    g->backlog = g->run_max == 1 ? (size_t)group_workers(g->config, h) : 0;
    const struct workers_options pool = {.name = h->group,
                                         .count = (size_t)group_workers(g->config, h),
                                         .backlog = g->backlog,
                                         .open = open_worker,
                                         .close = h->worker_close,
                                         .arg = g};
    g->workers = workers_start(options->inbox, &pool);
    if (!g->workers) {
        snprintf(why, why_size, "cannot make %zu worker threads for %s", pool.count, h->group);
        return NULL;
    }
    if (h->output_topic) {
        g->publisher = publisher_start(options->loop, options->inbox, g->config, h->group, h->output_topic(g->config),
                                       on_committed, g);
        if (!g->publisher) {
            snprintf(why, why_size, "cannot make a thread for the output of %s", h->group);
            return NULL;
        }
        g->env.publisher = g->publisher;
    }
    g->retrier = retrier_new(&g->env, g->workers, g->run_max, g->gathers, on_retried, g);
    return g;
}

const char *group_trouble(const struct group *g)
{
    return g->state == GROUP_CLOSING ? "" : source_trouble(g->source);
}

bool group_lend_worker(struct group *g, struct job *job)
{
    if (g->state == GROUP_CLOSING || workers_room(g->workers) == 0)
        return false;
    workers_submit(g->workers, job);
    return true;
}

void group_stop(struct group *g, int64_t drain_us, int64_t deadline_us, void (*on_stopped)(void *arg, bool left_behind),
                void *arg)
{
    g->stopping = true;
    g->deadline_us = deadline_us;
    g->on_stopped = on_stopped;
    g->arg = arg;
    uv_timer_stop(&g->timer);
    if (g->state == GROUP_COMMITTING)
        g->state_until_us = earlier(g->state_until_us, drain_us);
    else
        start_draining(g, drain_us);
    group_tick(g);
}
