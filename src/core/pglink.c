/* A Postgres connection on the loop: opened on a pool thread, then driven by uv_poll in pipeline mode. */
#include "core/pglink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/pg.h"

enum { BACKOFF_BASE_MS = 50, BACKOFF_MAX_MS = 5000, LASTING_US = 2000000, WHY_SIZE = 512 };

struct pending {
    pglink_done done;
    void *arg;
    int64_t sent_us;
};

enum state { DOWN, OPENING, UP };

struct pglink {
    uv_loop_t *loop;
    struct pglink_options options;
    enum state state;
    bool closing;
    int attempt;   /* openings in a row that failed or did not last */
    int64_t up_us; /* when it came up */
    char trouble[WHY_SIZE];

    PGconn *conn; /* UP: the loop's; OPENING: the pool thread's */
    char opening_why[WHY_SIZE];
    uv_work_t work;

    uv_poll_t *poll; /* one per connection: libuv wants a fresh handle for a fresh socket */
    int poll_events;
    uv_timer_t timer; /* back-off while DOWN, stall check while UP */

    struct pending *ring; /* statements sent, oldest at head */
    size_t head, count;
    PGresult *held; /* the head's result, until its Sync is back */
    bool warned;

    void (*on_closed)(void *arg);
    void *closed_arg;
};

static void open_start(struct pglink *l);
static void on_timer(uv_timer_t *timer);
static void on_poll(uv_poll_t *poll, int status, int events);

static void on_notice(void *arg, const PGresult *notice)
{
    struct pglink *l = arg;
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity && strcmp(severity, "WARNING") == 0) {
        l->warned = true;
        log_warn("Postgres warned", "link", l->options.application_name, "warning",
                 PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY));
    }
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle);
}

static void poll_stop(struct pglink *l)
{
    if (!l->poll)
        return;
    uv_poll_stop(l->poll);
    uv_close((uv_handle_t *)l->poll, on_poll_closed);
    l->poll = NULL;
}

static void back_off(struct pglink *l)
{
    l->state = DOWN;
    int64_t wait = backoff_ms(l->attempt++, BACKOFF_BASE_MS, BACKOFF_MAX_MS);
    uv_timer_start(&l->timer, on_timer, (uint64_t)wait, 0);
}

/* Answers everything that waits as lost. The callbacks may not send: the link is no longer up. */
static void fail_pending(struct pglink *l)
{
    PQclear(l->held);
    l->held = NULL;
    while (l->count > 0) {
        struct pending p = l->ring[l->head];
        l->head = (l->head + 1) % l->options.max_pending;
        l->count--;
        p.done(p.arg, &(struct pglink_answer){.result = NULL, .warned = l->warned});
    }
}

static void go_down(struct pglink *l, const char *why)
{
    if (l->state != UP)
        return;
    snprintf(l->trouble, sizeof l->trouble, "%s", why && *why ? why : "connection lost");
    if (!l->closing)
        log_warn("lost a Postgres connection", "link", l->options.application_name, "reason", l->trouble);
    poll_stop(l);
    PQfinish(l->conn);
    l->conn = NULL;
    if (clock_mono_us() - l->up_us > LASTING_US)
        l->attempt = 0;
    back_off(l);
    fail_pending(l);
    if (l->options.on_down)
        l->options.on_down(l->options.arg, l->trouble);
}

/* With libpq's reason. */
static void fail(struct pglink *l)
{
    char why[WHY_SIZE];
    snprintf(why, sizeof why, "%s", PQerrorMessage(l->conn));
    why[strcspn(why, "\n")] = '\0';
    go_down(l, why);
}

static bool poll_update(struct pglink *l, int flushed)
{
    int events = UV_READABLE | (flushed == 1 ? UV_WRITABLE : 0);
    if (events == l->poll_events)
        return true;
    l->poll_events = events;
    return uv_poll_start(l->poll, events, on_poll) == 0;
}

