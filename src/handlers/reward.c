/* reward-workers: each reward that is earned is delivered, by mail or by webhook, and has a row in `deliveries` for it.
 *
 *   apply   reads what the delivery is made of and enters the row as 'sending', if its saga (docs/saga.md) is not being given up
 *   call    sends the mail, or makes the webhook's call; both have an id that stays the same, so that the far side can
 *           know a repeat
 *   settle  'delivered', 'failed' (rejected, or all attempts spent), or 'sending' still (tried again)
 *
 * A row that is 'sending' already was left by a crash or a failed attempt: the call is made (again). Any other row is
 * the memory that the event was handled. A lane of the campaign ends the saga: confirms what was delivered, releases what
 * has failed. One that nobody could deliver within REWARD_DEADLINE_SECONDS is given up; so that none is delivered after
 * that, an attempt is a lease: call begins it within CALL_WITHIN_MS of apply, or not at all.
 *
 * One record is one run, so that a slow target holds up nobody else of its run; and one target has a share of the
 * workers at most (turns.h), so that it cannot hold up the group. The mail server is a target like others: when it is
 * away, webhooks go on. */
#include "handlers/reward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "delivery/mailer.h"
#include "delivery/webhook.h"
#include "handlers/handler.h"
#include "handlers/sql.h"
#include "handlers/turns.h"

#define MAIL_TARGET "mail"
#define MAIL_SHARE 2    /* half of the workers */
#define WEBHOOK_SHARE 4 /* a quarter of them per target */
#define MAIL_AWAY_MIN_MS 500
#define MAIL_AWAY_MAX_MS 5000
#define MAIL_RECENT_US 2000000
#define CALL_WITHIN_MS 10000
#define LEASE_SPARE_MS 20000 /* what a call takes beyond its time-out, at worst */

struct reward_worker {
    struct template *template;
    struct mailer *mailer;
    struct webhook *webhook;
    char host[MAILER_HOST_SIZE]; /* where message ids are at home */
    struct buf subject, body, html;
};

/* record->state */
struct reward_job {
    struct reward_facts facts;
    int64_t begun_us;    /* clock_mono_us from which the lease counts, at the latest */
    int64_t begun_s;     /* then, in seconds since 1970 by Postgres' clock */
    int http_status;     /* of this attempt's answer; 0: none */
    const char *counted; /* what M_DELIVERIES counts when the run has ended; NULL: nothing */
};

/* --- workers --- */

static int64_t reward_pool_size(const struct config *c)
{
    return config_pool_size(c, c->reward_pool_size);
}

static size_t reward_run_max(const struct config *c)
{
    (void)c;
    return 1;
}

static void *reward_open(const struct config *c)
{
    char why[256];
    struct reward_worker *w = xcalloc(1, sizeof *w);
    w->template = reward_template(c, why, sizeof why);
    if (!w->template) {
        log_error("a mail template cannot be read any more", "error", why); /* it could at start */
        abort();
    }
    mailer_host(c->public_url, w->host);
    w->mailer = mailer_open(c);
    w->webhook = webhook_open(c);
    return w;
}

static void reward_close(void *worker)
{
    struct reward_worker *w = worker;
    template_free(w->template);
    mailer_close(w->mailer);
    webhook_close(w->webhook);
    buf_free(&w->subject);
    buf_free(&w->body);
    buf_free(&w->html);
    free(w);
}

static struct uuid user_reward_id(const struct event *e)
{
    return event_data_uuid(e, "user_reward_id");
}

static void reward_key(const struct event *e, struct buf *out)
{
    struct uuid id = user_reward_id(e);
    buf_add(out, id.b, sizeof id.b);
}

/* --- apply --- */

/* delivery_read's columns, and the time */
enum {
    CAMPAIGN_NO,
    DELETED,
    CAMPAIGN_NAME,
    EMAIL,
    REWARD_NO,
    REWARD_NAME,
    KIND,
    URL,
    SECRET,
    MESSAGE,
    EARNED,
    STATUS,
    NOW
};

