/* Users of a campaign: sign up, verify, ask for the verification mail again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/members.h"
#include "domain/email_address.h"
#include "domain/referral_code.h"
#include "domain/token.h"
#include "http/answer.h"
#include "http/compact.h"
#include "http/outcome.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/user_members.h"

enum { TOKEN_MAX_CHARS = 256, METADATA_MAX = 4096, SOURCE_MAX_CHARS = 512 };

/* --- sign up ---------------------------------------------------------------------------------------------------- */

struct sign_up {
    struct text email, code;
    char key[2 * EMAIL_MAX]; /* folding can make an address longer */
    size_t key_len;
    struct buf metadata, source; /* JSON text; empty: none */
};

static void read_email(struct body *b, struct sign_up *s)
{
    if (!body_text(b, "email", BODY_REQUIRED, 1, EMAIL_MAX, &s->email))
        return;
    if (email_valid(s->email.data, s->email.len))
        s->key_len = email_key(s->email.data, s->email.len, s->key, sizeof s->key);
    if (s->key_len == 0)
        body_fault(b, ERR_INVALID, "email", "email must be an e-mail address.");
}

static void read_metadata(struct body *b, struct sign_up *s)
{
    json_t *object;
    if (!body_object(b, "metadata", BODY_OPTIONAL, &object))
        return;
    compact_json(&s->metadata, object);
    if (s->metadata.len > METADATA_MAX)
        body_fault(b, ERR_INVALID, "metadata", "metadata must have at most 4096 bytes as compact JSON.");
}

/* Where the visitor came from, as the page's address and referrer said. */
static void read_source(struct body *b, struct sign_up *s)
{
    static const char *const names[] = {"utm_source",  "utm_medium", "utm_campaign", "utm_term",
                                        "utm_content", "referrer",   "landing_page"};
    json_t *object;
    struct body source;
    if (!body_object(b, "source", BODY_OPTIONAL, &object))
        return;
    body_enter(&source, object);
    members_begin(&s->source);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct text value;
        if (body_text(&source, names[i], BODY_OPTIONAL, 0, SOURCE_MAX_CHARS, &value))
            member_text(&s->source, names[i], value.data, value.len);
    }
    members_end(&s->source);
    body_leave(b, "source", &source);
}

static void on_signed_up(struct request *r, struct action *a, const struct action_result *result)
{
    if (result->err != ERR_NONE) {
        outcome_refused(r, result);
        return;
    }
    outcome_location(r, "users", result->id);
    char *landing_url = result->extra.data ? strndup(result->extra.data, result->extra.len) : NULL;
    struct buf *out = answer_body(r);
    members_begin(out);
    member_uuid(out, "user_id", result->id);
    member_uuid(out, "campaign_id", r->campaign_id);
    member_text(out, "email", a->email.data, a->email.len);
    add_referral(r, out, result->place, landing_url);
    member_int(out, "position", result->place); /* nobody was referred yet */
    member_int(out, "version", result->version);
    member_int(out, "events", result->events);
    member_time(out, "created_at", result->at_us);
    members_end(out);
    free(landing_url);
    answer_json(r, 201, out);
}

static struct action *sign_up_action(const struct request *r, const struct sign_up *s, uint32_t referrer_place)
{
    struct action *a = action_new(ACTION_SIGN_UP, s->email.len + s->key_len + s->metadata.len + s->source.len);
    a->account_no = r->key.account_no;
    a->account_id = r->key.account_id;
    a->campaign_id = r->campaign_id;
    a->referrer_place = referrer_place;
    a->email = action_text(a, s->email.data, s->email.len);
    a->email_key = action_text(a, s->key, s->key_len);
    a->metadata = action_text(a, s->metadata.data, s->metadata.len); /* absent when there is none */
    a->source = action_text(a, s->source.data, s->source.len);
    return a;
}

void route_sign_up(struct request *r)
{
    struct body b;
    struct sign_up s = {.key_len = 0};
    uint32_t referrer = 0;
    if (!installation_known(r))
        return;
    route_body(r, &b);
    read_email(&b, &s);
    bool referred = body_text(&b, "referral_code", BODY_OPTIONAL, 0, CODE_MAX_CHARS, &s.code);
    read_metadata(&b, &s);
    read_source(&b, &s);
    if (route_body_ends(r, &b)) {
        if (referred && !referral_code_read(r->http->installation->referral_code_key, r->campaign_id, s.code.data,
                                            s.code.len, &referrer))
            answer_fault(r, ERR_NO_REFERRER, "referral_code", NULL);
        else
            request_submit(r, sign_up_action(r, &s, referrer), on_signed_up);
        body_clear(&b);
    }
    buf_free(&s.metadata);
    buf_free(&s.source);
}

/* --- verify ----------------------------------------------------------------------------------------------------- */

static void on_verified(struct request *r, struct action *a, const struct action_result *result)
{
    (void)a;
    if (result->err != ERR_NONE) {
        outcome_refused(r, result);
        return;
    }
    struct buf *out = answer_body(r);
    members_begin(out);
    member_uuid(out, "user_id", r->user_id);
    member_uuid(out, "campaign_id", r->campaign_id);
    member_bool(out, "verified", true);
    member_int(out, "version", result->version);
    member_int(out, "events", result->events);
    members_end(out);
    answer_json(r, 200, out);
}

void route_verify_user(struct request *r)
{
    struct body b;
    struct text token;
    struct uuid campaign, user;
    route_body(r, &b);
    body_text(&b, "token", BODY_REQUIRED, 1, TOKEN_MAX_CHARS, &token);
    if (!route_body_ends(r, &b))
        return;
    enum err err =
        token_read(r->http->config->token_secret, token.data, token.len, clock_wall_us() / 1000000, &campaign, &user);
    bool ours = err == ERR_NONE && uuid_equal(campaign, r->campaign_id) && uuid_equal(user, r->user_id);
    body_clear(&b);
    if (!ours) {
        answer_fault(r, err == ERR_NONE ? ERR_BAD_TOKEN : err, "token",
                     err == ERR_NONE ? "The token is another user's." : NULL);
        return;
    }
    struct action *a = action_new(ACTION_VERIFY, 0);
    a->account_no = r->key.account_no;
    a->account_id = r->key.account_id;
    a->campaign_id = campaign;
    a->subject = user;
    request_submit(r, a, on_verified);
}

/* --- verification mail ------------------------------------------------------------------------------------------ */

static void on_requested(struct request *r, struct action *a, const struct action_result *result)
{
    (void)a;
    if (result->err == ERR_NONE)
        outcome_done(r, 202, result);
    else
        outcome_refused(r, result);
}

void route_request_verification(struct request *r)
{
    struct buf args = {0};
    if (!route_no_body(r))
        return;
    members_begin(&args);
    member_int(&args, "interval_s", r->http->config->verify_resend_s);
    member_int(&args, "per_day", r->http->config->verify_resend_per_day);
    members_end(&args);
    struct action *a = outcome_action(r, ACTION_REQUEST_VERIFICATION, &args);
    a->subject = r->user_id;
    request_submit(r, a, on_requested);
    buf_free(&args);
}
