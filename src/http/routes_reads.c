/* What is read of campaigns, their users, referrals and rewards. */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "domain/email_address.h"
#include "domain/event.h"
#include "http/reading.h"
#include "http/routes.h"
#include "http/user_members.h"

enum { SOURCE_MAX_CHARS = 512 };

/* A read of something in the path's campaign. */
static void open_one(struct reading *g, struct request *r, enum read_query read)
{
    reading_open(g, r, read);
    reading_add_id(g, r->campaign_id);
}

static void open_list(struct reading *g, struct request *r, enum read_query read)
{
    reading_open_list(g, r, read);
    reading_add_id(g, r->campaign_id);
}

/* One of the choices, or null. */
static void add_choice(struct reading *g, const char *name, const char *const choices[])
{
    const char *choice = NULL;
    query_choice(&g->query, name, choices, &choice);
    reading_add_text(g, choice);
}

/* --- campaigns -------------------------------------------------------------------------------------------------- */

void route_get_campaign(struct request *r)
{
    struct reading g;
    open_one(&g, r, READ_CAMPAIGN);
    reading_answer(&g, ERR_NO_CAMPAIGN);
}

void route_list_campaigns(struct request *r)
{
    struct reading g;
    reading_open_list(&g, r, READ_CAMPAIGNS);
    reading_add_page(&g, 1);
    add_choice(&g, "status", (const char *const[]){"open", "closed", NULL});
    reading_answer(&g, ERR_NO_CAMPAIGN);
}

void route_get_totals(struct request *r)
{
    struct reading g;
    open_one(&g, r, READ_TOTALS);
    reading_answer(&g, ERR_NO_CAMPAIGN);
}

void route_get_leaderboard(struct request *r)
{
    struct reading g;
    open_list(&g, r, READ_LEADERBOARD);
    reading_add_page(&g, 2); /* position and place */
    reading_add_bool(&g, r->key.secret);
    reading_answer(&g, ERR_NO_CAMPAIGN);
}

/* A time of the query, or null. */
static int64_t add_time(struct reading *g, const char *name, char out[RFC3339_SIZE])
{
    enum { TIME_MAX_CHARS = 40 };
    int64_t at = 0;
    const char *text;
    bool given = query_text(&g->query, name, TIME_MAX_CHARS, &text);
    if (given && (rfc3339_parse(text, strlen(text), &at) != 0 || at < 0)) {
        char detail[120];
        snprintf(detail, sizeof detail, "%s must be a time like 2026-01-31T12:00:00Z, its + written as %%2B.", name);
        query_fault(&g->query, name, detail);
        given = false;
    }
    if (given)
        rfc3339_format(at, out);
    reading_add_text(g, given ? out : NULL);
    return given ? at : -1;
}

void route_get_stats(struct request *r)
{
    struct reading g;
    struct buf names = {0};
    char from[RFC3339_SIZE], to[RFC3339_SIZE];
    const char *unit = "minute";
    open_list(&g, r, READ_STATS);
    reading_add_page(&g, 1);
    int64_t from_us = add_time(&g, "from", from), to_us = add_time(&g, "to", to);
    if (from_us >= 0 && to_us >= 0 && from_us >= to_us)
        query_fault(&g.query, "to", "to must be later than from.");
    query_choice(&g.query, "resolution", (const char *const[]){"minute", "hour", "day", NULL}, &unit);
    reading_add_text(&g, unit);
    event_names(&names);
    reading_add_text(&g, buf_cstr(&names));
    reading_answer(&g, ERR_NO_CAMPAIGN);
    buf_free(&names);
}

/* --- users ------------------------------------------------------------------------------------------------------ */

void route_get_user(struct request *r)
{
    struct reading g;
    if (!installation_known(r))
        return;
    open_one(&g, r, READ_USER);
    reading_add_id(&g, r->user_id);
    reading_add_bool(&g, r->key.secret);
    reading_answer(&g, ERR_NO_USER);
}