static bool is_true(const PGresult *r, int row, int column)
{
    return PQgetvalue(r, row, column)[0] == 't';
}

/* Whether there is something to be delivered; else the record is rejected, or done if its campaign was deleted. */
static bool is_owed(struct record *record, const PGresult *r, int row)
{
    const struct event *e = &record->event;
    char campaign[UUID_TEXT_SIZE];
    uuid_format(e->campaign_id, campaign);
    if (PQgetisnull(r, row, CAMPAIGN_NO))
        record_fail(record, OUTCOME_REJECT, "campaign %s does not exist", campaign);
    else if (is_true(r, row, DELETED))
        return false;
    else if (PQgetisnull(r, row, EMAIL))
        record_fail(record, OUTCOME_REJECT, "campaign %s has no user %s", campaign, event_data_text(e, "user_id"));
    else if (PQgetisnull(r, row, REWARD_NO))
        record_fail(record, OUTCOME_REJECT, "campaign %s has no reward %s", campaign, event_data_text(e, "reward_id"));
    else if (!is_true(r, row, EARNED))
        record_fail(record, OUTCOME_REJECT, "the user has not earned %s", event_data_text(e, "user_reward_id"));
    return record->outcome == OUTCOME_DONE;
}

static void take_facts(struct record *record, const PGresult *r, int row)
{
    record->known = !PQgetisnull(r, row, STATUS) && strcmp(PQgetvalue(r, row, STATUS), "sending") != 0;
    if (record->known || !is_owed(record, r, row))
        return;
    struct reward_job *job = xcalloc(1, sizeof *job);
    record->state = job;
    job->begun_s = strtoll(PQgetvalue(r, row, NOW), NULL, 10);
    job->facts = (struct reward_facts){
        .campaign_no = (int)strtol(PQgetvalue(r, row, CAMPAIGN_NO), NULL, 10),
        .reward_no = (int)strtol(PQgetvalue(r, row, REWARD_NO), NULL, 10),
        .webhook = strcmp(PQgetvalue(r, row, KIND), "webhook") == 0,
        .campaign_name = sql_copy(r, row, CAMPAIGN_NAME),
        .email = sql_copy(r, row, EMAIL),
        .reward_name = sql_copy(r, row, REWARD_NAME),
        .url = sql_copy(r, row, URL),
        .secret = sql_copy(r, row, SECRET),
        .message = sql_copy(r, row, MESSAGE),
    };
    if (job->facts.webhook && (!job->facts.url || !job->facts.secret))
        record_fail(record, OUTCOME_REJECT, "the reward's webhook has no URL or no secret");
}

static bool read_facts(struct run *run, PGresult **failed)
{
    static const char *const members[] = {"user_reward_id", "campaign_id", "user_id", "reward_id"};
    struct buf arrays[4] = {{0}};
    const char *values[4];
    for (size_t m = 0; m < 4; m++) {
        sql_array_begin(&arrays[m]);
        for (size_t i = 0; i < run->count; i++)
            sql_array_uuid(&arrays[m], event_data_uuid(&run->records[i]->event, members[m]));
        values[m] = sql_array_end(&arrays[m]);
    }
    PGresult *r = run_sql(run, failed,
                          "select *, extract(epoch from clock_timestamp())::bigint from delivery_read($1, $2, $3, $4)",
                          4, values);
    for (size_t i = 0; r && i < run->count && (int)i < PQntuples(r); i++)
        take_facts(run->records[i], r, (int)i);
    PQclear(r);
    for (size_t m = 0; m < 4; m++)
        buf_free(&arrays[m]);
    return r != NULL;
}

static bool is_wanted(const struct record *r)
{
    return r->state && r->outcome == OUTCOME_DONE;
}

/* Twice what an attempt takes at worst: a lease is renewed when half of it is over, so each attempt has the other half. */
static int64_t lease_ms(const struct config *c)
{
    int64_t call = c->smtp_timeout_ms > c->webhook_timeout_ms ? c->smtp_timeout_ms : c->webhook_timeout_ms;
    return 2 * (CALL_WITHIN_MS + call + LEASE_SPARE_MS);
}

