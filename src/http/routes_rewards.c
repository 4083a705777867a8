/* Rewards: define, grant. */
#include <string.h>

#include "core/members.h"
#include "http/answer.h"
#include "http/outcome.h"
#include "http/routes.h"
#include "http/url.h"
#include "http/webhook_secret.h"

enum {
    MESSAGE_MAX_CHARS = 2000,
    STOCK_MAX = 1000000000,
};

/* Where a webhook goes and what signs it. */
static void add_webhook(struct body *b, bool webhook, struct buf *args)
{
    struct text url, secret;
    char made[WEBHOOK_SECRET_SIZE];
    bool has_url = body_text(b, "url", BODY_OPTIONAL, 1, URL_MAX, &url);
    bool has_secret = body_text(b, "secret", BODY_OPTIONAL, 1, WEBHOOK_SECRET_SIZE, &secret);
    if (webhook && !has_url)
        body_fault(b, ERR_INVALID, "url", "url is required: the webhook's target.");
    else if (has_url && !webhook)
        body_fault(b, ERR_INVALID, "url", "url is for webhooks only.");
    else if (has_url && !url_is_web(url.data, url.len))
        body_fault(b, ERR_INVALID, "url", "url must be a complete http or https address.");
    else if (has_secret && !webhook)
        body_fault(b, ERR_INVALID, "secret", "secret is for webhooks only.");
    else if (has_secret && !webhook_secret_valid(secret))
        body_fault(b, ERR_INVALID, "secret", "secret must be whsec_ and the base64 of 24 to 64 bytes.");
    if (!webhook || b->err != ERR_NONE)
        return;
    member_text(args, "url", url.data, url.len);
    if (has_secret) {
        member_text(args, "secret", secret.data, secret.len);
    } else {
        webhook_secret_make(made);
        member_string(args, "secret", made);
    }
}

static void add_delivery(struct body *b, struct buf *args)
{
    struct text delivery;
    body_text(b, "delivery", BODY_REQUIRED, 1, 16, &delivery);
    bool webhook = delivery.data && strcmp(delivery.data, "webhook") == 0;
    if (delivery.data && !webhook && strcmp(delivery.data, "email") != 0)
        body_fault(b, ERR_INVALID, "delivery", "delivery must be email or webhook.");
    member_string(args, "delivery", webhook ? "webhook" : "email");
    add_webhook(b, webhook, args);
}

static void add_optional_int(struct body *b, const char *name, int64_t max, struct buf *args)
{
    int64_t value;
    if (body_int(b, name, BODY_OPTIONAL, 1, max, &value))
        member_int(args, name, value);
}

static void on_created(struct request *r, struct action *a, const struct action_result *result)
{
    if (result->err == ERR_NONE)
        outcome_location(r, "rewards", result->id);
    outcome_created(r, a, result);
}

void route_create_reward(struct request *r)
{
    struct body b;
    struct buf args = {0};
    struct text message;
    route_body(r, &b);
    members_begin(&args);
    route_add_name(&b, BODY_REQUIRED, &args);
    add_delivery(&b, &args);
    if (body_lines(&b, "message", BODY_OPTIONAL, 1, MESSAGE_MAX_CHARS, &message))
        member_text(&args, "message", message.data, message.len);
    add_optional_int(&b, "stock", STOCK_MAX, &args);
    add_optional_int(&b, "threshold", THRESHOLD_MAX, &args);
    member_int(&args, "max_rewards", REWARDS_MAX);
    member_int(&args, "max_rules", REWARD_RULES_MAX);
    members_end(&args);
    if (route_body_ends(r, &b)) {
        body_clear(&b);
        request_submit(r, outcome_action(r, ACTION_CREATE_REWARD, &args), on_created);
    }
    buf_free(&args);
}

void route_grant_reward(struct request *r)
{
    struct body b;
    struct buf args = {0};
    struct uuid reward = {{0}};
    route_body(r, &b);
    body_uuid(&b, "reward_id", BODY_REQUIRED, &reward);
    members_begin(&args);
    member_uuid(&args, "reward", reward);
    members_end(&args);
    if (route_body_ends(r, &b)) {
        body_clear(&b);
        struct action *a = outcome_action(r, ACTION_GRANT_REWARD, &args);
        a->subject = r->user_id;
        request_submit(r, a, outcome_created);
    }
    buf_free(&args);
}
