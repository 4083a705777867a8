/* The table of routes. */
#include "http/routes.h"

#include <stdlib.h>

#include "http/answer.h"

#define CAMPAIGN "/v1/campaigns/{campaign_id}"
#define USER CAMPAIGN "/users/{user_id}"

/* clang-format off */
const struct route routes[] = {
    /* method  pattern               name in metrics    access          errors        handler */
    {"POST",   "/v1/campaigns",      "create_campaign", ACCESS_SECRET,  ANSWERS_JSON, route_create_campaign},
    {"GET",    CAMPAIGN,             "get_campaign",    ACCESS_SECRET,  ANSWERS_JSON, route_get_campaign},
    {"POST",   CAMPAIGN "/users",    "sign_up",         ACCESS_ANY_KEY, ANSWERS_JSON, route_sign_up},
    {"GET",    USER,                 "get_user",        ACCESS_ANY_KEY, ANSWERS_JSON, route_get_user},
    {"POST",   USER "/verify",       "verify_user",     ACCESS_ANY_KEY, ANSWERS_JSON, route_verify_user},
    {"GET",    "/v1/verify",         "verify_page",     ACCESS_OPEN,    ANSWERS_PAGE, route_verify_page},
    {"POST",   "/v1/verify",         "verify_link",     ACCESS_OPEN,    ANSWERS_PAGE, route_verify_link},
    {"GET",    "/healthz",           "healthz",         ACCESS_OPEN,    ANSWERS_JSON, route_healthz},
    {"GET",    "/readyz",            "readyz",          ACCESS_OPEN,    ANSWERS_JSON, route_readyz},
    {"GET",    "/metrics",           "metrics",         ACCESS_OPEN,    ANSWERS_JSON, route_metrics},
};
/* clang-format on */

const size_t routes_count = sizeof routes / sizeof routes[0];

void route_body(struct request *r, struct body *b)
{
    size_t type_len = 0, len;
    const char *type = request_header(r, "content-type", &type_len), *data = request_body(r, &len);
    body_open(b, type, type_len, data, len);
}

bool route_body_ends(struct request *r, struct body *b)
{
    if (body_end(b))
        return true;
    answer_fault(r, b->err, b->field[0] ? b->field : NULL, b->detail);
    body_clear(b);
    return false;
}

int64_t row_int(const PGresult *rows, int column)
{
    return PQgetisnull(rows, 0, column) ? 0 : strtoll(PQgetvalue(rows, 0, column), NULL, 10);
}

const char *row_text(const PGresult *rows, int column)
{
    return PQgetisnull(rows, 0, column) ? NULL : PQgetvalue(rows, 0, column);
}
