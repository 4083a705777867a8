/* Campaigns: create, change, close, delete. */
#include <stdio.h>
#include <string.h>

#include "core/members.h"
#include "http/answer.h"
#include "http/outcome.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/url.h"

enum {
    POINTS_MAX = 1000000,
    MILESTONES_MAX = 50,
    MILESTONE_MAX = 1000000000,
};

static const char default_milestones[] = "[100,1000,10000,100000,1000000,10000000,100000000,1000000000]";

/* --- settings --------------------------------------------------------------------------------------------------- */

static void add_points(struct body *b, struct buf *args)
{
    int64_t points;
    if (body_int(b, "points_per_referral", BODY_OPTIONAL, 0, POINTS_MAX, &points))
        member_int(args, "points_per_referral", points);
}

static void add_landing_url(struct body *b, struct buf *args)
{
    struct text url;
    bool cleared = body_null(b, "landing_url");
    if (body_text(b, "landing_url", BODY_OPTIONAL, 1, URL_MAX, &url) && !url_is_web(url.data, url.len))
        body_fault(b, ERR_INVALID, "landing_url", "landing_url must be a complete http or https address.");
    if (url.data || cleared)
        member_text(args, "landing_url", url.data, url.len);
}

static void add_milestones(struct body *b, struct buf *args)
{
    json_t *list, *element;
    size_t i;
    int64_t last = 0;
    if (!body_array(b, "milestones", BODY_OPTIONAL, MILESTONES_MAX, &list))
        return;
    member_json(args, "milestones", "[");
    json_array_foreach(list, i, element)
    {
        int64_t value = json_is_integer(element) ? json_integer_value(element) : 0;
        char detail[120];
        snprintf(detail, sizeof detail,
                 "milestones must be integers from 1 to %d, each greater than the one before: see element %zu.",
                 MILESTONE_MAX, i);
        if (value <= last || value > MILESTONE_MAX) {
            body_fault(b, ERR_INVALID, "milestones", detail);
            return;
        }
        if (i > 0)
            buf_addc(args, ',');
        buf_add_int(args, value);
        last = value;
    }
    buf_addc(args, ']');
}

/* --- create ----------------------------------------------------------------------------------------------------- */

static void on_created(struct request *r, struct action *a, const struct action_result *result)
{
    if (result->err == ERR_NONE) {
        r->campaign_id = result->id;
        outcome_location(r, NULL, result->id);
    }
    outcome_created(r, a, result);
}

void route_create_campaign(struct request *r)
{
    struct body b;
    struct buf args = {0};
    route_body(r, &b);
    members_begin(&args);
    route_add_name(&b, BODY_REQUIRED, &args);
    if (b.err == ERR_NONE && !json_is_integer(json_object_get(b.root, "points_per_referral")))
        member_int(&args, "points_per_referral", 1);
    add_points(&b, &args);
    if (b.err == ERR_NONE && !json_is_array(json_object_get(b.root, "milestones")))
        member_json(&args, "milestones", default_milestones);
    add_milestones(&b, &args);
    add_landing_url(&b, &args);
    members_end(&args);
    if (route_body_ends(r, &b)) {
        body_clear(&b);
        request_submit(r, outcome_action(r, ACTION_CREATE_CAMPAIGN, &args), on_created);
    }
    buf_free(&args);
}

/* --- change ----------------------------------------------------------------------------------------------------- */

static void add_rule(struct body *b, size_t i, json_t *element, struct buf *args)
{
    struct body rule;
    struct uuid reward = {{0}};
    int64_t threshold = 0;
    char name[40];
    snprintf(name, sizeof name, "reward_rules[%zu]", i);
    if (!json_is_object(element)) {
        body_fault(b, ERR_INVALID, name, "Each of reward_rules must be an object.");
        return;
    }
    body_enter(&rule, element);
    body_uuid(&rule, "reward_id", BODY_REQUIRED, &reward);
    bool none = body_null(&rule, "threshold");
    bool given = body_int(&rule, "threshold", BODY_OPTIONAL, 1, THRESHOLD_MAX, &threshold);
    if (!none && !given)
        body_fault(&rule, ERR_INVALID, "threshold", "threshold is required; null takes the rule away.");
    body_leave(b, name, &rule);
    if (i > 0)
        buf_addc(args, ',');
    members_begin(args);
    member_uuid(args, "reward_id", reward);
    if (given)
        member_int(args, "threshold", threshold);
    else
        member_json(args, "threshold", NULL);
    members_end(args);
}

static bool same_reward(const json_t *a, const json_t *b)
{
    const char *x = json_string_value(json_object_get(a, "reward_id")),
               *y = json_string_value(json_object_get(b, "reward_id"));
    return x && y && strcasecmp(x, y) == 0;
}

static void add_reward_rules(struct body *b, struct buf *args)
{
    json_t *list, *element;
    size_t i;
    if (!body_array(b, "reward_rules", BODY_OPTIONAL, REWARDS_MAX, &list))
        return;
    member_json(args, "reward_rules", "[");
    json_array_foreach(list, i, element)
    {
        for (size_t k = 0; k < i; k++)
            if (same_reward(element, json_array_get(list, k)))
                body_fault(b, ERR_INVALID, "reward_rules", "reward_rules must name each reward once.");
        add_rule(b, i, element, args);
    }
    buf_addc(args, ']');
    member_int(args, "max_rules", REWARD_RULES_MAX);
}

void route_update_campaign(struct request *r)
{
    struct body b;
    struct buf args = {0};
    int64_t version;
    route_body(r, &b);
    members_begin(&args);
    route_add_name(&b, BODY_OPTIONAL, &args);
    add_points(&b, &args);
    add_milestones(&b, &args);
    add_landing_url(&b, &args);
    add_reward_rules(&b, &args);
    if (body_int(&b, "expected_version", BODY_OPTIONAL, 1, INT64_MAX, &version))
        member_int(&args, "expected_version", version);
    members_end(&args);
    if (route_body_ends(r, &b)) {
        body_clear(&b);
        r->rules_in_body = true;
        request_submit(r, outcome_action(r, ACTION_UPDATE_CAMPAIGN, &args), outcome_ok);
    }
    buf_free(&args);
}

/* --- close, delete ---------------------------------------------------------------------------------------------- */

void route_close_campaign(struct request *r)
{
    if (route_no_body(r))
        request_submit(r, outcome_action(r, ACTION_CLOSE_CAMPAIGN, NULL), outcome_ok);
}

void route_delete_campaign(struct request *r)
{
    request_submit(r, outcome_action(r, ACTION_DELETE_CAMPAIGN, NULL), outcome_ok);
}
