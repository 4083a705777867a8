/* The processes that serve on one database. */
#include "store/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/uuid.h"
#include "domain/token.h"

enum { EVERY_MS = 5000, RETRY_MS = 500, TOKEN_SECRETS = 16 };

struct hosts {
    struct reader *reader;
    uv_timer_t timer;
    char id[UUID_TEXT_SIZE], name[128], signs[UUID_TEXT_SIZE];
    struct buf accepts;  /* array of UUIDs, as text */
    char differing[256]; /* names that were last said */
    bool waiting, stopping;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
};

static void on_timer(uv_timer_t *timer);

static void on_closed(uv_handle_t *timer)
{
    struct hosts *h = timer->data;
    void (*on_stopped)(void *) = h->on_stopped;
    void *arg = h->stopped_arg;
    buf_free(&h->accepts);
    free(h);
    on_stopped(arg);
}

static void close_if_done(struct hosts *h)
{
    if (h->stopping && !h->waiting && !uv_is_closing((uv_handle_t *)&h->timer))
        uv_close((uv_handle_t *)&h->timer, on_closed);
}

static void compare(struct hosts *h, const PGresult *rows)
{
    char names[sizeof h->differing] = "";
    for (int i = 0; i < PQntuples(rows); i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", PQgetvalue(rows, i, 0));
    }
    metric_gauge(M_SECRET_MISMATCH, PQntuples(rows));
    if (strcmp(names, h->differing) == 0)
        return;
    memcpy(h->differing, names, sizeof names);
    if (names[0])
        log_error("TOKEN_SECRET is not the same on all hosts: verification links that one sends are refused by another",
                  "this", h->name, "others", names);
    else
        log_info("TOKEN_SECRET is the same on all hosts again", "this", h->name);
}

static void on_seen(void *arg, enum err err, const PGresult *rows)
{
    struct hosts *h = arg;
    h->waiting = false;
    if (err == ERR_NONE)
        compare(h, rows);
    if (!h->stopping)
        uv_timer_start(&h->timer, on_timer, err == ERR_NONE ? EVERY_MS : RETRY_MS, 0);
    close_if_done(h);
}

static void on_gone(void *arg, enum err err, const PGresult *rows)
{
    struct hosts *h = arg;
    (void)err, (void)rows; /* if it stays, it ages */
    h->waiting = false;
    close_if_done(h);
}

static void on_timer(uv_timer_t *timer)
{
    struct hosts *h = timer->data;
    const char *const params[] = {h->id, h->name, h->signs, buf_cstr(&h->accepts)};
    h->waiting = reader_submit(h->reader, READ_HOST_SEEN, 4, params, on_seen, h) == ERR_NONE;
    if (!h->waiting)
        uv_timer_start(&h->timer, on_timer, RETRY_MS, 0);
}

struct hosts *hosts_start(uv_loop_t *loop, const struct config *config, struct reader *reader)
{
    struct hosts *h = xcalloc(1, sizeof *h);
    struct uuid secrets[TOKEN_SECRETS];
    char host[64] = "";
    h->reader = reader;
    uuid_format(uuid_v7(), h->id);
    gethostname(host, sizeof host - 1);
    snprintf(h->name, sizeof h->name, "%s:%d", host[0] ? host : "host", (int)getpid());
    size_t count = token_fingerprints(config->token_secret, secrets, TOKEN_SECRETS);
    for (size_t i = 0; i < count; i++) {
        char text[UUID_TEXT_SIZE];
        uuid_format(secrets[i], text);
        buf_printf(&h->accepts, "%c%s", i ? ',' : '{', text);
    }
    buf_adds(&h->accepts, count ? "}" : "{}");
    uuid_format(secrets[0], h->signs);
    uv_timer_init(loop, &h->timer);
    h->timer.data = h;
    uv_timer_start(&h->timer, on_timer, RETRY_MS, 0);
    return h;
}

void hosts_stop(struct hosts *h, void (*on_stopped)(void *arg), void *arg)
{
    h->stopping = true;
    h->on_stopped = on_stopped;
    h->stopped_arg = arg;
    uv_timer_stop(&h->timer);
    const char *const params[] = {h->id};
    if (!h->waiting)
        h->waiting = reader_submit(h->reader, READ_HOST_GONE, 1, params, on_gone, h) == ERR_NONE;
    close_if_done(h);
}
