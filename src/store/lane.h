/* One lane: a write connection with its queue. Internal to the store; lanes.h is the door. Loop thread only.
 *
 *   IDLE ──batch sent──▶ BUSY ──commit came back──▶ IDLE      (short road: what is not known is loaded first)
 *                          └──connection lost──▶ RESOLVING (pool thread) ──outcome known or deadline──▶ IDLE
 */
#ifndef TIDINGS_STORE_LANE_H
#define TIDINGS_STORE_LANE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/metrics.h"
#include "core/pglink.h"
#include "store/lane_append.h"
#include "store/lane_call.h"
#include "store/lane_known.h"
#include "store/lane_session.h"
#include "store/lanes.h"

enum lane_state { LANE_IDLE, LANE_BUSY, LANE_RESOLVING };

struct lane {
    uv_loop_t *loop;
    const struct config *config;
    const struct installation *installation;
    lanes_on_commit on_commit;
    void (*on_past_lost)(void *arg);
    void *arg;
    char name[40];
    struct pglink *link;
    enum lane_state state;
    bool stopping;

    struct action *head, **tail; /* waiting, in arrival order */
    size_t queued, queued_bytes; /* waiting and in the batch */

    struct action **batch; /* in flight or being resolved; room for LANE_BATCH */
    size_t batch_count;
    struct action **done; /* of the batch before: being answered while the next is under way; NULL: comes again */
    size_t split;         /* > 0: batches are at most this large, to find a culprit … */
    size_t split_left;    /* … among so many actions */
    int retries;          /* of the present batch, for serialization failures and deadlocks */
    int64_t sent_us;
    struct lane_call call;      /* the general road */
    struct lane_append *append; /* the short road, … */
    struct lane_known known;    /* … and what it goes by */
    struct lane_result result;
    const char *shards; /* of the batch in flight, as a parameter */
    int shards_len;
    int stale_streak; /* batches in a row for which the short road knew too little: others write here */
    int general_left; /* so many batches go the general road meanwhile */
    size_t free_left; /* so many of the oldest for the short road come again alone: their addresses are free */

    int64_t key;          /* the session's lock; a new one per connection */
    int64_t *heads;       /* per shard: last seq known */
    int64_t *setup_heads; /* setup's result, on the pool thread */
    int64_t setup_key;

    struct lost_batch lost;
    uv_work_t resolve_work;

    struct metric_series *m_queue, *m_up;
};

void lane_start(struct lane *l); /* the fields above config … name are set by the caller */
enum err lane_submit(struct lane *l, struct action *a);
void lane_pump(struct lane *l); /* sends a batch if something waits and nothing is in flight */
bool lane_empty(const struct lane *l);
void lane_fail_queue(struct lane *l, enum err err);                       /* answers all that wait */
void lane_close(struct lane *l, void (*on_closed)(void *arg), void *arg); /* only when not RESOLVING */
void lane_free(struct lane *l);

#endif
