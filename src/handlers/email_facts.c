/* What mails are made of, read from the database: one query for a run, and one more if campaigns have templates of their
 * own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/break.h"
#include "core/clock.h"
#include "core/log.h"
#include "handlers/email.h"
#include "handlers/sql.h"

bool email_recipient(const struct event *e, struct uuid *user)
{
    const char *member = event_email_key(e->type);
    if (!member || strcmp(member, "account") == 0)
        return false;
    *user = event_data_uuid(e, member);
    return true;
}

bool email_about_reward(const struct event *e)
{
    return e->type == EVENT_REWARD_EARNED || e->type == EVENT_REWARD_RELEASED;
}

/* --- facts --- */

/* mail_read's columns */
enum {
    CAMPAIGN_NO,
    DELETED,
    CAMPAIGN_NAME,
    LANDING_URL,
    POINTS,
    EMAIL,
    VERIFIED,
    REWARD,
    STATUS,
    OWN_TEMPLATE,
    UNSUBSCRIBED,
    EXPIRED
};

static bool is_true(const PGresult *r, int row, int column)
{
    return PQgetvalue(r, row, column)[0] == 't';
}

/* Whether there is a mail to be written; else the record is rejected, or done if it is about a deleted campaign. */
static bool has_facts(struct record *record, const PGresult *r, int row)
{
    const struct event *e = &record->event;
    char campaign[UUID_TEXT_SIZE], id[UUID_TEXT_SIZE];
    struct uuid user;
    bool to_user = email_recipient(e, &user);
    uuid_format(e->campaign_id, campaign);
    uuid_format(to_user ? user : e->account_id, id);
    if (PQgetisnull(r, row, CAMPAIGN_NO)) {
        record_fail(record, OUTCOME_REJECT, "campaign %s does not exist", campaign);
        return false;
    }
    if (is_true(r, row, DELETED))
        return false;
    if (PQgetisnull(r, row, EMAIL)) {
        record_fail(record, OUTCOME_REJECT, "%s %s has no address in campaign %s: there is no such %s",
                    to_user ? "user" : "account", id, campaign, to_user ? "user" : "account");
        return false;
    }
    if (email_about_reward(e) && PQgetisnull(r, row, REWARD)) {
        record_fail(record, OUTCOME_REJECT, "campaign %s has no reward %s", campaign, event_data_text(e, "reward_id"));
        return false;
    }
    return true;
}

static void take_facts(struct record *record, const PGresult *r, int row, const char *id_suffix)
{
    char event[UUID_TEXT_SIZE];
    struct uuid user;
    if (!has_facts(record, r, row))
        return;
    struct email_job *job = xcalloc(1, sizeof *job);
    record->state = job;
    job->facts = (struct mail_facts){
        .campaign_no = (int)strtol(PQgetvalue(r, row, CAMPAIGN_NO), NULL, 10),
        .campaign_name = sql_copy(r, row, CAMPAIGN_NAME),
        .landing_url = sql_copy(r, row, LANDING_URL),
        .points_per_referral = strtoll(PQgetvalue(r, row, POINTS), NULL, 10),
        .recipient = sql_copy(r, row, EMAIL),
        .verified = strtoll(PQgetvalue(r, row, VERIFIED), NULL, 10),
        .reward = sql_copy(r, row, REWARD),
        .place = email_recipient(&record->event, &user) ? uuid_place(user) : 0,
        .open = PQgetisnull(r, row, STATUS) || strcmp(PQgetvalue(r, row, STATUS), "sending") == 0,
        .unsubscribed = is_true(r, row, UNSUBSCRIBED) && !(EMAIL_WANTED & 1u << record->event.type),
        .expired = is_true(r, row, EXPIRED),
        .has_own = is_true(r, row, OWN_TEMPLATE),
    };
    uuid_format(broken("double-effect") ? uuid_v7() : record->event.id, event);
    snprintf(job->message_id, sizeof job->message_id, "%s%s", event, id_suffix);
}

void email_add_event(struct buf arrays[EMAIL_ARRAYS], const struct event *e)
{
    enum { EVENTS, KINDS, CAMPAIGNS, USERS, PLACES, REWARDS, TIMES };
    char at[RFC3339_SIZE];
    struct uuid user;
    sql_array_uuid(&arrays[EVENTS], e->id);
    sql_array_text(&arrays[KINDS], event_type_name(e->type));
    sql_array_uuid(&arrays[CAMPAIGNS], e->campaign_id);
    if (email_recipient(e, &user)) {
        sql_array_uuid(&arrays[USERS], user);
        sql_array_int(&arrays[PLACES], uuid_place(user));
    } else {
        sql_array_text(&arrays[USERS], NULL);
        sql_array_text(&arrays[PLACES], NULL);
    }
    if (email_about_reward(e))
        sql_array_uuid(&arrays[REWARDS], event_data_uuid(e, "reward_id"));
    else
        sql_array_text(&arrays[REWARDS], NULL);
    rfc3339_format(e->at_us, at);
    sql_array_text(&arrays[TIMES], at);
}

