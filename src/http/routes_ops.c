/* What operators and their machines ask: is it alive, is it ready, how is it doing. No key. */
#include <string.h>

#include "core/members.h"
#include "core/metrics.h"
#include "http/answer.h"
#include "http/routes.h"
#include "http/server.h"

void route_healthz(struct request *r)
{
    struct buf *out = answer_body(r);
    members_begin(out);
    member_string(out, "status", "ok");
    members_end(out);
    answer_json(r, 200, out);
}

/* Appends one element of `waiting`. */
static void on_report(void *to, const char *part, const char *reason)
{
    struct buf *waiting = to;
    if (waiting->len > 0)
        buf_addc(waiting, ',');
    members_begin(waiting);
    member_string(waiting, "part", part);
    member_string(waiting, "reason", reason);
    members_end(waiting);
}

void route_readyz(struct request *r)
{
    struct http *h = r->http;
    struct buf waiting = {0}, *out = answer_body(r);
    h->health(h->health_arg, on_report, &waiting);
    bool ready = waiting.len == 0;
    members_begin(out);
    member_string(out, "status", ready ? "ready" : "not ready");
    if (!ready) {
        buf_adds(out, ",\"waiting\":[");
        buf_add(out, waiting.data, waiting.len);
        buf_addc(out, ']');
        answer_header(r, "retry-after", "1");
    }
    members_end(out);
    buf_free(&waiting);
    answer_json(r, ready ? 200 : 503, out);
}

void route_metrics(struct request *r)
{
    struct buf *out = answer_body(r);
    metrics_render(out);
    answer_send(r, 200, "text/plain; version=0.0.4; charset=utf-8", out);
}