/* Enters the rows of what is to be delivered, and calls for what is 'sending'. */
static bool enter(struct run *run, PGresult **failed)
{
    char lease[24], deadline[24];
    struct buf user_rewards = {0}, events = {0}, campaigns = {0}, rewards = {0}, places = {0}, kinds = {0},
               targets = {0};
    struct buf *const arrays[] = {&user_rewards, &events, &campaigns, &rewards, &places, &kinds, &targets};
    const char *values[9] = {[7] = lease, [8] = deadline};
    snprintf(deadline, sizeof deadline, "%lld", (long long)run->config->reward_deadline_s);
    snprintf(lease, sizeof lease, "%lld", (long long)lease_ms(run->config));
    for (int i = 0; i < 7; i++)
        sql_array_begin(arrays[i]);
    for (size_t i = 0; i < run->count; i++) {
        const struct event *e = &run->records[i]->event;
        struct reward_job *job = run->records[i]->state;
        if (!is_wanted(run->records[i]))
            continue;
        job->begun_us = clock_mono_us();
        sql_array_uuid(&user_rewards, user_reward_id(e));
        sql_array_uuid(&events, e->id);
        sql_array_int(&campaigns, job->facts.campaign_no);
        sql_array_int(&rewards, job->facts.reward_no);
        sql_array_int(&places, uuid_place(event_data_uuid(e, "user_id")));
        sql_array_text(&kinds, job->facts.webhook ? "webhook" : "email");
        sql_array_text(&targets, job->facts.webhook ? job->facts.url : job->facts.email);
    }
    for (int i = 0; i < 7; i++)
        values[i] = sql_array_end(arrays[i]);
    PGresult *r = run_sql(run, failed, "select delivery_begin($1, $2, $3, $4, $5, $6, $7, $8, $9)", 9, values);
    int row = 0;
    for (size_t i = 0; r && i < run->count && row < PQntuples(r); i++)
        if (is_wanted(run->records[i])) {
            run->records[i]->call = strcmp(PQgetvalue(r, row++, 0), "sending") == 0;
            run->records[i]->known = !run->records[i]->call; /* another process was faster, or it is given up */
        }
    PQclear(r);
    for (int i = 0; i < 7; i++)
        buf_free(arrays[i]);
    return r != NULL;
}

static bool reward_apply(struct run *run, PGresult **failed)
{
    if (!read_facts(run, failed))
        return false;
    for (size_t i = 0; i < run->count; i++)
        if (is_wanted(run->records[i]))
            return enter(run, failed);
    return true;
}

/* --- call --- */

/* When the target says so, but no sooner than by the usual back-off. 0: the usual one. */
static int64_t retry_after_ms(const struct config *c, const struct record *r, int64_t wait_s)
{
    int64_t usual = backoff_ms(r->attempt, c->retry_base_ms, c->retry_max_ms);
    return wait_s == 0 ? 0 : wait_s * 1000 > usual ? wait_s * 1000 : usual;
}

static void call_webhook(const struct run *run, struct reward_worker *w, struct record *r)
{
    static const enum outcome outcomes[] = {[WEBHOOK_DELIVERED] = OUTCOME_DONE,
                                            [WEBHOOK_RETRY] = OUTCOME_RETRY,
                                            [WEBHOOK_GONE] = OUTCOME_REJECT,
                                            [WEBHOOK_REJECT] = OUTCOME_REJECT,
                                            [WEBHOOK_STOPPED] = OUTCOME_UNAVAILABLE};
    struct reward_job *job = r->state;
    struct webhook_answer answer;
    char id[sizeof "msg_" + UUID_TEXT_SIZE];
    buf_clear(&w->body);
    reward_body(&r->event, &job->facts, &w->body);
    snprintf(id, sizeof id, "msg_%s", event_data_text(&r->event, "user_reward_id"));
    const struct webhook_call call = {
        .url = job->facts.url,
        .secret = job->facts.secret,
        .id = id,
        .body = w->body.data,
        .body_len = w->body.len,
        .now_s = job->begun_s + (clock_mono_us() - job->begun_us) / 1000000,
    };
    enum webhook_end end = webhook_send(w->webhook, &call, run->stop_at, &answer);
    job->http_status = answer.status;
    if (end == WEBHOOK_DELIVERED)
        return;
    if (end == WEBHOOK_RETRY)
        r->later_ms = retry_after_ms(run->config, r, answer.wait_s);
    record_fail(r, outcomes[end], "%s", answer.why);
}

