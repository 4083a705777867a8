/* email-workers: one mail per event, and a row in `mails` for it.
 *
 *   apply   if no mail is sent at all, enters them ('discarded', 'expired') by one statement, and they are done; else
 *           reads what they are made of and enters the rows as 'sending', or 'expired' or 'unsubscribed', and those are
 *           done too; those of a campaign that has sent too many in this minute wait
 *   call    composes and sends; the Message-ID comes from the event's id, so a mail sent again is known as the same
 *   settle  'sent', 'failed' (rejected), or 'sending' still (refused for now: tried again)
 *
 * A row that is 'sending' already was left by a crash or a failed attempt: its mail is sent (again). Any other row is
 * the memory that the event was handled. */
#include "handlers/email.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/break.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "delivery/mailer.h"
#include "handlers/handler.h"
#include "handlers/pace.h"
#include "handlers/sql.h"

#define SMTP_RUN_MAX 20 /* a crash sends the mails of the runs under way again: few, while a mail costs milliseconds */
#define MEMORY_WAIT_MS 5000 /* who must wait longer for the campaign's pace waits in Postgres */

struct email_worker {
    struct email_texts texts;
    struct mailer *mailer;
    bool has_code_key;
    uint8_t code_key[16];     /* installation.referral_code_key, which never changes */
    struct email_own own;     /* of the run */
    struct email_parts parts; /* of the mail under way */
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

static bool email_gathers(const struct config *c)
{
    return transport_is(c, "discard"); /* else sending takes the time: by all workers */
}

static void *email_open(const struct config *c)
{
    char why[256];
    struct email_worker *w = xcalloc(1, sizeof *w);
    if (!email_texts_load(&w->texts, c, EMAIL_TYPES, why, sizeof why)) {
        log_error("a mail template cannot be read any more", "error", why); /* it could at start */
        abort();
    }
    w->mailer = mailer_open(c);
    return w;
}

static void email_close(void *worker)
{
    struct email_worker *w = worker;
    email_texts_free(&w->texts);
    mailer_close(w->mailer);
    email_own_clear(&w->own);
    email_parts_free(&w->parts);
    free(w);
}

/* --- whose mail it is --- */

static void email_key(const struct event *e, struct buf *out)
{
    struct uuid id = e->account_id;
    email_recipient(e, &id);
    buf_add(out, id.b, sizeof id.b);
}

/* --- apply --- */

static const char *planned_status(const struct config *c, const struct mail_facts *facts)
{
    if (facts->unsubscribed)
        return "unsubscribed";
    if (facts->expired)
        return "expired";
    return transport_is(c, "discard") ? "discarded" : "sending";
}

/* What becomes of the mails that there are facts for. Those that must wait are left out of the run's effect. */
static void plan(struct run *run)
{
    const struct config *c = run->config;
    int64_t wait_ms;
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        struct email_job *job = r->state;
        if (!job)
            continue;
        job->planned = planned_status(c, &job->facts);
        if (c->mail_rate == 0 || !job->facts.open || strcmp(job->planned, "sending") != 0 ||
            pace_take(job->facts.campaign_no, c->mail_rate, r->waited, clock_mono_us(), &wait_ms))
            continue;
        r->later_ms = wait_ms;
        r->later_held = wait_ms > MEMORY_WAIT_MS;
        record_fail(r, OUTCOME_LATER, "its campaign sends no more than %lld mails a minute", (long long)c->mail_rate);
    }
}

static bool is_planned(const struct record *r)
{
    return r->state && r->outcome == OUTCOME_DONE;
}

static void take_status(struct record *record, const char *status, bool is_new)
{
    struct email_job *job = record->state;
    record->call = strcmp(status, "sending") == 0 || broken("double-effect");
    record->known = !is_new && !record->call;
    job->counted = is_new && !record->call ? job->planned : NULL;
}

