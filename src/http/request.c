/* One HTTP request: its guard against a client that is gone, and its waiting for an outcome. */
#include "http/request.h"

#include <h2o.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "http/answer.h"
#include "http/idempotency.h"
#include "http/server.h"
#include "http/url.h"

/* --- life ------------------------------------------------------------------------------------------------------- */

static void unref(struct request *r)
{
    if (--r->refs == 0)
        free(r);
}

static void stop_waiting(struct request *r)
{
    struct http *h = r->http;
    if (!r->waiting)
        return;
    r->waiting = false;
    *(r->older ? &r->older->newer : &h->oldest) = r->newer;
    *(r->newer ? &r->newer->older : &h->newest) = r->older;
}

/* libh2o frees the request: its answer is out, or its connection ended. */
static void on_disposed(void *guard)
{
    struct request *r = *(struct request **)guard;
    if (r->req) {
        stop_waiting(r);
        r->req = NULL;
        log_debug("a client left before its answer", "request_id", r->id, "route", r->route ? r->route->name : "none");
    }
    conn_set_state(r->conn, CONN_READING);
    unref(r);
}

void request_id_of(const h2o_req_t *req, char id[REQUEST_ID_MAX + 1])
{
    ssize_t at = h2o_find_header_by_str(&req->headers, H2O_STRLIT("x-request-id"), -1);
    h2o_iovec_t given = at < 0 ? h2o_iovec_init(NULL, 0) : req->headers.entries[at].value;
    bool good = given.len > 0 && given.len <= REQUEST_ID_MAX;
    for (size_t i = 0; good && i < given.len; i++)
        good = given.base[i] > ' ' && given.base[i] <= '~';
    if (good) {
        memcpy(id, given.base, given.len);
        id[given.len] = '\0';
    } else {
        uuid_format(uuid_v7(), id);
    }
}

struct request *request_begin(struct http *h, h2o_req_t *req)
{
    struct request *r = xmalloc(sizeof *r);
    struct request **guard = h2o_mem_alloc_shared(&req->pool, sizeof *guard, on_disposed);
    *guard = r;
    memset(r, 0, offsetof(struct request, id));
    r->http = h;
    r->req = req;
    r->conn = req->conn->callbacks->get_socket(req->conn)->on_close.data;
    r->started_us = clock_mono_us();
    r->refs = 1;
    conn_set_state(r->conn, CONN_WAITING);
    request_id_of(req, r->id);
    return r;
}

/* --- waiting ---------------------------------------------------------------------------------------------------- */

/* All wait equally long, so the list in order of arrival is the list in order of deadlines. */
void *request_wait(struct request *r, enum err late)
{
    struct http *h = r->http;
    r->refs++;
    r->waiting = true;
    r->late = late;
    r->deadline_us = clock_coarse_us() + h->config->http_answer_timeout_ms * 1000;
    r->newer = NULL;
    r->older = h->newest;
    *(h->newest ? &h->newest->newer : &h->oldest) = r;
    h->newest = r;
    return r;
}

struct request *request_resume(void *arg)
{
    struct request *r = arg;
    bool alive = r->req != NULL;
    if (alive)
        stop_waiting(r);
    unref(r);
    return alive ? r : NULL;
}

void requests_expire(struct http *h, int64_t now_us, bool all)
{
    struct request *r;
    while ((r = h->oldest) && (all || r->deadline_us <= now_us)) {
        stop_waiting(r);
        /* Nothing was changed by what only reads, so at the end it can be said what is the matter. */
        answer_error(r, all && r->late == ERR_TIMEOUT ? ERR_SHUTTING_DOWN : r->late);
    }
}

static void on_outcome(struct action *a, const struct action_result *result)
{
    struct request *r = request_resume(a->arg);
    if (!r)
        return;
    if (result->replayed)
        answer_header(r, "idempotency-replayed", "true");
    r->on_outcome(r, a, result);
}

void request_submit(struct request *r, struct action *a,
                    void (*handler)(struct request *r, struct action *a, const struct action_result *result))
{
    bool post = h2o_memis(r->req->method.base, r->req->method.len, H2O_STRLIT("POST"));
    if (post && r->route->answers == ANSWERS_JSON && !idempotency_read(r, a)) {
        action_free(a);
        return;
    }
    r->on_outcome = handler;
    a->on_done = on_outcome;
    a->arg = request_wait(r, ERR_OUTCOME_UNKNOWN);
    enum err err = lanes_submit(r->http->lanes, a);
    if (err == ERR_NONE)
        return;
    action_free(a);
    answer_error(request_resume(r), err);
}

/* --- what the client sent --------------------------------------------------------------------------------------- */

const char *request_header(const struct request *r, const char *lower_case_name, size_t *len)
{
    ssize_t at = h2o_find_header_by_str(&r->req->headers, lower_case_name, strlen(lower_case_name), -1);
    if (at < 0)
        return NULL;
    const h2o_iovec_t *value = &r->req->headers.entries[at].value;
    *len = value->len;
    return value->base;
}

const char *request_body(const struct request *r, size_t *len)
{
    *len = r->req->entity.base ? r->req->entity.len : 0;
    return r->req->entity.base ? r->req->entity.base : "";
}

const char *request_query(const struct request *r, size_t *len)
{
    const char *path, *query;
    size_t path_len;
    url_split(r->req->input.path.base, r->req->input.path.len, &path, &path_len, &query, len);
    return query;
}
