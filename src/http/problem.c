/* Problem details (RFC 9457). */
#include "http/problem.h"

#include "core/members.h"

const char *problem_detail(enum err err)
{
    switch (err) {
    case ERR_OVERLOADED: return "Nothing was done. Try again in a moment.";
    case ERR_DB_UNAVAILABLE: return "Nothing was done. Try again when the database is back.";
    case ERR_SHUTTING_DOWN: return "Nothing was done. Try again: another process may answer.";
    case ERR_OUTCOME_UNKNOWN:
        return "The action may or may not have been done. Under an Idempotency-Key it can be sent again; else look "
               "first.";
    case ERR_TIMEOUT: return "Nothing was changed. Try again in a moment.";
    case ERR_INTERNAL: return "Nothing was done. The server's log has more under this request_id.";
    default: return NULL;
    }
}

int problem_retry_after(enum err err)
{
    return err_http_status(err) == 503 ? 1 : 0;
}

void problem_render(struct buf *out, const struct problem *p, const char *request_id)
{
    const char *detail = p->detail ? p->detail : problem_detail(p->err);
    members_begin(out);
    buf_adds(out, "\"type\":\"urn:tidings:problem:");
    buf_adds(out, err_slug(p->err));
    buf_addc(out, '"');
    member_string(out, "title", err_title(p->err));
    member_int(out, "status", err_http_status(p->err));
    if (detail)
        member_string(out, "detail", detail);
    if (p->field)
        member_string(out, "field", p->field);
    if (request_id)
        member_string(out, "request_id", request_id);
    if (p->extra) {
        buf_addc(out, ',');
        buf_adds(out, p->extra);
    }
    members_end(out);
}
