/* The table of routes, and what their handlers share. To add an operation: one line in routes.c and its handler. */
#ifndef TIDINGS_HTTP_ROUTES_H
#define TIDINGS_HTTP_ROUTES_H

#include <stddef.h>

#include "core/buf.h"
#include "http/body.h"
#include "http/request.h"
#include "http/router.h"

enum {
    REWARDS_MAX = 100,     /* of a campaign */
    REWARD_RULES_MAX = 10, /* of these, with a threshold */
    THRESHOLD_MAX = 1000000,
    NAME_MAX_CHARS = 200,
    URL_MAX = 1024,
    CODE_MAX_CHARS = 64,
};

extern const struct route routes[];
extern const size_t routes_count;

/* A handler is called when the key was checked and the path's parameters were read. */
void route_create_campaign(struct request *r);
void route_update_campaign(struct request *r);
void route_close_campaign(struct request *r);
void route_delete_campaign(struct request *r);
void route_list_campaigns(struct request *r);
void route_get_campaign(struct request *r);
void route_get_totals(struct request *r);
void route_get_leaderboard(struct request *r);
void route_get_stats(struct request *r);
void route_sign_up(struct request *r);
void route_list_users(struct request *r);
void route_get_user(struct request *r);
void route_list_user_referrals(struct request *r);
void route_list_user_rewards(struct request *r);
void route_list_sagas(struct request *r);
void route_get_referral(struct request *r);
void route_list_rewards(struct request *r);
void route_get_reward(struct request *r);
void route_openapi(struct request *r);
void route_verify_user(struct request *r);
void route_request_verification(struct request *r);
void route_create_referral(struct request *r);
void route_verify_referral(struct request *r);
void route_create_reward(struct request *r);
void route_grant_reward(struct request *r);
void route_verify_page(struct request *r);
void route_verify_link(struct request *r);
void route_list_templates(struct request *r);
void route_get_template(struct request *r);
void route_put_template(struct request *r);
void route_delete_template(struct request *r);
void route_preview_template(struct request *r);
void route_unsubscribe_page(struct request *r);
void route_unsubscribe(struct request *r);
void route_create_webhook(struct request *r);
void route_list_webhooks(struct request *r);
void route_get_webhook(struct request *r);
void route_update_webhook(struct request *r);
void route_delete_webhook(struct request *r);
void route_rotate_webhook_secret(struct request *r);
void route_test_webhook(struct request *r);
void route_list_webhook_deliveries(struct request *r);
void route_get_webhook_delivery(struct request *r);
void route_redeliver_webhook(struct request *r);
void route_list_dead_letters(struct request *r);
void route_get_dead_letter(struct request *r);
void route_retry_dead_letter(struct request *r);
void route_discard_dead_letter(struct request *r);
void route_healthz(struct request *r);
void route_readyz(struct request *r);
void route_metrics(struct request *r);

/* Opens the request's JSON body. */
void route_body(struct request *r, struct body *b);
/* The end of reading it: true when all is well; else answers, clears the body and returns false. */
bool route_body_ends(struct request *r, struct body *b);

/* Reads the member `name`, which must not be blank, and adds it to the action's args. */
void route_add_name(struct body *b, enum body_need need, struct buf *args);

/* For operations that take none: an empty body or {}. False: answered. */
bool route_no_body(struct request *r);

#endif
