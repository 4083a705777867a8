/* email-workers: one mail per event, and a row in `mails` for it.
 *
 *   apply   reads what the mails are made of and enters the rows as 'sending' ('expired', 'discarded': nothing to send)
 *   call    composes and sends; the Message-ID comes from the event's id, so a mail sent again is known as the same
 *   settle  'sent', 'failed' (rejected), or 'sending' still (refused for now: tried again)
 *
 * A row that is 'sending' already was left by a crash or a failed attempt: its mail is sent (again). Any other row is
 * the memory that the event was handled. */
#include "handlers/email.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "delivery/mail.h"
#include "delivery/maildir.h"
#include "delivery/smtp.h"
#include "handlers/handler.h"
#include "handlers/sql.h"

#define SMTP_RUN_MAX 20 /* a crash sends the mails of the runs under way again: few, while a mail costs milliseconds */
#define MESSAGE_ID_SIZE (EMAIL_HOST_SIZE + 64)

struct email_worker {
    struct email_texts texts;
    struct smtp *smtp; /* MAIL_TRANSPORT=smtp */
    char sender[EMAIL_SENDER_SIZE];
    bool has_code_key;
    uint8_t code_key[16]; /* installation.referral_code_key, which never changes */
    struct buf subject, body, message;
};

/* record->state */
struct email_job {
    struct mail_facts facts;
    char message_id[MESSAGE_ID_SIZE];
    const char *planned; /* status for a row that is new */
    const char *counted; /* what M_MAILS counts when the run has ended; NULL: nothing */
};

static bool transport_is(const struct config *c, const char *word)
{
    return strcmp(c->mail_transport, word) == 0;
}

/* --- workers --- */

static int64_t email_pool_size(const struct config *c)
{
    return config_pool_size(c, c->email_pool_size);
}

static size_t email_run_max(const struct config *c)
{
    return transport_is(c, "smtp") ? SMTP_RUN_MAX : 0;
}

static void *email_open(const struct config *c)
{
    char why[256];
    struct email_worker *w = xcalloc(1, sizeof *w);
    mail_start();
    if (!email_texts_load(&w->texts, c, EMAIL_TYPES, why, sizeof why)) {
        log_error("a mail template cannot be read any more", "error", why); /* it could at start */
        abort();
    }
    email_sender(c, w->sender, sizeof w->sender);
    if (transport_is(c, "smtp"))
        w->smtp = smtp_open(c);
    return w;
}

static void email_close(void *worker)
{
    struct email_worker *w = worker;
    email_texts_free(&w->texts);
    smtp_close(w->smtp);
    buf_free(&w->subject);
    buf_free(&w->body);
    buf_free(&w->message);
    free(w);
}

/* --- whose mail it is --- */

/* The user that the mail goes to; false: it goes to the account. */
static bool recipient_user(const struct event *e, struct uuid *user)
{
    const char *member = event_email_key(e->type);
    if (!member || strcmp(member, "account") == 0)
        return false;
    *user = event_data_uuid(e, member);
    return true;
}

static void email_key(const struct event *e, struct buf *out)
{
    struct uuid id = e->account_id;
    recipient_user(e, &id);
    buf_add(out, id.b, sizeof id.b);
}

/* --- apply --- */

static char *copy_value(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? NULL : xstrdup(PQgetvalue(r, row, column));
}

static void take_facts(struct record *record, const PGresult *r, int row, const char *host)
{
    char event[UUID_TEXT_SIZE], campaign[UUID_TEXT_SIZE];
    uuid_format(record->event.id, event);
    uuid_format(record->event.campaign_id, campaign);
    struct uuid user;
    bool to_user = recipient_user(&record->event, &user);
    if (PQgetisnull(r, row, 0)) {
        record_fail(record, OUTCOME_REJECT, "campaign %s does not exist", campaign);
        return;
    }
    if (PQgetisnull(r, row, 4)) {
        char id[UUID_TEXT_SIZE];
        uuid_format(to_user ? user : record->event.account_id, id);
        record_fail(record, OUTCOME_REJECT, "%s %s has no address in campaign %s: there is no such %s",
                    to_user ? "user" : "account", id, campaign, to_user ? "user" : "account");
        return;
    }
    struct email_job *job = xcalloc(1, sizeof *job);
    record->state = job;
    job->facts = (struct mail_facts){
        .campaign_no = (int)strtol(PQgetvalue(r, row, 0), NULL, 10),
        .campaign_name = copy_value(r, row, 1),
        .landing_url = copy_value(r, row, 2),
        .points_per_referral = strtoll(PQgetvalue(r, row, 3), NULL, 10),
        .recipient = copy_value(r, row, 4),
        .verified = strtoll(PQgetvalue(r, row, 5), NULL, 10),
        .place = to_user ? uuid_place(user) : 0,
    };
    snprintf(job->message_id, sizeof job->message_id, "%s.email@%s", event, host);
}