static void complete_head(struct pglink *l)
{
    struct pending p = l->ring[l->head];
    PGresult *result = l->held;
    bool warned = l->warned;
    l->held = NULL;
    l->warned = false;
    l->head = (l->head + 1) % l->options.max_pending;
    l->count--;
    p.done(p.arg, &(struct pglink_answer){.result = result, .warned = warned});
    PQclear(result);
}

/* Reads every complete result. An error replaces rows that came before it: a commit can fail after its rows were sent.
 * False: libpq will never answer what still waits; a send by one of the callbacks may have found the connection gone. */
static bool drain(struct pglink *l)
{
    PGconn *conn = l->conn;
    bool ended = false;
    while (l->state == UP && l->conn == conn && l->count > 0 && !PQisBusy(conn)) {
        PGresult *result = PQgetResult(conn);
        if (!result) { /* the end of one statement's results; its Sync follows, or else nothing does, for ever */
            if (ended)
                return false;
            ended = true;
            continue;
        }
        ended = false;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            complete_head(l);
        } else if (!l->held || PQresultStatus(result) == PGRES_FATAL_ERROR) {
            PQclear(l->held);
            l->held = result;
        } else {
            PQclear(result);
        }
    }
    return true;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct pglink *l = poll->data;
    /* libuv reports a reset socket as a bad descriptor; libpq knows better what happened. */
    if ((status < 0 || (events & UV_READABLE)) && (!PQconsumeInput(l->conn) || status < 0)) {
        fail(l);
        return;
    }
    bool answered = drain(l);
    if (l->state != UP || l->poll != poll)
        return;
    int flushed = PQflush(l->conn);
    if (!answered || flushed < 0 || PQstatus(l->conn) == CONNECTION_BAD || !poll_update(l, flushed))
        fail(l);
}

static void check_stall(struct pglink *l)
{
    if (l->count > 0 && clock_mono_us() - l->ring[l->head].sent_us > l->options.stall_ms * 1000)
        go_down(l, "no answer within DB_STALL_MS");
}

static void on_timer(uv_timer_t *timer)
{
    struct pglink *l = timer->data;
    if (l->state == DOWN)
        open_start(l);
    else if (l->state == UP && !l->poll)
        fail(l);
    else if (l->state == UP)
        check_stall(l);
}

/* On a pool thread. */
static void open_work(uv_work_t *work)
{
    struct pglink *l = work->data;
    PGconn *conn = pg_open(l->options.url, l->options.application_name, l->options.connect_timeout_s, l->opening_why,
                           sizeof l->opening_why);
    if (conn && l->options.setup && !l->options.setup(conn, l->options.arg, l->opening_why, sizeof l->opening_why)) {
        PQfinish(conn);
        conn = NULL;
    }
    if (conn && (PQsetnonblocking(conn, 1) != 0 || !PQenterPipelineMode(conn))) {
        snprintf(l->opening_why, sizeof l->opening_why, "%s", PQerrorMessage(conn));
        PQfinish(conn);
        conn = NULL;
    }
    l->conn = conn;
}

