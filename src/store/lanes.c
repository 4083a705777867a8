/* The set of lanes: an action goes to the lane of its aggregate's shard. */
#include "store/lanes.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/hash.h"
#include "store/lane.h"

struct lanes {
    uv_loop_t *loop;
    const struct config *config;
    const struct installation *installation; /* NULL until lanes_connect */
    lanes_on_commit on_commit;
    void (*on_past_lost)(void *arg);
    void *arg;
    struct lane *lanes;
    size_t count;
    uv_check_t check; /* after a turn's reads: all that came in one turn goes in one batch */
    uv_timer_t timer; /* while stopping */
    bool stopping;
    int open_handles; /* lanes, check and timer, while closing */
    int64_t deadline_us;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
};

static void on_check(uv_check_t *check)
{
    struct lanes *l = check->data;
    for (size_t i = 0; i < l->count; i++)
        lane_pump(&l->lanes[i]);
}

struct lanes *lanes_start(uv_loop_t *loop, const struct config *config, lanes_on_commit on_commit,
                          void (*on_past_lost)(void *arg), void *arg)
{
    struct lanes *l = xcalloc(1, sizeof *l);
    l->loop = loop;
    l->config = config;
    l->on_commit = on_commit;
    l->on_past_lost = on_past_lost;
    l->arg = arg;
    uv_check_init(loop, &l->check);
    l->check.data = l;
    uv_check_start(&l->check, on_check);
    uv_timer_init(loop, &l->timer);
    l->timer.data = l;
    return l;
}

void lanes_connect(struct lanes *l, const struct installation *installation)
{
    if (l->installation || l->stopping)
        return;
    l->installation = installation;
    l->count = (size_t)l->config->lanes < installation->shards ? (size_t)l->config->lanes : installation->shards;
    l->lanes = xcalloc(l->count, sizeof *l->lanes);
    for (size_t i = 0; i < l->count; i++) {
        struct lane *lane = &l->lanes[i];
        lane->loop = l->loop;
        lane->config = l->config;
        lane->installation = installation;
        lane->on_commit = l->on_commit;
        lane->on_past_lost = l->on_past_lost;
        lane->arg = l->arg;
        snprintf(lane->name, sizeof lane->name, "tidings-lane-%zu", i);
        lane_start(lane);
    }
}

static uint32_t shard_of(const struct lanes *l, struct uuid aggregate)
{
    char id[UUID_TEXT_SIZE];
    uuid_format(aggregate, id);
    return aggregate_hash(id, UUID_TEXT_SIZE - 1) % l->installation->shards;
}

enum err lanes_submit(struct lanes *l, struct action *a)
{
    if (l->stopping)
        return ERR_SHUTTING_DOWN;
    if (!l->installation)
        return ERR_DB_UNAVAILABLE;
    if (a->kind != ACTION_UPKEEP)
        a->shard = shard_of(l, a->campaign_id);
    /* A new campaign has a new id, and so a shard of its own, each time: what two such requests share is the account. */
    a->key.shard = a->key.given && a->kind == ACTION_CREATE_CAMPAIGN ? shard_of(l, a->account_id) : a->shard;
    return lane_submit(&l->lanes[a->shard % l->count], a);
}

const char *lanes_trouble(const struct lanes *l)
{
    if (!l->installation)
        return "not yet connected";
    for (size_t i = 0; i < l->count; i++)
        if (!pglink_up(l->lanes[i].link))
            return pglink_trouble(l->lanes[i].link);
    return "";
}

bool lanes_ready(const struct lanes *l)
{
    return lanes_trouble(l)[0] == '\0';
}

/* --- stop ------------------------------------------------------------------------------------------------------- */

static void on_part_closed(struct lanes *l)
{
    if (--l->open_handles > 0)
        return;
    for (size_t i = 0; i < l->count; i++)
        lane_free(&l->lanes[i]);
    void (*on_stopped)(void *) = l->on_stopped;
    void *arg = l->stopped_arg;
    free(l->lanes);
    free(l);
    on_stopped(arg);
}

static void on_lane_closed(void *arg)
{
    on_part_closed(arg);
}

static void on_handle_closed(uv_handle_t *handle)
{
    on_part_closed(handle->data);
}

/* A batch being resolved is waited for: its thread uses the lane. Past the deadline it makes no further attempt. */
static void on_stop_timer(uv_timer_t *timer)
{
    struct lanes *l = timer->data;
    bool late = clock_mono_us() >= l->deadline_us, done = true;
    for (size_t i = 0; i < l->count; i++) {
        struct lane *lane = &l->lanes[i];
        if (late)
            lane_fail_queue(lane, ERR_SHUTTING_DOWN);
        if (late && lane->state == LANE_BUSY)
            pglink_drop(lane->link, "stopping"); /* its outcome is looked up once */
        if (late && lane->state == LANE_RESOLVING)
            lane->lost.deadline_us = 0;
        done = done && lane_empty(lane);
    }
    if (!done)
        return;
    uv_timer_stop(&l->timer);
    l->open_handles = (int)l->count + 2;
    uv_check_stop(&l->check);
    uv_close((uv_handle_t *)&l->check, on_handle_closed);
    uv_close((uv_handle_t *)&l->timer, on_handle_closed);
    for (size_t i = 0; i < l->count; i++)
        lane_close(&l->lanes[i], on_lane_closed, l);
}

void lanes_stop(struct lanes *l, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg)
{
    l->stopping = true;
    l->deadline_us = deadline_us;
    l->on_stopped = on_stopped;
    l->stopped_arg = arg;
    for (size_t i = 0; i < l->count; i++) {
        l->lanes[i].stopping = true;
        lane_pump(&l->lanes[i]);
    }
    uv_timer_start(&l->timer, on_stop_timer, 0, 10);
}