static bool read_facts(struct run *run, PGresult **failed)
{
    struct buf campaigns = {0}, users = {0}, places = {0};
    char host[EMAIL_HOST_SIZE] = "localhost";
    email_host(run->config->public_url, host, sizeof host);
    sql_array_begin(&campaigns);
    sql_array_begin(&users);
    sql_array_begin(&places);
    for (size_t i = 0; i < run->count; i++) {
        const struct event *e = &run->records[i]->event;
        struct uuid user;
        sql_array_uuid(&campaigns, e->campaign_id);
        if (recipient_user(e, &user)) {
            sql_array_uuid(&users, user);
            sql_array_int(&places, uuid_place(user));
        } else {
            sql_array_text(&users, NULL);
            sql_array_text(&places, NULL);
        }
    }
    const char *const values[] = {sql_array_end(&campaigns), sql_array_end(&users), sql_array_end(&places)};
    PGresult *r = run_sql(run, failed, "select * from mail_read($1, $2, $3)", 3, values);
    for (size_t i = 0; r && i < run->count && (int)i < PQntuples(r); i++)
        take_facts(run->records[i], r, (int)i, host);
    PQclear(r);
    buf_free(&campaigns);
    buf_free(&users);
    buf_free(&places);
    return r != NULL;
}

static const char *planned_status(const struct config *c, const struct event *e, int64_t now_us)
{
    if (now_us - e->at_us > c->mail_max_age_s * 1000000)
        return "expired";
    return transport_is(c, "discard") ? "discarded" : "sending";
}

static void take_status(struct record *record, const char *status, bool is_new)
{
    struct email_job *job = record->state;
    record->call = strcmp(status, "sending") == 0;
    record->known = !is_new && !record->call;
    job->counted = is_new && !record->call ? job->planned : NULL;
}

/* Enters the rows of the records that have their facts, and learns which of them have a mail to be sent. */
static bool enter(struct run *run, PGresult **failed)
{
    struct buf events = {0}, campaigns = {0}, kinds = {0}, recipients = {0}, ids = {0}, statuses = {0};
    struct buf *const arrays[] = {&events, &campaigns, &kinds, &recipients, &ids, &statuses};
    const char *values[6];
    int64_t now = clock_wall_us();
    for (int i = 0; i < 6; i++)
        sql_array_begin(arrays[i]);
    for (size_t i = 0; i < run->count; i++) {
        const struct event *e = &run->records[i]->event;
        struct email_job *job = run->records[i]->state;
        if (!job)
            continue;
        job->planned = planned_status(run->config, e, now);
        sql_array_uuid(&events, e->id);
        sql_array_int(&campaigns, job->facts.campaign_no);
        sql_array_text(&kinds, event_type_name(e->type));
        sql_array_text(&recipients, job->facts.recipient);
        sql_array_text(&ids, job->message_id);
        sql_array_text(&statuses, job->planned);
    }
    for (int i = 0; i < 6; i++)
        values[i] = sql_array_end(arrays[i]);
    PGresult *r = run_sql(run, failed, "select * from mail_begin($1, $2, $3, $4, $5, $6)", 6, values);
    int row = 0;
    for (size_t i = 0; r && i < run->count && row < PQntuples(r); i++)
        if (run->records[i]->state) {
            take_status(run->records[i], PQgetvalue(r, row, 0), PQgetvalue(r, row, 1)[0] == 't');
            row++;
        }
    PQclear(r);
    for (int i = 0; i < 6; i++)
        buf_free(arrays[i]);
    return r != NULL;
}

static bool read_code_key(struct run *run, struct email_worker *w, PGresult **failed)
{
    PGresult *r = run_sql(run, failed, "select encode(referral_code_key, 'hex') from installation", 0, NULL);
    for (size_t i = 0; r && PQntuples(r) != 1 && i < run->count; i++)
        record_fail(run->records[i], OUTCOME_UNAVAILABLE, "the table installation is empty");
    if (r && PQntuples(r) == 1) {
        const char *hex = PQgetvalue(r, 0, 0);
        for (size_t i = 0; i < sizeof w->code_key && hex[i * 2] && hex[i * 2 + 1]; i++) {
            const char digits[3] = {hex[i * 2], hex[i * 2 + 1], '\0'};
            w->code_key[i] = (uint8_t)strtoul(digits, NULL, 16);
        }
        w->has_code_key = true;
    }
    PQclear(r);
    return r != NULL;
}

