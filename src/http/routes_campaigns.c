/* Campaigns: create and get. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "http/answer.h"
#include "http/members.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/url.h"

enum { NAME_MAX_CHARS = 200, URL_MAX = 1024, POINTS_MAX = 1000000, MILESTONES_MAX = 50, MILESTONE_MAX = 1000000000 };

static const char default_milestones[] = "[100,1000,10000,100000,1000000,10000000,100000000,1000000000]";

/* --- create ----------------------------------------------------------------------------------------------------- */

static void read_name(struct body *b, struct text *name)
{
    if (body_text(b, "name", BODY_REQUIRED, 1, NAME_MAX_CHARS, name) && strspn(name->data, " ") == name->len)
        body_fault(b, ERR_INVALID, "name", "name must not be blank.");
}

static void read_landing_url(struct body *b, struct text *url)
{
    if (body_text(b, "landing_url", BODY_OPTIONAL, 1, URL_MAX, url) && !url_is_web(url->data, url->len))
        body_fault(b, ERR_INVALID, "landing_url", "landing_url must be a complete http or https address.");
}

/* Appends the milestones as JSON. */
static void read_milestones(struct body *b, struct buf *out)
{
    json_t *list, *element;
    size_t i;
    int64_t last = 0;
    if (!body_array(b, "milestones", BODY_OPTIONAL, MILESTONES_MAX, &list)) {
        buf_adds(out, default_milestones);
        return;
    }
    buf_addc(out, '[');
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
            buf_addc(out, ',');
        buf_add_int(out, value);
        last = value;
    }
    buf_addc(out, ']');
}

/* The members that a campaign's settings and both answers have in common. */
static void add_settings(struct buf *out, struct text name, int64_t points, const char *milestones,
                         struct text landing_url)
{
    member_text(out, "name", name.data, name.len);
    member_int(out, "points_per_referral", points);
    member_json(out, "milestones", milestones);
    member_text(out, "landing_url", landing_url.data, landing_url.len);
}

/* The answer repeats the settings as the action carries them, a complete JSON object. */
static void on_created(struct action *a, const struct action_result *result)
{
    struct request *r = request_resume(a->arg);
    if (!r)
        return;
    r->campaign_id = a->campaign_id;
    if (result->err != ERR_NONE) {
        answer_error(r, result->err);
        return;
    }
    char id[UUID_TEXT_SIZE], location[80];
    uuid_format(a->campaign_id, id);
    snprintf(location, sizeof location, "/v1/campaigns/%s", id);
    answer_header(r, "location", location);
    struct buf *out = answer_body(r);
    members_begin(out);
    member_string(out, "campaign_id", id);
    buf_addc(out, ',');
    buf_add(out, a->settings.data + 1, a->settings.len - 2); /* without its braces */
    member_time(out, "created_at", result->at_us);
    member_int(out, "version", result->version);
    member_int(out, "events", result->events);
    members_end(out);
    answer_json(r, 201, out);
}

void route_create_campaign(struct request *r)
{
    struct body b;
    struct text name, landing_url;
    int64_t points = 1;
    struct buf milestones = {0};
    route_body(r, &b);
    read_name(&b, &name);
    body_int(&b, "points_per_referral", BODY_OPTIONAL, 0, POINTS_MAX, &points);
    read_milestones(&b, &milestones);
    read_landing_url(&b, &landing_url);
    if (route_body_ends(r, &b)) {
        struct buf *settings = answer_body(r);
        members_begin(settings);
        add_settings(settings, name, points, buf_cstr(&milestones), landing_url);
        members_end(settings);
        struct action *a = action_new(ACTION_CREATE_CAMPAIGN, settings->len);
        a->account_no = r->key.account_no;
        a->account_id = r->key.account_id;
        a->settings = action_text(a, settings->data, settings->len);
        body_clear(&b);
        request_submit(r, a, on_created);
    }
    buf_free(&milestones);
}

/* --- get -------------------------------------------------------------------------------------------------------- */

/* Columns of read_campaign. */
enum { ID, NAME, POINTS, MILESTONES, LANDING_URL, CREATED_AT_US, PARTICIPANTS, VERSION };

static struct text column(const PGresult *rows, int column)
{
    const char *text = row_text(rows, column);
    return (struct text){text, text ? strlen(text) : 0};
}

static void on_read(void *arg, enum err err, const PGresult *rows)
{
    struct request *r = request_resume(arg);
    if (!r)
        return;
    if (err == ERR_NONE && PQntuples(rows) == 0)
        err = ERR_NO_CAMPAIGN;
    if (err != ERR_NONE) {
        answer_error(r, err);
        return;
    }
    struct buf *out = answer_body(r);
    members_begin(out);
    member_uuid(out, "campaign_id", r->campaign_id);
    add_settings(out, column(rows, NAME), row_int(rows, POINTS), row_text(rows, MILESTONES), column(rows, LANDING_URL));
    member_time(out, "created_at", row_int(rows, CREATED_AT_US));
    member_int(out, "version", row_int(rows, VERSION));
    member_int(out, "participants", row_int(rows, PARTICIPANTS));
    members_end(out);
    answer_json(r, 200, out);
}

void route_get_campaign(struct request *r)
{
    char account[16], campaign[UUID_TEXT_SIZE];
    snprintf(account, sizeof account, "%" PRIu32, r->key.account_no);
    uuid_format(r->campaign_id, campaign);
    request_read(r, READ_CAMPAIGN, 2, (const char *const[]){account, campaign}, on_read);
}
