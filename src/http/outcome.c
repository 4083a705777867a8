/* What became of an action, as an answer. */
#include "http/outcome.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/members.h"
#include "http/answer.h"

struct action *outcome_action(const struct request *r, enum action_kind kind, const struct buf *args)
{
    struct action *a = action_new(kind, args ? args->len : 0);
    a->account_no = r->key.account_no;
    a->account_id = r->key.account_id;
    if (kind != ACTION_CREATE_CAMPAIGN)
        a->campaign_id = r->campaign_id;
    if (args)
        a->args = action_text(a, args->data, args->len);
    return a;
}

/* The member at fault, and the name under which the answer gives the id of what is in the way. */
static const struct refused {
    enum err err;
    const char *field, *id;
} refused[] = {
    {ERR_EMAIL_TAKEN, "email", "user_id"},
    {ERR_NO_REFERRER, "referral_code", NULL},
    {ERR_HAS_REFERRER, "referred_id", "referral_id"},
    {ERR_SELF_REFERRAL, "referred_id", NULL},
    {ERR_ALREADY_EARNED, "reward_id", "user_reward_id"},
    {ERR_NO_REWARD, "reward_id", NULL},
    {ERR_OUT_OF_STOCK, "reward_id", NULL},
    {ERR_VERSION_CONFLICT, "expected_version", NULL},
    {ERR_KEY_REUSED, "Idempotency-Key", NULL},
};

void outcome_refused(struct request *r, const struct action_result *result)
{
    char extra[80], id[UUID_TEXT_SIZE], seconds[16];
    struct problem p = {.err = result->err};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (refused[i].err != result->err)
            continue;
        p.field = refused[i].field;
        if (refused[i].id) {
            uuid_format(result->id, id);
            snprintf(extra, sizeof extra, "\"%s\":\"%s\"", refused[i].id, id);
            p.extra = extra;
        }
    }
    if (result->err == ERR_VERSION_CONFLICT) {
        snprintf(extra, sizeof extra, "\"version\":%" PRId64, result->version);
        p.extra = extra;
    }
    if (result->err == ERR_NO_USER && r->user_in_body)
        p.field = result->place == 1 ? "referrer_id" : "referred_id";
    if (result->err == ERR_LIMIT_REACHED)
        p.field = result->place == 1 ? "threshold" : NULL;
    if (r->rules_in_body && (result->err == ERR_LIMIT_REACHED || result->err == ERR_NO_REWARD))
        p.field = "reward_rules";
    if (result->err == ERR_TOO_SOON) {
        snprintf(seconds, sizeof seconds, "%" PRIu32, result->place);
        answer_header(r, "retry-after", seconds);
    }
    answer_problem(r, &p);
}

void outcome_done(struct request *r, int status, const struct action_result *result)
{
    struct buf *out = answer_body(r);
    buf_add(out, result->extra.data, result->extra.len - 1); /* without its closing brace */
    member_int(out, "version", result->version);
    member_int(out, "events", result->events);
    members_end(out);
    answer_json(r, status, out);
}

void outcome_location(struct request *r, const char *collection, struct uuid id)
{
    char campaign[UUID_TEXT_SIZE], item[UUID_TEXT_SIZE];
    struct buf *location = answer_body(r); /* empty again when the body is begun */
    buf_adds(location, "/v1/campaigns/");
    uuid_format(collection ? r->campaign_id : id, campaign);
    buf_add(location, campaign, UUID_TEXT_SIZE - 1);
    if (collection) {
        buf_addc(location, '/');
        buf_adds(location, collection);
        buf_addc(location, '/');
        uuid_format(id, item);
        buf_add(location, item, UUID_TEXT_SIZE - 1);
    }
    answer_header(r, "location", buf_cstr(location));
}

static void answer(struct request *r, int status, const struct action_result *result)
{
    if (result->err == ERR_NONE && result->extra.len > 0)
        outcome_done(r, status, result);
    else if (result->err == ERR_NONE)
        answer_error(r, ERR_INTERNAL); /* a function that forgot its answer */
    else
        outcome_refused(r, result);
}

void outcome_ok(struct request *r, struct action *a, const struct action_result *result)
{
    (void)a;
    answer(r, 200, result);
}

void outcome_created(struct request *r, struct action *a, const struct action_result *result)
{
    (void)a;
    answer(r, 201, result);
}
