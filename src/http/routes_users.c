/* Users of a campaign: sign up, get, verify. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "domain/email_address.h"
#include "domain/referral_code.h"
#include "domain/referral_link.h"
#include "domain/token.h"
#include "http/answer.h"
#include "http/compact.h"
#include "http/members.h"
#include "http/routes.h"
#include "http/server.h"

enum { CODE_MAX_CHARS = 64, TOKEN_MAX_CHARS = 256, METADATA_MAX = 4096 };

/* The members that say how a user refers others. */
static void add_referral(struct request *r, struct buf *out, uint32_t place, const char *landing_url)
{
    char code[REFERRAL_CODE_SIZE];
    struct buf link = {0};
    referral_code_make(r->http->installation->referral_code_key, r->campaign_id, place, code);
    referral_link(r->http->config->public_url, landing_url, code, &link);
    member_string(out, "referral_code", code);
    member_text(out, "referral_link", link.data, link.len);
    buf_free(&link);
}

/* Codes and places cannot be told before the installation is known. */
static bool installation_known(struct request *r)
{
    if (r->http->installation->shards > 0)
        return true;
    answer_error(r, ERR_DB_UNAVAILABLE);
    return false;
}

/* --- sign up ---------------------------------------------------------------------------------------------------- */

struct sign_up {
    struct text email, code;
    char key[2 * EMAIL_MAX]; /* folding can make an address longer */
    size_t key_len;
    struct buf metadata; /* JSON text; empty: none */
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

static void on_signed_up(struct action *a, const struct action_result *result)
{
    struct request *r = request_resume(a->arg);
    if (!r)
        return;
    if (result->err == ERR_EMAIL_TAKEN) {
        char id[UUID_TEXT_SIZE], extra[64];
        uuid_format(result->id, id);
        snprintf(extra, sizeof extra, "\"user_id\":\"%s\"", id);
        answer_problem(r, &(struct problem){.err = result->err, .field = "email", .extra = extra});
        return;
    }
    if (result->err != ERR_NONE) {
        answer_fault(r, result->err, result->err == ERR_NO_REFERRER ? "referral_code" : NULL, NULL);
        return;
    }
    char *landing_url = result->landing_url.data ? strndup(result->landing_url.data, result->landing_url.len) : NULL;
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
    struct action *a = action_new(ACTION_SIGN_UP, s->email.len + s->key_len + s->metadata.len);
    a->account_no = r->key.account_no;
    a->account_id = r->key.account_id;
    a->campaign_id = r->campaign_id;
    a->referrer_place = referrer_place;
    a->email = action_text(a, s->email.data, s->email.len);
    a->email_key = action_text(a, s->key, s->key_len);
    a->metadata = action_text(a, s->metadata.data, s->metadata.len); /* absent when there is none */
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
    if (route_body_ends(r, &b)) {
        if (referred && !referral_code_read(r->http->installation->referral_code_key, r->campaign_id, s.code.data,
                                            s.code.len, &referrer))
            answer_fault(r, ERR_NO_REFERRER, "referral_code", NULL);
        else
            request_submit(r, sign_up_action(r, &s, referrer), on_signed_up);
        body_clear(&b);
    }
    buf_free(&s.metadata);
}

/* --- get -------------------------------------------------------------------------------------------------------- */

/* Columns of read_user. */
enum {
    USER_ID,
    PLACE,
    EMAIL,
    METADATA,
    CREATED_AT_US,
    VERIFIED_AT_US,
    VERIFIED_REFERRALS,
    POINTS,
    LANDING_URL,
    REFERRER_ID
};

static int64_t position(int64_t place, int64_t verified_referrals, int64_t points)
{
    int64_t at = place - verified_referrals * points;
    return at < 1 ? 1 : at;
}

/* What only the account itself may see; a publishable key is in every visitor's hands. */
static void add_private(struct buf *out, const PGresult *rows)
{
    member_string(out, "referred_by", row_text(rows, REFERRER_ID));
    member_json(out, "metadata", row_text(rows, METADATA));
}

static void on_read(void *arg, enum err err, const PGresult *rows)
{
    struct request *r = request_resume(arg);
    if (!r)
        return;
    if (err == ERR_NONE && PQntuples(rows) == 0)
        err = ERR_NO_CAMPAIGN;
    else if (err == ERR_NONE && !row_text(rows, USER_ID))
        err = ERR_NO_USER;
    if (err != ERR_NONE) {
        answer_error(r, err);
        return;
    }
    int64_t place = row_int(rows, PLACE), referrals = row_int(rows, VERIFIED_REFERRALS);
    bool verified = row_text(rows, VERIFIED_AT_US) != NULL;
    struct buf *out = answer_body(r);
    members_begin(out);
    member_uuid(out, "user_id", r->user_id);
    member_uuid(out, "campaign_id", r->campaign_id);
    if (r->key.secret)
        member_string(out, "email", row_text(rows, EMAIL));
    add_referral(r, out, (uint32_t)place, row_text(rows, LANDING_URL));
    member_int(out, "position", position(place, referrals, row_int(rows, POINTS)));
    member_int(out, "original_position", place);
    member_bool(out, "verified", verified);
    if (verified)
        member_time(out, "verified_at", row_int(rows, VERIFIED_AT_US));
    else
        member_json(out, "verified_at", NULL);
    member_int(out, "verified_referrals", referrals);
    if (r->key.secret)
        add_private(out, rows);
    member_time(out, "created_at", row_int(rows, CREATED_AT_US));
    members_end(out);
    answer_json(r, 200, out);
}

void route_get_user(struct request *r)
{
    char account[16], campaign[UUID_TEXT_SIZE], user[UUID_TEXT_SIZE], place[16];
    uint32_t at = uuid_place(r->user_id);
    if (!installation_known(r))
        return;
    snprintf(account, sizeof account, "%" PRIu32, r->key.account_no);
    uuid_format(r->campaign_id, campaign);
    uuid_format(r->user_id, user);
    snprintf(place, sizeof place, "%" PRIu32, at <= INT32_MAX ? at : 0); /* no user has place 0 */
    request_read(r, READ_USER, 4, (const char *const[]){account, campaign, user, place}, on_read);
}

/* --- verify ----------------------------------------------------------------------------------------------------- */

static void on_verified(struct action *a, const struct action_result *result)
{
    struct request *r = request_resume(a->arg);
    if (!r)
        return;
    if (result->err != ERR_NONE) {
        answer_error(r, result->err);
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
    a->user_id = user;
    request_submit(r, a, on_verified);
}
