/* The table of routes. */
#include "http/routes.h"

#include <string.h>

#include "core/members.h"
#include "http/answer.h"

#define CAMPAIGN "/v1/campaigns/{campaign_id}"
#define USER CAMPAIGN "/users/{user_id}"
#define TEMPLATE CAMPAIGN "/templates/{template}"
#define WEBHOOK "/v1/webhooks/{webhook_id}"
#define DEAD_LETTERS "/v1/ops/dead-letters"
#define DEAD_LETTER DEAD_LETTERS "/{dead_letter_id}"

/* clang-format off */
const struct route routes[] = {
    /* method  pattern                                   name in metrics         access          errors        handler */
    {"POST",   "/v1/campaigns",                          "create_campaign",      ACCESS_SECRET,  ANSWERS_JSON, route_create_campaign},
    {"GET",    "/v1/campaigns",                          "list_campaigns",       ACCESS_SECRET,  ANSWERS_JSON, route_list_campaigns},
    {"GET",    CAMPAIGN,                                 "get_campaign",         ACCESS_SECRET,  ANSWERS_JSON, route_get_campaign},
    {"PATCH",  CAMPAIGN,                                 "update_campaign",      ACCESS_SECRET,  ANSWERS_JSON, route_update_campaign},
    {"POST",   CAMPAIGN "/close",                        "close_campaign",       ACCESS_SECRET,  ANSWERS_JSON, route_close_campaign},
    {"DELETE", CAMPAIGN,                                 "delete_campaign",      ACCESS_SECRET,  ANSWERS_JSON, route_delete_campaign},
    {"GET",    CAMPAIGN "/totals",                       "get_totals",           ACCESS_SECRET,  ANSWERS_JSON, route_get_totals},
    {"GET",    CAMPAIGN "/stats",                        "get_stats",            ACCESS_SECRET,  ANSWERS_JSON, route_get_stats},
    {"GET",    CAMPAIGN "/leaderboard",                  "get_leaderboard",      ACCESS_ANY_KEY, ANSWERS_JSON, route_get_leaderboard},
    {"POST",   CAMPAIGN "/users",                        "sign_up",              ACCESS_ANY_KEY, ANSWERS_JSON, route_sign_up},
    {"GET",    CAMPAIGN "/users",                        "list_users",           ACCESS_SECRET,  ANSWERS_JSON, route_list_users},
    {"GET",    USER,                                     "get_user",             ACCESS_ANY_KEY, ANSWERS_JSON, route_get_user},
    {"POST",   USER "/verify",                           "verify_user",          ACCESS_ANY_KEY, ANSWERS_JSON, route_verify_user},
    {"POST",   USER "/resend-verification",              "request_verification", ACCESS_ANY_KEY, ANSWERS_JSON, route_request_verification},
    {"GET",    "/v1/verify",                             "verify_page",          ACCESS_OPEN,    ANSWERS_PAGE, route_verify_page},
    {"POST",   "/v1/verify",                             "verify_link",          ACCESS_OPEN,    ANSWERS_PAGE, route_verify_link},
    {"POST",   CAMPAIGN "/referrals",                    "create_referral",      ACCESS_SECRET,  ANSWERS_JSON, route_create_referral},
    {"GET",    CAMPAIGN "/referrals/{referral_id}",      "get_referral",         ACCESS_SECRET,  ANSWERS_JSON, route_get_referral},
    {"POST",   CAMPAIGN "/referrals/{referral_id}/verify", "verify_referral",      ACCESS_SECRET,  ANSWERS_JSON, route_verify_referral},
    {"GET",    USER "/referrals",                        "list_user_referrals",  ACCESS_SECRET,  ANSWERS_JSON, route_list_user_referrals},
    {"POST",   CAMPAIGN "/rewards",                      "create_reward",        ACCESS_SECRET,  ANSWERS_JSON, route_create_reward},
    {"GET",    CAMPAIGN "/rewards",                      "list_rewards",         ACCESS_SECRET,  ANSWERS_JSON, route_list_rewards},
    {"GET",    CAMPAIGN "/rewards/{reward_id}",          "get_reward",           ACCESS_SECRET,  ANSWERS_JSON, route_get_reward},
    {"POST",   USER "/rewards",                          "grant_reward",         ACCESS_SECRET,  ANSWERS_JSON, route_grant_reward},
    {"GET",    USER "/rewards",                          "list_user_rewards",    ACCESS_ANY_KEY, ANSWERS_JSON, route_list_user_rewards},
    {"GET",    CAMPAIGN "/sagas",                        "list_sagas",           ACCESS_SECRET,  ANSWERS_JSON, route_list_sagas},
    {"GET",    CAMPAIGN "/templates",                    "list_templates",       ACCESS_SECRET,  ANSWERS_JSON, route_list_templates},
    {"GET",    TEMPLATE,                                 "get_template",         ACCESS_SECRET,  ANSWERS_JSON, route_get_template},
    {"PUT",    TEMPLATE,                                 "put_template",         ACCESS_SECRET,  ANSWERS_JSON, route_put_template},
    {"DELETE", TEMPLATE,                                 "delete_template",      ACCESS_SECRET,  ANSWERS_JSON, route_delete_template},
    {"POST",   TEMPLATE "/preview",                      "preview_template",     ACCESS_SECRET,  ANSWERS_JSON, route_preview_template},
    {"GET",    "/v1/unsubscribe",                        "unsubscribe_page",     ACCESS_OPEN,    ANSWERS_PAGE, route_unsubscribe_page},
    {"POST",   "/v1/unsubscribe",                        "unsubscribe",          ACCESS_OPEN,    ANSWERS_PAGE, route_unsubscribe},
    {"POST",   "/v1/webhooks",                           "create_webhook",       ACCESS_SECRET,  ANSWERS_JSON, route_create_webhook},
    {"GET",    "/v1/webhooks",                           "list_webhooks",        ACCESS_SECRET,  ANSWERS_JSON, route_list_webhooks},
    {"GET",    WEBHOOK,                                  "get_webhook",          ACCESS_SECRET,  ANSWERS_JSON, route_get_webhook},
    {"PATCH",  WEBHOOK,                                  "update_webhook",       ACCESS_SECRET,  ANSWERS_JSON, route_update_webhook},
    {"DELETE", WEBHOOK,                                  "delete_webhook",       ACCESS_SECRET,  ANSWERS_JSON, route_delete_webhook},
    {"POST",   WEBHOOK "/rotate-secret",                 "rotate_webhook_secret", ACCESS_SECRET, ANSWERS_JSON, route_rotate_webhook_secret},
    {"POST",   WEBHOOK "/test",                          "test_webhook",         ACCESS_SECRET,  ANSWERS_JSON, route_test_webhook},
    {"GET",    WEBHOOK "/deliveries",                    "list_webhook_deliveries", ACCESS_SECRET, ANSWERS_JSON, route_list_webhook_deliveries},
    {"GET",    WEBHOOK "/deliveries/{delivery_id}",      "get_webhook_delivery", ACCESS_SECRET,  ANSWERS_JSON, route_get_webhook_delivery},
    {"POST",   WEBHOOK "/deliveries/{delivery_id}/redeliver", "redeliver_webhook", ACCESS_SECRET, ANSWERS_JSON, route_redeliver_webhook},
    {"GET",    DEAD_LETTERS,                             "list_dead_letters",    ACCESS_OPS,     ANSWERS_JSON, route_list_dead_letters},
    {"GET",    DEAD_LETTER,                              "get_dead_letter",      ACCESS_OPS,     ANSWERS_JSON, route_get_dead_letter},
    {"DELETE", DEAD_LETTER,                              "discard_dead_letter",  ACCESS_OPS,     ANSWERS_JSON, route_discard_dead_letter},
    {"POST",   DEAD_LETTER "/retry",                     "retry_dead_letter",    ACCESS_OPS,     ANSWERS_JSON, route_retry_dead_letter},
    {"GET",    "/openapi.yaml",                          "openapi",              ACCESS_OPEN,    ANSWERS_JSON, route_openapi},
    {"GET",    "/healthz",                               "healthz",              ACCESS_OPEN,    ANSWERS_JSON, route_healthz},
    {"GET",    "/readyz",                                "readyz",               ACCESS_OPEN,    ANSWERS_JSON, route_readyz},
    {"GET",    "/metrics",                               "metrics",              ACCESS_OPEN,    ANSWERS_JSON, route_metrics},
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

void route_add_name(struct body *b, enum body_need need, struct buf *args)
{
    struct text name;
    if (!body_text(b, "name", need, 1, NAME_MAX_CHARS, &name))
        return;
    if (strspn(name.data, " ") == name.len)
        body_fault(b, ERR_INVALID, "name", "name must not be blank.");
    member_text(args, "name", name.data, name.len);
}

bool route_no_body(struct request *r)
{
    struct body b;
    size_t len;
    request_body(r, &len);
    if (len == 0)
        return true;
    route_body(r, &b);
    bool ok = route_body_ends(r, &b);
    if (ok)
        body_clear(&b);
    return ok;
}