/* Enters the rows of the records that have their facts, and learns which of them have a mail to be sent. */
static bool enter(struct run *run, PGresult **failed)
{
    struct buf events = {0}, campaigns = {0}, kinds = {0}, recipients = {0}, ids = {0}, statuses = {0};
    struct buf *const arrays[] = {&events, &campaigns, &kinds, &recipients, &ids, &statuses};
    const char *values[6];
    for (int i = 0; i < 6; i++)
        sql_array_begin(arrays[i]);
    for (size_t i = 0; i < run->count; i++) {
        const struct event *e = &run->records[i]->event;
        const struct email_job *job = run->records[i]->state;
        if (!is_planned(run->records[i]))
            continue;
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
        if (is_planned(run->records[i])) {
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

/* Enters mails none of which is sent. Takes them out of the run; those that could not be entered stay, for enter to find
 * out why. */
static bool enter_finals(struct run *run, const char *id_suffix, PGresult **failed)
{
    struct email_final *finals = xmalloc((run->count + 1) * sizeof *finals);
    size_t count = run->count, left = 0;
    for (size_t i = 0; i < count; i++)
        finals[i] = (struct email_final){.record = run->records[i]};
    bool ok = count == 0 || email_record(run, finals, count, id_suffix, failed);
    for (size_t i = 0; ok && i < count; i++) {
        if (!finals[i].entered) {
            run->records[left++] = finals[i].record;
            continue;
        }
        struct email_job *job = xcalloc(1, sizeof *job);
        job->counted = finals[i].status;
        finals[i].record->state = job;
    }
    run->count = left;
    free(finals);
    return ok;
}

static bool email_apply(struct run *run, PGresult **failed)
{
    struct email_worker *w = run->worker;
    char suffix[MAILER_HOST_SIZE + sizeof ".email@"], host[MAILER_HOST_SIZE] = "localhost";
    struct run rest = *run;
    if (!w->has_code_key && !read_code_key(run, w, failed))
        return false;
    if (!w->has_code_key)
        return true;
    mailer_host(run->config->public_url, host);
    snprintf(suffix, sizeof suffix, ".email@%s", host);
    rest.records = xmalloc((run->count + 1) * sizeof(struct record *));
    memcpy(rest.records, run->records, run->count * sizeof(struct record *));
    bool ok = !transport_is(run->config, "discard") || enter_finals(&rest, suffix, failed);
    if (ok && rest.count > 0 && (ok = email_read_facts(&rest, suffix, &w->own, failed))) {
        plan(&rest);
        ok = enter(&rest, failed);
    }
    free(rest.records);
    return ok;
}

/* --- call --- */

static void deliver(const struct run *run, struct email_worker *w, struct record *r)
{
    static const enum outcome outcomes[] = {[SMTP_SENT] = OUTCOME_DONE,
                                            [SMTP_RETRY] = OUTCOME_RETRY,
                                            [SMTP_REJECT] = OUTCOME_REJECT,
                                            [SMTP_UNAVAILABLE] = OUTCOME_UNAVAILABLE};
    const struct email_job *job = r->state;
    char why[200], id[UUID_TEXT_SIZE];
    email_parts_clear(&w->parts);
    email_text(&w->texts, run->config, &r->event, &job->facts, w->code_key, clock_wall_us() / 1000000, &w->parts);
    uuid_format(r->event.id, id);
    const struct mailer_mail mail = {
        .to = job->facts.recipient,
        .message_id = job->message_id,
        .subject = buf_cstr(&w->parts.subject),
        .text = buf_cstr(&w->parts.text),
        .html = w->parts.html.len > 0 ? buf_cstr(&w->parts.html) : NULL,
        .unsubscribe_url = buf_cstr(&w->parts.unsubscribe_url),
        .file = id,
        .file_time_us = r->event.at_us,
    };
    enum smtp_end end = mailer_send(w->mailer, &mail, run->stop_at, why, sizeof why);
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

static bool email_give_up(struct run *run, PGresult **failed)
{
    struct buf events = {0}, reasons = {0};
    sql_array_begin(&events);
    sql_array_begin(&reasons);
    for (size_t i = 0; i < run->count; i++) {
        sql_array_uuid(&events, run->records[i]->event.id);
        sql_array_text(&reasons, run->records[i]->reason);
    }
    const char *const values[] = {sql_array_end(&events), sql_array_end(&reasons)};
    PGresult *r = run_sql(run, failed, "select mail_give_up($1, $2)", 2, values);
    PQclear(r);
    buf_free(&events);
    buf_free(&reasons);
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
    free(job->facts.reward);
    free(job);
}

const struct handler email_handler = {
    .group = "email-workers",
    .processes = "user.*, referral.verified, reward.earned, reward.released, campaign.milestone_reached",
    .types = EMAIL_TYPES,
    .ordered = true,
    .pool_size = email_pool_size,
    .run_max = email_run_max,
    .gathers = email_gathers,
    .check = email_check,
    .key = email_key,
    .worker_open = email_open,
    .worker_close = email_close,
    .apply = email_apply,
    .call = email_call,
    .settle = email_settle,
    .give_up = email_give_up,
    .release = email_release,
};
