/* Sagas: one look at a time, then an action per campaign that has work. */
#include "store/sagas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/uuid.h"

enum {
    CAMPAIGNS = 20,  /* at a time: as many actions are in the lanes at most */
    ROWS = 20,       /* sagas that an action ends: a few milliseconds of the shard's lock */
    RETRY_MAX_MS = 5000,
    LOG_AT = 5, /* failures in a row: connections take a moment to come up */
};

struct sagas {
    const struct config *config;
    struct lanes *lanes;
    struct reader *reader;
    uv_timer_t timer;
    bool looking;
    size_t ending; /* actions under way */
    bool failed;   /* one of them, in this round */
    bool more;     /* some of them ended as much as they may at a time: there may be more */
    int failures;  /* rounds in a row */
    bool stopping;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
};

static void on_timer(uv_timer_t *timer);

static void on_closed(uv_handle_t *timer)
{
    struct sagas *s = timer->data;
    void (*on_stopped)(void *) = s->on_stopped;
    void *arg = s->stopped_arg;
    free(s);
    on_stopped(arg);
}

static void close_if_done(struct sagas *s)
{
    if (s->stopping && !s->looking && s->ending == 0 && !uv_is_closing((uv_handle_t *)&s->timer))
        uv_close((uv_handle_t *)&s->timer, on_closed);
}

static void look_in(struct sagas *s, int64_t ms)
{
    if (!s->stopping)
        uv_timer_start(&s->timer, on_timer, (uint64_t)ms, 0);
}

/* What is locked by somebody comes again with the next look, and not at once. */
static void finish_round(struct sagas *s, const char *why)
{
    int64_t poll_ms = s->config->saga_poll_ms, base_ms = poll_ms < RETRY_MAX_MS ? poll_ms : RETRY_MAX_MS;
    if (s->failed && ++s->failures == LOG_AT)
        log_warn("sagas cannot be ended now, trying on", "reason", why);
    if (!s->failed)
        s->failures = 0;
    look_in(s, s->failed ? backoff_ms(s->failures, base_ms, RETRY_MAX_MS) : s->more ? 0 : poll_ms);
    close_if_done(s);
}

static void on_ended(struct action *a, const struct action_result *r)
{
    struct sagas *s = a->arg;
    /* A campaign that was deleted meanwhile has no sagas any more. */
    s->failed = s->failed || (r->err != ERR_NONE && r->err != ERR_NO_CAMPAIGN);
    s->more = s->more || (r->err == ERR_NONE && r->place > 0);
    if (--s->ending == 0)
        finish_round(s, err_slug(r->err));
}

static void end_some(struct sagas *s, const char *campaign)
{
    char args[32];
    int len = snprintf(args, sizeof args, "{\"rows\":%d}", ROWS);
    struct action *a = action_new(ACTION_END_SAGAS, (size_t)len);
    a->args = action_text(a, args, (size_t)len);
    a->on_done = on_ended;
    a->arg = s;
    if (uuid_parse(campaign, strlen(campaign), &a->campaign_id) && lanes_submit(s->lanes, a) == ERR_NONE) {
        s->ending++;
        return;
    }
    s->failed = true;
    action_free(a);
}

static void on_due(void *arg, enum err err, const PGresult *rows)
{
    struct sagas *s = arg;
    int count = err == ERR_NONE && !s->stopping ? PQntuples(rows) : 0;
    s->looking = false;
    s->failed = err != ERR_NONE;
    s->more = count == CAMPAIGNS;
    /* One counts as under way until all are submitted: a lane might answer at once. */
    s->ending = 1;
    for (int i = 0; i < count; i++)
        end_some(s, PQgetvalue(rows, i, 0));
    if (--s->ending == 0)
        finish_round(s, err_slug(err != ERR_NONE ? err : ERR_OVERLOADED));
}

static void on_timer(uv_timer_t *timer)
{
    struct sagas *s = timer->data;
    char deadline[24], limit[12];
    const char *const params[] = {deadline, limit};
    snprintf(deadline, sizeof deadline, "%lld", (long long)s->config->reward_deadline_s);
    snprintf(limit, sizeof limit, "%d", CAMPAIGNS);
    s->looking = reader_submit(s->reader, READ_SAGAS_DUE, 2, params, on_due, s) == ERR_NONE;
    if (!s->looking) {
        s->failed = true;
        finish_round(s, err_slug(ERR_DB_UNAVAILABLE));
    }
}

struct sagas *sagas_start(uv_loop_t *loop, const struct config *config, struct lanes *lanes, struct reader *reader)
{
    struct sagas *s = xcalloc(1, sizeof *s);
    s->config = config;
    s->lanes = lanes;
    s->reader = reader;
    uv_timer_init(loop, &s->timer);
    s->timer.data = s;
    look_in(s, config->saga_poll_ms);
    return s;
}

void sagas_stop(struct sagas *s, void (*on_stopped)(void *arg), void *arg)
{
    s->stopping = true;
    s->on_stopped = on_stopped;
    s->stopped_arg = arg;
    uv_timer_stop(&s->timer);
    close_if_done(s);
}
