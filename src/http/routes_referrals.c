/* Referrals that the account makes or verifies by hand. */
#include "core/members.h"
#include "domain/referral_code.h"
#include "http/answer.h"
#include "http/outcome.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/user_members.h"

/* Who refers: one of two ways to say it. False: the code is nobody's, answered. */
static bool add_referrer(struct request *r, struct body *b, struct buf *args)
{
    struct text code;
    struct uuid referrer;
    uint32_t place = 0;
    bool by_id = body_uuid(b, "referrer_id", BODY_OPTIONAL, &referrer);
    bool by_code = body_text(b, "referral_code", BODY_OPTIONAL, 1, CODE_MAX_CHARS, &code);
    if (by_id == by_code)
        body_fault(b, ERR_INVALID, "referrer_id", "Give either referrer_id or referral_code.");
    if (b->err != ERR_NONE)
        return true;
    if (by_id)
        member_uuid(args, "referrer", referrer);
    else if (referral_code_read(r->http->installation->referral_code_key, r->campaign_id, code.data, code.len, &place))
        member_int(args, "referrer_place", place);
    return by_id || place > 0;
}

static void on_created(struct request *r, struct action *a, const struct action_result *result)
{
    if (result->err == ERR_NONE)
        outcome_location(r, "referrals", result->id);
    outcome_created(r, a, result);
}

void route_create_referral(struct request *r)
{
    struct body b;
    struct buf args = {0};
    struct uuid referred = {{0}};
    if (!installation_known(r))
        return;
    route_body(r, &b);
    members_begin(&args);
    bool known = add_referrer(r, &b, &args);
    members_end(&args);
    body_uuid(&b, "referred_id", BODY_REQUIRED, &referred);
    if (route_body_ends(r, &b)) {
        body_clear(&b);
        if (known) {
            struct action *a = outcome_action(r, ACTION_CREATE_REFERRAL, &args);
            a->subject = referred;
            r->user_in_body = true;
            request_submit(r, a, on_created);
        } else {
            answer_fault(r, ERR_NO_REFERRER, "referral_code", NULL);
        }
    }
    buf_free(&args);
}

void route_verify_referral(struct request *r)
{
    if (!route_no_body(r))
        return;
    struct action *a = outcome_action(r, ACTION_VERIFY_REFERRAL, NULL);
    a->subject = r->referral_id;
    request_submit(r, a, outcome_ok);
}