/* The mail server being away is no attempt of the mail's, unless others get through: then it may be the mail itself
 * at which the server stalls. */
static void mail_unavailable(const struct run *run, struct record *r, int64_t started_us, const char *why)
{
    if (run_stopping(run)) {
        record_fail(r, OUTCOME_UNAVAILABLE, "%s", why);
    } else if (turns_good_us(MAIL_TARGET) > started_us - MAIL_RECENT_US) {
        record_fail(r, OUTCOME_RETRY, "%s", why);
    } else {
        r->later_ms = backoff_ms(3, MAIL_AWAY_MIN_MS, MAIL_AWAY_MAX_MS);
        turns_hold(MAIL_TARGET, r->later_ms);
        record_fail(r, OUTCOME_LATER, "%s", why);
        log_warn("mails of rewards cannot be sent now, trying on", "reason", r->reason);
    }
}

static void send_mail(const struct run *run, struct reward_worker *w, struct record *r)
{
    const struct reward_job *job = r->state;
    const char *id = event_data_text(&r->event, "user_reward_id");
    char why[200], message_id[MAILER_HOST_SIZE + 64];
    int64_t started = clock_mono_us();
    buf_clear(&w->subject);
    buf_clear(&w->body);
    buf_clear(&w->html);
    reward_mail(w->template, &job->facts, &w->subject, &w->body, &w->html);
    snprintf(message_id, sizeof message_id, "%s.reward@%s", id, w->host);
    const struct mailer_mail mail = {
        .to = job->facts.email,
        .message_id = message_id,
        .subject = buf_cstr(&w->subject),
        .text = buf_cstr(&w->body),
        .html = w->html.len > 0 ? buf_cstr(&w->html) : NULL,
        .file = id, /* the event's id is the name of the notification's file */
        .file_time_us = r->event.at_us,
    };
    enum smtp_end end = mailer_send(w->mailer, &mail, run->stop_at, why, sizeof why);
    if (end == SMTP_UNAVAILABLE)
        mail_unavailable(run, r, started, why);
    else if (end != SMTP_SENT)
        record_fail(r, end == SMTP_RETRY ? OUTCOME_RETRY : OUTCOME_REJECT, "%s", why);
}

/* Where a delivery goes, and how many may go there at a time. 0: nowhere. */
static size_t target_of(const struct config *c, const struct reward_facts *facts, char target[WEBHOOK_ORIGIN_SIZE])
{
    size_t workers = (size_t)reward_pool_size(c);
    size_t share = facts->webhook ? WEBHOOK_SHARE : MAIL_SHARE;
    if (facts->webhook && !webhook_origin(facts->url, target))
        return 0;
    if (!facts->webhook)
        snprintf(target, WEBHOOK_ORIGIN_SIZE, "%s", MAIL_TARGET);
    return (workers + share - 1) / share;
}

static void deliver(const struct run *run, struct reward_worker *w, struct record *r)
{
    struct reward_job *job = r->state;
    char target[WEBHOOK_ORIGIN_SIZE];
    size_t limit = target_of(run->config, &job->facts, target);
    int64_t started = clock_mono_us();
    if (limit == 0) {
        record_fail(r, OUTCOME_REJECT, "the webhook's URL is none of http or https");
        return;
    }
    if (!turns_take(target, limit, &r->later_ms)) {
        record_fail(r, OUTCOME_LATER, "%s has its share of workers", target);
        return;
    }
    /* After the turn was taken: nothing is waited for any more. */
    if (clock_mono_us() - job->begun_us > CALL_WITHIN_MS * 1000)
        record_fail(r, OUTCOME_LATER, "the attempt's time was over before it could begin");
    else if (job->facts.webhook)
        call_webhook(run, w, r);
    else
        send_mail(run, w, r);
    turns_give(target, started, r->outcome == OUTCOME_DONE);
}

