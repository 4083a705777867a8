/* Answering. */
#include "http/answer.h"

#include <h2o.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "http/page.h"
#include "http/routes.h"
#include "http/server.h"

/* --- metrics ---------------------------------------------------------------------------------------------------- */

enum { STATUSES = 16 };

struct answer_series {
    const char *name;
    struct metric_series *seconds;
    size_t used;
    struct {
        int status;
        struct metric_series *count;
    } statuses[STATUSES];
};

void answers_open(struct http *h)
{
    h->series = xcalloc(routes_count + 1, sizeof *h->series); /* the last is for what has no route */
    for (size_t i = 0; i <= routes_count; i++) {
        h->series[i].name = i < routes_count ? routes[i].name : "none";
        h->series[i].seconds = metric_get(M_HTTP_SECONDS, h->series[i].name, NULL);
    }
}

void answers_close(struct http *h)
{
    free(h->series);
    buf_free(&h->scratch);
    buf_free(&h->link);
}

static struct metric_series *count_of(struct answer_series *s, int status)
{
    char label[16];
    for (size_t i = 0; i < s->used; i++)
        if (s->statuses[i].status == status)
            return s->statuses[i].count;
    snprintf(label, sizeof label, "%d", status);
    struct metric_series *count = metric_get(M_HTTP_REQUESTS, s->name, label);
    if (s->used < STATUSES) {
        s->statuses[s->used].status = status;
        s->statuses[s->used++].count = count;
    }
    return count;
}

void answers_count(struct http *h, const struct request *r, int status, int64_t us)
{
    struct answer_series *s = &h->series[r && r->route ? (size_t)(r->route - routes) : routes_count];
    metric_add(count_of(s, status), 1);
    metric_observe(s->seconds, us);
}

/* What needs a person's eye. A part that is away answers thousands of 503 a second: it is logged once, where it is seen;
 * /readyz says no for good reason. */
static bool deserves_warning(int status, enum err err)
{
    return status >= 500 && err != ERR_NONE &&
           (!err_retriable(err) || err == ERR_OUTCOME_UNKNOWN || err == ERR_TIMEOUT);
}

static void write_log(const struct request *r, int status, enum err err, int64_t us)
{
    enum log_level level = deserves_warning(status, err) ? LOG_WARN : LOG_DEBUG;
    if (!log_enabled(level))
        return;
    char campaign[UUID_TEXT_SIZE], method[16];
    bool has_campaign = !uuid_equal(r->campaign_id, (struct uuid){{0}});
    uuid_format(r->campaign_id, campaign);
    snprintf(method, sizeof method, "%.*s", (int)(r->req->method.len < 15 ? r->req->method.len : 15),
             r->req->method.base);
    log_write(level, status >= 500 ? "request failed" : "request", "request_id", r->id, "method", method, "route",
              r->route ? r->route->name : "none", "status", log_int(status), "error",
              err == ERR_NONE ? NULL : err_name(err), "us", log_int(us), "campaign_id", has_campaign ? campaign : NULL,
              NULL);
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

const char *answer_reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Unknown";
    }
}

struct buf *answer_body(struct request *r)
{
    buf_clear(&r->http->scratch);
    return &r->http->scratch;
}

void answer_header(struct request *r, const char *name, const char *value)
{
    h2o_iovec_t copy = h2o_strdup(&r->req->pool, value, SIZE_MAX);
    h2o_add_header_by_str(&r->req->pool, &r->req->res.headers, name, strlen(name), 1, NULL, copy.base, copy.len);
}

/* A header that libh2o has no token for: it need not look. Neither is copied. */
static void add_header(h2o_req_t *req, const char *name, const char *value, size_t len)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 0, NULL, value, len);
}

void answer_and_close(struct request *r)
{
    r->req->http1_is_persistent = 0;
    conn_linger(r->conn);
}

static void finish(struct request *r, int status, enum err err, const char *content_type, const struct buf *body)
{
    static h2o_generator_t generator = {NULL, NULL};
    struct http *h = r->http;
    h2o_req_t *req = r->req;
    int64_t us = clock_mono_us() - r->started_us;
    bool head = req->method.len == 4 && memcmp(req->method.base, "HEAD", 4) == 0;

    write_log(r, status, err, us);
    answers_count(h, r, status, us);
    req->res.status = status;
    req->res.reason = answer_reason(status);
    if (body) {
        req->res.content_length = body->len;
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, content_type, strlen(content_type));
    }
    add_header(req, "x-request-id", r->id, strlen(r->id)); /* not copied: sent before this returns */
    if (r->api) {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ACCESS_CONTROL_ALLOW_ORIGIN, NULL, H2O_STRLIT("*"));
        add_header(req, "access-control-expose-headers", H2O_STRLIT(EXPOSED_HEADERS));
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    }
    /* libh2o goes on to the next request even when an answer could not be written. */
    if (h->stopping || r->conn->shut)
        req->http1_is_persistent = 0;

    conn_set_state(r->conn, CONN_WRITING);
    r->req = NULL; /* from here on it is libh2o's alone; `r` lives until the guard goes */
    h->answering = true;
    h2o_start_response(req, &generator);
    h->answering = false;
    if (body && body->len > 0 && !head) {
        h2o_iovec_t copy = h2o_strdup(&req->pool, body->data, body->len);
        h2o_send(req, &copy, 1, H2O_SEND_STATE_FINAL);
    } else {
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
    }
}

void answer_send(struct request *r, int status, const char *content_type, const struct buf *body)
{
    finish(r, status, ERR_NONE, content_type, body);
}

void answer_json(struct request *r, int status, const struct buf *body)
{
    finish(r, status, ERR_NONE, "application/json", body);
}

void answer_empty(struct request *r, int status)
{
    finish(r, status, ERR_NONE, NULL, NULL);
}

/* --- problems --------------------------------------------------------------------------------------------------- */

static void problem_headers(struct request *r, enum err err)
{
    int seconds = problem_retry_after(err);
    if (seconds > 0)
        answer_header(r, "retry-after", log_int(seconds));
    if (err == ERR_UNAUTHORIZED)
        answer_header(r, "www-authenticate", "Bearer realm=\"tidings\"");
}

void answer_problem(struct request *r, const struct problem *p)
{
    struct buf *body = answer_body(r);
    const char *type = PROBLEM_TYPE;
    problem_headers(r, p->err);
    if (r->route && r->route->answers == ANSWERS_PAGE) {
        page_problem(r, p, body);
        type = PAGE_TYPE;
    } else {
        problem_render(body, p, r->id);
    }
    finish(r, err_http_status(p->err), p->err, type, body);
}

void answer_error(struct request *r, enum err err)
{
    answer_problem(r, &(struct problem){.err = err});
}

void answer_fault(struct request *r, enum err err, const char *field, const char *detail)
{
    answer_problem(r, &(struct problem){.err = err, .field = field, .detail = detail});
}