static bool email_apply(struct run *run, PGresult **failed)
{
    struct email_worker *w = run->worker;
    if (!w->has_code_key && !read_code_key(run, w, failed))
        return false;
    return !w->has_code_key || (read_facts(run, failed) && enter(run, failed));
}

/* --- call --- */

static void deliver(const struct run *run, struct email_worker *w, struct record *r)
{
    const struct config *c = run->config;
    struct email_job *job = r->state;
    char why[200], id[UUID_TEXT_SIZE];
    bool smtp = w->smtp != NULL;
    int64_t now = clock_wall_us();
    buf_clear(&w->subject);
    buf_clear(&w->body);
    buf_clear(&w->message);
    email_text(&w->texts, c, &r->event, &job->facts, w->code_key, now / 1000000, &w->subject, &w->body);
    const struct mail mail = {
        .from = c->mail_from,
        .to = job->facts.recipient,
        .message_id = job->message_id,
        .subject = buf_cstr(&w->subject),
        .body = buf_cstr(&w->body),
        .date_us = now,
    };
    if (!mail_compose(&mail, smtp, !smtp, &w->message, why, sizeof why)) {
        record_fail(r, OUTCOME_REJECT, "%s", why);
        return;
    }
    uuid_format(r->event.id, id);
    if (!smtp) {
        if (!maildir_put(c->maildir, id, r->event.at_us, w->message.data, w->message.len, why, sizeof why))
            record_fail(r, OUTCOME_UNAVAILABLE, "%s", why);
        return;
    }
    static const enum outcome outcomes[] = {[SMTP_SENT] = OUTCOME_DONE,
                                            [SMTP_RETRY] = OUTCOME_RETRY,
                                            [SMTP_REJECT] = OUTCOME_REJECT,
                                            [SMTP_UNAVAILABLE] = OUTCOME_UNAVAILABLE};
    enum smtp_end end = smtp_send(w->smtp, w->sender, job->facts.recipient, w->message.data, w->message.len,
                                  run->stop_at, why, sizeof why);
    if (end != SMTP_SENT)
        record_fail(r, outcomes[end], "%s", why);
}

static void email_call(struct run *run)
{
    const struct record *away = NULL; /* the one at which it was found that nothing can be sent */
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        if (away)
            record_fail(r, OUTCOME_UNAVAILABLE, "%s", away->reason);
        else if (run_stopping(run))
            record_fail(r, OUTCOME_UNAVAILABLE, "the process is stopping");
        else
            deliver(run, run->worker, r);
        if (r->outcome == OUTCOME_UNAVAILABLE && !away)
            away = r;
    }
}

/* --- settle --- */

static bool email_settle(struct run *run, PGresult **failed)
{
    struct buf events = {0}, statuses = {0}, errors = {0};
    sql_array_begin(&events);
    sql_array_begin(&statuses);
    sql_array_begin(&errors);
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        struct email_job *job = r->state;
        bool done = r->outcome == OUTCOME_DONE, rejected = r->outcome == OUTCOME_REJECT;
        job->counted = done ? "sent" : rejected ? "failed" : "retried";
        sql_array_uuid(&events, r->event.id);
        sql_array_text(&statuses, done ? "sent" : rejected ? "failed" : "sending");
        sql_array_text(&errors, done ? NULL : r->reason);
    }
    const char *const values[] = {sql_array_end(&events), sql_array_end(&statuses), sql_array_end(&errors)};
    PGresult *r = run_sql(run, failed, "select mail_settle($1, $2, $3)", 3, values);
    PQclear(r);
    buf_free(&events);
    buf_free(&statuses);
    buf_free(&errors);
    return r != NULL;
}

static void email_release(struct record *r)
{
    struct email_job *job = r->state;
    if (job->counted && r->outcome != OUTCOME_UNAVAILABLE)
        metric_add(metric_get(M_MAILS, job->counted, NULL), 1);
    free(job->facts.campaign_name);
    free(job->facts.landing_url);
    free(job->facts.recipient);
    free(job);
}

const struct handler email_handler = {
    .group = "email-workers",
    .processes = "user.*, referral.verified, campaign.*",
    .types = EMAIL_TYPES,
    .pool_size = email_pool_size,
    .run_max = email_run_max,
    .check = email_check,
    .key = email_key,
    .worker_open = email_open,
    .worker_close = email_close,
    .apply = email_apply,
    .call = email_call,
    .settle = email_settle,
    .release = email_release,
};
