/* libh2o's own errors, turned into problem+json. */
#include "http/refusal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "http/answer.h"
#include "http/server.h"

struct body_stream {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

/* Sends our body in the place of libh2o's (which comes in one piece, or not at all for HEAD). */
static void send_body(h2o_ostream_t *super, h2o_req_t *req, h2o_iovec_t *given, size_t count, h2o_send_state_t state)
{
    struct body_stream *s = (struct body_stream *)super;
    (void)given;
    h2o_ostream_send_next(super, req, &s->body, count > 0 ? 1 : 0, state);
}

static h2o_iovec_t render(struct http *h, h2o_req_t *req, enum err err, const char *request_id)
{
    char limit[80];
    snprintf(limit, sizeof limit, "The body may have at most %" PRId64 " bytes.", h->config->http_max_body);
    struct problem p = {.err = err, .detail = "The headers or chunks that frame the body are broken."};
    if (err == ERR_TOO_LARGE)
        p.detail = limit;
    else if (req->res.status == 417)
        p.detail = "The Expect header asks for something else than 100-continue.";
    buf_clear(&h->scratch);
    problem_render(&h->scratch, &p, request_id);
    return h2o_strdup(&req->pool, h->scratch.data, h->scratch.len);
}

static void refuse(struct http *h, h2o_req_t *req, h2o_ostream_t **slot)
{
    enum err err = req->res.status == 413 ? ERR_TOO_LARGE : req->res.status >= 500 ? ERR_INTERNAL : ERR_MALFORMED;
    struct conn *conn = req->conn->callbacks->get_socket(req->conn)->on_close.data;
    char *id = h2o_mem_alloc_pool(&req->pool, REQUEST_ID_MAX + 1);
    request_id_of(req, id);
    struct body_stream *s = (struct body_stream *)h2o_add_ostream(req, sizeof *s, slot);
    s->super.do_send = send_body;
    s->body = render(h, req, err, id);

    req->res.status = err_http_status(err);
    req->res.reason = answer_reason(req->res.status);
    req->res.content_length = s->body.len;
    memset(&req->res.headers, 0, sizeof req->res.headers);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT(PROBLEM_TYPE));
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("x-request-id"), 0, NULL, id, strlen(id));
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ACCESS_CONTROL_ALLOW_ORIGIN, NULL, H2O_STRLIT("*"));
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("access-control-expose-headers"), 0, NULL,
                          H2O_STRLIT(EXPOSED_HEADERS));
    req->http1_is_persistent = 0;
    answers_count(h, NULL, req->res.status, 0);
    log_debug("request refused", "request_id", id, "status", log_int(req->res.status), "error", err_name(err));
    conn_set_state(conn, CONN_WRITING);
    conn_linger(conn);
}

static void on_setup_ostream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct http *h = *(struct http **)(self + 1);
    if (!h->answering) {
        refuse(h, req, slot);
        slot = &(*slot)->next;
    }
    h2o_setup_next_ostream(req, slot);
}

void refusal_install(struct http *h, h2o_pathconf_t *everything)
{
    h2o_filter_t *filter = h2o_create_filter(everything, sizeof *filter + sizeof h);
    *(struct http **)(filter + 1) = h;
    filter->on_setup_ostream = on_setup_ostream;
}