static bool read_facts(struct run *run, const char *id_suffix, PGresult **failed)
{
    struct buf arrays[EMAIL_ARRAYS] = {{0}};
    const char *values[EMAIL_ARRAYS + 1];
    char max_age[24];
    for (int i = 0; i < EMAIL_ARRAYS; i++)
        sql_array_begin(&arrays[i]);
    for (size_t i = 0; i < run->count; i++)
        email_add_event(arrays, &run->records[i]->event);
    for (int i = 0; i < EMAIL_ARRAYS; i++)
        values[i] = sql_array_end(&arrays[i]);
    snprintf(max_age, sizeof max_age, "%lld", (long long)run->config->mail_max_age_s);
    values[EMAIL_ARRAYS] = max_age;
    PGresult *r =
        run_sql(run, failed, "select * from mail_read($1, $2, $3, $4, $5, $6, $7, $8)", EMAIL_ARRAYS + 1, values);
    for (size_t i = 0; r && i < run->count && (int)i < PQntuples(r); i++)
        take_facts(run->records[i], r, (int)i, id_suffix);
    PQclear(r);
    for (int i = 0; i < EMAIL_ARRAYS; i++)
        buf_free(&arrays[i]);
    return r != NULL;
}

/* --- templates of campaigns --- */

void email_own_clear(struct email_own *own)
{
    for (size_t i = 0; i < own->count; i++)
        template_free(own->templates[i].template);
    free(own->templates);
    *own = (struct email_own){0};
}

/* mail_templates_of's columns */
enum { OWN_CAMPAIGN, OWN_KIND, OWN_SUBJECT, OWN_TEXT, OWN_HTML };

static void take_own(struct email_own *own, const PGresult *r)
{
    own->templates = xcalloc((size_t)PQntuples(r) + 1, sizeof *own->templates);
    for (int row = 0; row < PQntuples(r); row++) {
        const char *at;
        char why[200];
        struct email_own_template *t = &own->templates[own->count++];
        t->campaign_no = (int)strtol(PQgetvalue(r, row, OWN_CAMPAIGN), NULL, 10);
        t->type = event_type_parse(PQgetvalue(r, row, OWN_KIND), (size_t)PQgetlength(r, row, OWN_KIND));
        t->template = email_template(
            &(struct template_source){
                .subject = PQgetvalue(r, row, OWN_SUBJECT),
                .text = PQgetvalue(r, row, OWN_TEXT),
                .html = PQgetisnull(r, row, OWN_HTML) ? NULL : PQgetvalue(r, row, OWN_HTML),
            },
            &at, why, sizeof why);
        if (!t->template) /* it could be read when it was set, by another version */
            log_warn("a campaign's own mail template cannot be used", "campaign_no", log_int(t->campaign_no),
                     "template", PQgetvalue(r, row, OWN_KIND), "part", at, "error", why);
    }
}

static const struct template *find_own(const struct email_own *own, int campaign_no, enum event_type type)
{
    for (size_t i = 0; i < own->count; i++)
        if (own->templates[i].campaign_no == campaign_no && own->templates[i].type == type)
            return own->templates[i].template;
    return NULL;
}

static bool read_own(struct run *run, struct email_own *own, PGresult **failed)
{
    struct buf campaigns = {0}, kinds = {0};
    size_t wanted = 0;
    sql_array_begin(&campaigns);
    sql_array_begin(&kinds);
    for (size_t i = 0; i < run->count; i++) {
        const struct email_job *job = run->records[i]->state;
        if (!job || !job->facts.has_own)
            continue;
        sql_array_int(&campaigns, job->facts.campaign_no);
        sql_array_text(&kinds, event_type_name(run->records[i]->event.type));
        wanted++;
    }
    const char *const values[] = {sql_array_end(&campaigns), sql_array_end(&kinds)};
    PGresult *r = wanted > 0 ? run_sql(run, failed, "select * from mail_templates_of($1, $2)", 2, values) : NULL;
    bool ok = wanted == 0 || r;
    if (r)
        take_own(own, r);
    for (size_t i = 0; r && i < run->count; i++) {
        struct email_job *job = run->records[i]->state;
        if (job)
            job->facts.own = find_own(own, job->facts.campaign_no, run->records[i]->event.type);
    }
    PQclear(r);
    buf_free(&campaigns);
    buf_free(&kinds);
    return ok;
}

bool email_read_facts(struct run *run, const char *id_suffix, struct email_own *own, PGresult **failed)
{
    email_own_clear(own);
    return read_facts(run, id_suffix, failed) && read_own(run, own, failed);
}
