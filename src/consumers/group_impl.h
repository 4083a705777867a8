/* A consumer group's inside, shared by group.c (states, partitions, commits) and group_runs.c (records in, runs out and
 * back). */
#ifndef TIDINGS_CONSUMERS_GROUP_IMPL_H
#define TIDINGS_CONSUMERS_GROUP_IMPL_H

#include "consumers/dispatch.h"
#include "consumers/group.h"
#include "consumers/group_metrics.h"
#include "consumers/order_check.h"
#include "consumers/publisher.h"
#include "consumers/retrier.h"
#include "consumers/run.h"
#include "consumers/source.h"
#include "core/buf.h"

enum group_state { GROUP_RUNNING, GROUP_DRAINING, GROUP_COMMITTING, GROUP_CLOSING };

struct group {
    struct group_options options;
    const struct config *config;
    const struct handler *handler;
    struct group_metrics metrics;
    struct run_env env;
    struct source *source;
    struct workers *workers;
    struct dispatch *dispatch;
    struct order_check *order; /* NULL: another group has it */
    struct retrier *retrier;
    struct publisher *publisher; /* NULL: it has no output, and its offsets are committed by themselves */
    int64_t published_us;
    size_t run_max;
    size_t backlog;          /* runs that may wait for a worker */
    bool gathers;            /* runs should be few and large, not soon */
    int64_t gather_until_us; /* when what is ready may be a small run; 0: nothing was ready yet */
    struct item **picked;    /* scratch of dispatch_take: run_max */
    struct buf key;          /* scratch of intake_read */
    uv_timer_t timer;        /* when something is due */
    struct partition **partitions;
    size_t partition_count, next_partition;
    struct partition *taking; /* whose records on_record gets */
    bool more_waits;          /* the source had more than one turn takes */
    bool woken;               /* the source will wake us in the next turn of the loop */
    int64_t swept_us;         /* commits and gauges: once a second */
    uint64_t finished;        /* records, ever */
    /* Outage: runs in a row that could not be tried. */
    int outage;
    int64_t outage_until_us, logged_us;
    /* Draining, committing, closing. */
    enum group_state state;
    int64_t state_until_us;
    bool committing; /* a source_commit or publisher_commit is under way */
    bool revoked;    /* source_release is still to be called */
    bool stopping;
    int64_t deadline_us;
    int open_parts; /* source, workers and timer; publisher */
    bool left_behind;
    void (*on_stopped)(void *arg, bool left_behind);
    void *arg;
};

void group_tick(struct group *g); /* does what can be done now; after anything that happened */

void group_on_record(void *arg, const struct source_record *r);
void group_take_records(struct group *g);
void group_start_runs(struct group *g, int64_t now_us);

#endif