/* An address, or the beginning of one, in the form that addresses are compared by; `key` has room for it. */
struct address {
    char key[2 * EMAIL_MAX + 1]; /* folding can make an address longer */
};

static bool fold_address(struct query *q, const char *name, const char *text, struct address *a)
{
    size_t len = email_key(text, strlen(text), a->key, sizeof a->key - 1);
    a->key[len] = '\0';
    if (len == 0)
        query_fault(q, name, "The address is too long.");
    return len > 0;
}

static void add_email(struct reading *g, struct address *a)
{
    const char *text;
    bool given = query_text(&g->query, "email", EMAIL_MAX, &text);
    if (given && !email_valid(text, strlen(text))) {
        query_fault(&g->query, "email", "email must be an e-mail address.");
        given = false;
    }
    reading_add_text(g, given && fold_address(&g->query, "email", text, a) ? a->key : NULL);
}

static void add_search(struct reading *g, struct address *a)
{
    const char *text;
    bool given = query_text(&g->query, "search", EMAIL_MAX, &text);
    if (given && g->values[g->count - 1])
        query_fault(&g->query, "search", "search and email cannot be combined.");
    reading_add_text(g, given && fold_address(&g->query, "search", text, a) ? a->key : NULL);
}

void route_list_users(struct request *r)
{
    struct reading g;
    struct address email, search;
    struct uuid referrer;
    const char *utm_source;
    if (!installation_known(r))
        return;
    open_list(&g, r, READ_USERS);
    reading_add_page(&g, 1);
    add_email(&g, &email);
    add_search(&g, &search);
    add_choice(&g, "verified", (const char *const[]){"true", "false", NULL});
    if (query_uuid(&g.query, "referred_by", &referrer))
        reading_add_id(&g, referrer);
    else
        reading_add_text(&g, NULL);
    query_text(&g.query, "utm_source", SOURCE_MAX_CHARS, &utm_source);
    reading_add_text(&g, utm_source);
    reading_answer(&g, ERR_NO_CAMPAIGN);
}

/* --- referrals -------------------------------------------------------------------------------------------------- */

void route_get_referral(struct request *r)
{
    struct reading g;
    open_one(&g, r, READ_REFERRAL);
    reading_add_id(&g, r->referral_id);
    reading_answer(&g, ERR_NO_REFERRAL);
}

void route_list_user_referrals(struct request *r)
{
    struct reading g;
    open_list(&g, r, READ_USER_REFERRALS);
    reading_add_id(&g, r->user_id);
    reading_add_page(&g, 1);
    add_choice(&g, "status", (const char *const[]){"pending", "verified", NULL});
    reading_answer(&g, ERR_NO_USER);
}

/* --- rewards ---------------------------------------------------------------------------------------------------- */

void route_get_reward(struct request *r)
{
    struct reading g;
    open_one(&g, r, READ_REWARD);
    reading_add_id(&g, r->reward_id);
    reading_answer(&g, ERR_NO_REWARD);
}

void route_list_rewards(struct request *r)
{
    struct reading g;
    open_list(&g, r, READ_REWARDS);
    reading_add_page(&g, 1);
    reading_answer(&g, ERR_NO_CAMPAIGN);
}

void route_list_user_rewards(struct request *r)
{
    struct reading g;
    open_list(&g, r, READ_USER_REWARDS);
    reading_add_id(&g, r->user_id);
    reading_add_page(&g, 2); /* reward and which of those earned */
    reading_add_bool(&g, r->key.secret);
    reading_answer(&g, ERR_NO_USER);
}

void route_list_sagas(struct request *r)
{
    struct reading g;
    open_list(&g, r, READ_SAGAS);
    reading_add_page(&g, 2); /* likewise */
    add_choice(
        &g, "state",
        (const char *const[]){"reserved", "delivering", "delivered", "confirmed", "compensating", "released", NULL});
    reading_answer(&g, ERR_NO_CAMPAIGN);
}