static void reward_call(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        struct reward_job *job = r->state;
        if (run_stopping(run))
            record_fail(r, OUTCOME_UNAVAILABLE, "the process is stopping");
        else
            deliver(run, run->worker, r);
        job->counted = r->outcome == OUTCOME_LATER ? "postponed" : NULL;
    }
}

/* --- settle --- */

static bool reward_settle(struct run *run, PGresult **failed)
{
    struct buf user_rewards = {0}, statuses = {0}, http_statuses = {0}, errors = {0};
    struct buf *const arrays[] = {&user_rewards, &statuses, &http_statuses, &errors};
    const char *values[4];
    for (int i = 0; i < 4; i++)
        sql_array_begin(arrays[i]);
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        struct reward_job *job = r->state;
        bool done = r->outcome == OUTCOME_DONE, rejected = r->outcome == OUTCOME_REJECT;
        job->counted = done ? "delivered" : rejected ? "failed" : "retried";
        sql_array_uuid(&user_rewards, user_reward_id(&r->event));
        sql_array_text(&statuses, done ? "delivered" : rejected ? "failed" : "sending");
        sql_array_text(&errors, done ? NULL : r->reason);
        if (job->http_status != 0)
            sql_array_int(&http_statuses, job->http_status);
        else
            sql_array_text(&http_statuses, NULL);
    }
    for (int i = 0; i < 4; i++)
        values[i] = sql_array_end(arrays[i]);
    PGresult *r = run_sql(run, failed, "select delivery_settle($1, $2, $3, $4)", 4, values);
    if (r && strtol(PQgetvalue(r, 0, 0), NULL, 10) > 0) {
        metric_inc(M_LATE_DELIVERIES);
        log_error("a reward was delivered although it had been released: its delivery took too long", "user_reward",
                  event_data_text(&run->records[0]->event, "user_reward_id"));
    }
    PQclear(r);
    for (int i = 0; i < 4; i++)
        buf_free(arrays[i]);
    return r != NULL;
}

static bool reward_give_up(struct run *run, PGresult **failed)
{
    struct buf user_rewards = {0}, events = {0}, reasons = {0};
    sql_array_begin(&user_rewards);
    sql_array_begin(&events);
    sql_array_begin(&reasons);
    for (size_t i = 0; i < run->count; i++) {
        sql_array_uuid(&user_rewards, user_reward_id(&run->records[i]->event));
        sql_array_uuid(&events, run->records[i]->event.id);
        sql_array_text(&reasons, run->records[i]->reason);
    }
    const char *const values[] = {sql_array_end(&user_rewards), sql_array_end(&events), sql_array_end(&reasons)};
    PGresult *r = run_sql(run, failed, "select delivery_give_up($1, $2, $3)", 3, values);
    PQclear(r);
    buf_free(&user_rewards);
    buf_free(&events);
    buf_free(&reasons);
    return r != NULL;
}

static void reward_release(struct record *r)
{
    struct reward_job *job = r->state;
    struct reward_facts *f = &job->facts;
    if (job->counted && r->outcome != OUTCOME_UNAVAILABLE)
        metric_add(metric_get(M_DELIVERIES, f->webhook ? "webhook" : "email", job->counted), 1);
    free(f->campaign_name);
    free(f->email);
    free(f->reward_name);
    free(f->url);
    free(f->secret);
    free(f->message);
    free(job);
}

const struct handler reward_handler = {
    .group = "reward-workers",
    .processes = "reward.earned",
    .types = 1u << EVENT_REWARD_EARNED,
    .pool_size = reward_pool_size,
    .run_max = reward_run_max,
    .check = reward_check,
    .key = reward_key,
    .worker_open = reward_open,
    .worker_close = reward_close,
    .apply = reward_apply,
    .call = reward_call,
    .settle = reward_settle,
    .give_up = reward_give_up,
    .release = reward_release,
};