static void report_closed(struct pglink *l)
{
    void (*on_closed)(void *) = l->on_closed;
    void *arg = l->closed_arg;
    free(l->ring);
    free(l);
    if (on_closed)
        on_closed(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    report_closed(handle->data);
}

static bool poll_begin(struct pglink *l)
{
    l->poll = xcalloc(1, sizeof *l->poll);
    if (uv_poll_init(l->loop, l->poll, PQsocket(l->conn)) != 0) {
        free(l->poll);
        l->poll = NULL;
        return false;
    }
    l->poll->data = l;
    l->poll_events = 0;
    return poll_update(l, 0);
}

static void open_failed(struct pglink *l)
{
    bool news = strcmp(l->trouble, l->opening_why) != 0;
    snprintf(l->trouble, sizeof l->trouble, "%s", l->opening_why);
    if (news || l->attempt % 10 == 9)
        log_warn("cannot open a Postgres connection; trying again", "link", l->options.application_name, "reason",
                 l->trouble);
    back_off(l);
}

static void open_done(uv_work_t *work, int status)
{
    struct pglink *l = work->data;
    (void)status;
    if (l->closing) {
        PQfinish(l->conn);
        l->conn = NULL;
        l->state = DOWN;
        uv_close((uv_handle_t *)&l->timer, on_timer_closed);
        return;
    }
    if (!l->conn) {
        open_failed(l);
        return;
    }
    if (!poll_begin(l)) {
        snprintf(l->opening_why, sizeof l->opening_why, "cannot watch the connection's socket");
        poll_stop(l);
        PQfinish(l->conn);
        l->conn = NULL;
        open_failed(l);
        return;
    }
    PQsetNoticeReceiver(l->conn, on_notice, l);
    l->state = UP;
    l->up_us = clock_mono_us();
    l->trouble[0] = '\0';
    l->warned = false;
    uv_timer_start(&l->timer, on_timer, 200, 200);
    if (l->options.on_up)
        l->options.on_up(l->options.arg);
}

static void open_start(struct pglink *l)
{
    l->state = OPENING;
    l->work.data = l;
    l->opening_why[0] = '\0';
    if (uv_queue_work(l->loop, &l->work, open_work, open_done) != 0)
        back_off(l);
}

struct pglink *pglink_open(uv_loop_t *loop, const struct pglink_options *options)
{
    struct pglink *l = xcalloc(1, sizeof *l);
    l->loop = loop;
    l->options = *options;
    l->ring = xcalloc(options->max_pending, sizeof *l->ring);
    snprintf(l->trouble, sizeof l->trouble, "not yet connected");
    uv_timer_init(loop, &l->timer);
    l->timer.data = l;
    open_start(l);
    return l;
}

bool pglink_up(const struct pglink *l)
{
    return l->state == UP;
}

bool pglink_room(const struct pglink *l)
{
    return l->state == UP && l->count < l->options.max_pending;
}

const char *pglink_trouble(const struct pglink *l)
{
    return l->state == UP ? "" : l->trouble;
}

/* A send that fails makes libpq close the socket, whose number may be another's soon: it is not watched any more. What waits
 * is answered on a later turn. */
static void after_send(struct pglink *l, int flushed)
{
    if (PQstatus(l->conn) != CONNECTION_BAD) {
        if (flushed >= 0)
            poll_update(l, flushed);
    } else if (l->poll) {
        poll_stop(l);
        uv_timer_start(&l->timer, on_timer, 0, 0);
    }
}

bool pglink_send(struct pglink *l, const char *statement, int count, const char *const *values, const int *lengths,
                 const int *formats, int result_format, pglink_done done, void *arg)
{
    if (!pglink_room(l))
        return false;
    /* Once the statement is in libpq's buffer part of it may be on the wire: from here on the answer is `done`'s, and a
     * failure is found by the poll handle, not inside this call. */
    if (!PQsendQueryPrepared(l->conn, statement, count, values, lengths, formats, result_format)) {
        after_send(l, -1);
        return false;
    }
    l->ring[(l->head + l->count) % l->options.max_pending] = (struct pending){done, arg, clock_mono_us()};
    l->count++;
    PQpipelineSync(l->conn);
    after_send(l, PQflush(l->conn));
    return true;
}

void pglink_drop(struct pglink *l, const char *why)
{
    go_down(l, why);
}

void pglink_close(struct pglink *l, void (*on_closed)(void *arg), void *arg)
{
    l->closing = true;
    l->on_closed = on_closed;
    l->closed_arg = arg;
    l->options.on_down = NULL;
    go_down(l, "closing");
    uv_timer_stop(&l->timer);
    if (l->state == OPENING)
        return; /* open_done ends it; the pool thread is bounded by the connect time-out, and by what `setup` takes */
    uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}
