/* Upkeep: one action at a time per shard. */
#include "store/upkeep.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/metrics.h"

enum {
    ROWS = 500,
    PAUSE_MS = 20
}; /* a page is a few milliseconds of the shard's lock; between pages others go first */

struct upkeep {
    const struct config *config;
    struct lanes *lanes;
    const struct installation *installation;
    uv_timer_t timer;
    uint32_t shard; /* the next one */
    bool found;     /* in this round something was removed, so there may be more */
    bool waiting;   /* for an action's outcome */
    bool stopping;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
};

static void on_timer(uv_timer_t *timer);

static void on_closed(uv_handle_t *timer)
{
    struct upkeep *u = timer->data;
    void (*on_stopped)(void *) = u->on_stopped;
    void *arg = u->stopped_arg;
    free(u);
    on_stopped(arg);
}

static void close_if_done(struct upkeep *u)
{
    if (u->stopping && !u->waiting && !uv_is_closing((uv_handle_t *)&u->timer))
        uv_close((uv_handle_t *)&u->timer, on_closed);
}

static void next_in(struct upkeep *u, int64_t ms)
{
    if (!u->stopping)
        uv_timer_start(&u->timer, on_timer, (uint64_t)ms, 0);
}

/* All shards one after the other, then a rest, unless there was something to do. */
static void advance(struct upkeep *u)
{
    if (++u->shard < u->installation->shards) {
        next_in(u, PAUSE_MS);
        return;
    }
    next_in(u, u->found ? PAUSE_MS : u->config->upkeep_ms);
    u->shard = 0;
    u->found = false;
}

static void on_done(struct action *a, const struct action_result *r)
{
    struct upkeep *u = a->arg;
    u->waiting = false;
    if (r->err == ERR_NONE && r->place > 0) {
        u->found = true;
        metric_inc(M_UPKEEP_PAGES);
    }
    advance(u); /* also after an error: the shard comes again in the next round */
    close_if_done(u);
}

static void on_timer(uv_timer_t *timer)
{
    struct upkeep *u = timer->data;
    struct buf args = {0};
    if (u->installation->shards == 0) {
        next_in(u, u->config->upkeep_ms);
        return;
    }
    buf_printf(&args, "{\"rows\":%d,\"delay_s\":%lld,\"keep_s\":%lld}", ROWS, (long long)u->config->purge_delay_s,
               (long long)u->config->idempotency_keep_s);
    struct action *a = action_new(ACTION_UPKEEP, args.len);
    a->args = action_text(a, args.data, args.len);
    a->shard = u->shard;
    a->on_done = on_done;
    a->arg = u;
    buf_free(&args);
    u->waiting = lanes_submit(u->lanes, a) == ERR_NONE;
    if (u->waiting)
        return;
    action_free(a);
    next_in(u, u->config->upkeep_ms);
}

struct upkeep *upkeep_start(uv_loop_t *loop, const struct config *config, struct lanes *lanes,
                            const struct installation *installation)
{
    struct upkeep *u = xcalloc(1, sizeof *u);
    u->config = config;
    u->lanes = lanes;
    u->installation = installation;
    uv_timer_init(loop, &u->timer);
    u->timer.data = u;
    next_in(u, config->upkeep_ms);
    return u;
}

void upkeep_stop(struct upkeep *u, void (*on_stopped)(void *arg), void *arg)
{
    u->stopping = true;
    u->on_stopped = on_stopped;
    u->stopped_arg = arg;
    uv_timer_stop(&u->timer);
    close_if_done(u);
}
