/* A group's records on their way in, to the workers and back. */
#include <stdlib.h>
#include <string.h>

#include "consumers/group_impl.h"
#include "consumers/intake.h"
#include "core/clock.h"
#include "core/log.h"

#define TURN_MAX 256       /* records taken per turn of the loop: parsing them takes 1 to 2 ms */
#define OUTAGE_MAX_MS 5000 /* between tries of a group that cannot work: one run, so it costs little */
#define LOG_EVERY_US 30000000
#define GATHER_US 20000 /* a fetch comes in by partitions, one after the other */

struct run_job {
    struct job job;
    struct group *group;
    size_t count;
    struct item *items[];
};

/* --- records in --- */

static struct partition *find_partition(const struct group *g, int32_t id)
{
    for (size_t i = 0; i < g->partition_count; i++)
        if (g->partitions[i]->id == id)
            return g->partitions[i];
    return NULL;
}

void group_on_record(void *arg, const struct source_record *r)
{
    struct group *g = arg;
    struct partition *p = g->taking && g->taking->id == r->partition ? g->taking : find_partition(g, r->partition);
    int series = SERIES_UNKNOWN;
    if (!p || p->closing)
        return; /* not ours any more: it is not committed, so it comes again to whom it belongs */
    if (g->order)
        order_check_see(g->order, r);
    struct item *it = intake_read(g->handler, r, &g->key, &series);
    metric_add(g->metrics.messages[series], 1);
    if (it) {
        it->stays = g->publisher != NULL;
        dispatch_add(g->dispatch, p, it, g->key.data, g->key.len);
    } else {
        dispatch_skip(g->dispatch, p, r->offset);
        metric_add(g->metrics.ignored, 1);
    }
}

void group_take_records(struct group *g)
{
    size_t taken = 0;
    for (size_t i = 0; i < g->partition_count && taken < TURN_MAX; i++) {
        struct partition *p = g->partitions[(g->next_partition + i) % g->partition_count];
        size_t room = dispatch_room(g->dispatch, p);
        if (room == 0)
            continue;
        g->taking = p;
        taken += source_take(g->source, p->id, room < TURN_MAX - taken ? room : TURN_MAX - taken);
        g->taking = NULL;
    }
    g->next_partition++;
    g->more_waits = taken >= TURN_MAX;
    if (g->more_waits)
        source_wake_again(g->source);
}

/* --- runs out and back --- */

static void work(struct job *job, void *state)
{
    struct run_job *run = (struct run_job *)job;
    run_items(&run->group->env, state, run->items, run->count);
}

/* A record that could not be tried. Should that happen again it is tried alone; and if others go through meanwhile, it
 * may be the record itself that makes its runs fail (a mail at which the server stalls): its attempts count then. */
static void note_blocked(const struct group *g, struct item *it)
{
    it->finished_before = g->finished;
    it->alone = ++it->blocked >= 2;
}

static void note_suspect(const struct group *g, struct item *it, size_t run_count)
{
    it->suspect = run_count == 1 && it->blocked > 0 && g->finished > it->finished_before;
}

static void note_outage(struct group *g, const char *reason)
{
    int64_t now = clock_mono_us();
    int64_t wait_ms = backoff_ms(g->outage++, g->config->retry_base_ms, OUTAGE_MAX_MS);
    g->outage_until_us = now + wait_ms * 1000;
    if (g->logged_us != 0 && now - g->logged_us < LOG_EVERY_US)
        return;
    g->logged_us = now;
    log_warn("the group cannot work now, trying on", "group", g->handler->group, "reason", reason);
}

static bool is_finished(const struct item *it)
{
    return it->result == ITEM_FINISHED && it->record.outcome != OUTCOME_LATER;
}

/* It is to be tried again, but came as far as its own call: so Postgres is there, and what its target lacks (a mail server
 * that is away has mails wait) says nothing of the others. One that apply had wait says nothing of what they call; a
 * suspect was blocked. */
static bool is_called(const struct item *it)
{
    return it->result == ITEM_AGAIN && it->record.call && !it->suspect;
}

static void note_results(struct group *g, struct run_job *run)
{
    const char *blocked = NULL;
    size_t finished = 0, called = 0;
    for (size_t i = 0; i < run->count; i++) {
        finished += is_finished(run->items[i]);
        called += is_called(run->items[i]);
    }
    g->finished += finished;
    if (finished > 0)
        retrier_note_good(g->retrier);
    for (size_t i = 0; i < run->count; i++)
        if (run->items[i]->result == ITEM_BLOCKED) {
            note_blocked(g, run->items[i]);
            blocked = run->items[i]->record.reason;
        }
    if (blocked && finished == 0) {
        note_outage(g, blocked);
    } else if (g->outage > 0 && (finished > 0 || (!blocked && called > 0))) {
        log_info("the group works again", "group", g->handler->group);
        g->outage = 0;
        g->logged_us = 0;
    }
}

/* Runs come back in bursts: what they made room for is looked at once for all of them, and not before half of what waits
 * for the workers is gone. */
static void on_run_done(struct job *job)
{
    struct run_job *run = (struct run_job *)job;
    struct group *g = run->group;
    note_results(g, run);
    dispatch_return(g->dispatch, run->items, run->count);
    free(run);
    if (g->options.on_run && !g->stopping)
        g->options.on_run(g->options.arg);
    if (g->state != GROUP_RUNNING) {
        group_tick(g);
    } else if (!g->woken && workers_room(g->workers) > g->backlog / 2) {
        g->woken = true;
        source_wake_again(g->source);
    }
}

/* The partitions go: nobody has begun it. */
static void on_run_recalled(struct job *job)
{
    struct run_job *run = (struct run_job *)job;
    for (size_t i = 0; i < run->count; i++)
        run->items[i]->result = ITEM_BEHIND;
    dispatch_return(run->group->dispatch, run->items, run->count);
    free(run);
}

static bool may_run(const struct group *g, int64_t now_us)
{
    if (workers_room(g->workers) == 0 || (g->publisher && publisher_full(g->publisher)))
        return false;
    return g->outage == 0 || (dispatch_running(g->dispatch) == 0 && now_us >= g->outage_until_us);
}

/* How many workers should share what is ready; 0: it should gather first. A set-based run costs about the same whatever
 * its size: so there is one at a time, some time after its first record, unless a full one is there. */
static size_t sharers(struct group *g, int64_t now_us)
{
    size_t ready = dispatch_ready(g->dispatch);
    if (!g->gathers)
        return workers_room(g->workers);
    if (ready >= g->run_max)
        return 1;
    if (ready > 0 && g->gather_until_us == 0)
        g->gather_until_us = now_us + GATHER_US;
    return g->gather_until_us <= now_us && !g->more_waits && dispatch_running(g->dispatch) == 0 ? 1 : 0;
}

void group_start_runs(struct group *g, int64_t now_us)
{
    while (may_run(g, now_us)) {
        size_t count = dispatch_take(g->dispatch, sharers(g, now_us), g->picked);
        if (count == 0)
            return;
        g->gather_until_us = 0;
        note_suspect(g, g->picked[0], count);
        struct run_job *run = xcalloc(1, sizeof *run + count * sizeof run->items[0]);
        run->job.work = work;
        run->job.on_done = on_run_done;
        run->job.on_recalled = on_run_recalled;
        run->group = g;
        run->count = count;
        memcpy(run->items, g->picked, count * sizeof run->items[0]);
        workers_submit(g->workers, &run->job);
    }
}
