/* Calling accounts' webhooks: what is due in `webhook_deliveries`, wherever it was entered.
 *
 *   find    claims deliveries under a lease, endpoint by endpoint, of each only so many at a time (sql/fn_webhooks.sql)
 *   call    sends one, with an id that stays the same, so that the far side can know a repeat
 *   settle  says what came of it, and when to try again
 *
 * What a process had when it died is called again by whoever finds it when its lease has ended. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "delivery/schedule.h"
#include "delivery/webhook.h"
#include "handlers/sql.h"
#include "handlers/webhook.h"

#define TEST_TYPE "webhook.test"
#define TRIM_ROWS 1000
#define NUMBER_SIZE 24

enum piece_end { END_RELEASED, END_DELIVERED, END_RETRY, END_FAILED, END_GONE, END_CANCELLED };

static const struct {
    const char *name;    /* for webhook_settle */
    const char *counted; /* in M_WEBHOOKS */
} ends[] = {
    [END_RELEASED] = {"released", "stopped"}, [END_DELIVERED] = {"delivered", "delivered"},
    [END_RETRY] = {"retry", "retried"},       [END_FAILED] = {"failed", "failed"},
    [END_GONE] = {"gone", "failed"},          [END_CANCELLED] = {"cancelled", "cancelled"},
};

/* A delivery that was claimed. */
struct piece {
    char *webhook, *event, *lease, *type; /* as webhook_claim gave them */
    int64_t tries;
    char *url, *secret, *old_secret, *body;
    enum piece_end end;
    int64_t wait_ms;               /* with END_RETRY */
    int64_t claimed_us, claimed_s; /* when: by clock_mono_us, and seconds since 1970 by Postgres' clock */
    struct webhook_answer answer;
};

/* webhook_claim's columns */
enum { WEBHOOK, EVENT, LEASE, TYPE, TRIES, URL, SECRET, OLD_SECRET, BODY };

static size_t calls_workers(const struct config *c)
{
    return (size_t)c->webhook_pool_size;
}

static void *calls_open(const struct config *c)
{
    return webhook_open(c);
}

static void calls_close(void *worker)
{
    webhook_close(worker);
}

/* --- find --- */

/* As long as a call takes at worst, and what comes before and after it: each some statements that do not end. */
static int64_t lease_ms(const struct config *c)
{
    return c->webhook_timeout_ms + 4 * c->db_stall_ms;
}

static struct piece *piece_of(const struct config *c, const PGresult *r, int row)
{
    struct piece *p = xcalloc(1, sizeof *p);
    p->webhook = sql_copy(r, row, WEBHOOK);
    p->event = sql_copy(r, row, EVENT);
    p->lease = sql_copy(r, row, LEASE);
    p->claimed_us = clock_mono_us();
    p->claimed_s = (strtoll(p->lease, NULL, 10) / 1000 - lease_ms(c)) / 1000;
    p->type = sql_copy(r, row, TYPE);
    p->tries = strtoll(PQgetvalue(r, row, TRIES), NULL, 10);
    p->url = sql_copy(r, row, URL);
    p->secret = sql_copy(r, row, SECRET);
    p->old_secret = sql_copy(r, row, OLD_SECRET);
    p->body = sql_copy(r, row, BODY);
    return p;
}

static void calls_release(void *piece)
{
    struct piece *p = piece;
    free(p->webhook);
    free(p->event);
    free(p->lease);
    free(p->type);
    free(p->url);
    free(p->secret);
    free(p->old_secret);
    free(p->body);
    free(p);
}

/* An account with many slow endpoints must not have all threads. */
static int64_t account_share(const struct config *c)
{
    int64_t share = c->webhook_pool_size * 3 / 4;
    return share > 1 ? share : 1;
}

static bool calls_find(struct run *run, int64_t *position, void **pieces, size_t limit, size_t *count,
                       PGresult **failed)
{
    char after[NUMBER_SIZE], most[NUMBER_SIZE], each[NUMBER_SIZE], share[NUMBER_SIZE], lease[NUMBER_SIZE];
    const char *const values[] = {after, most, each, share, lease};
    snprintf(after, sizeof after, "%" PRId64, *position);
    snprintf(most, sizeof most, "%zu", limit);
    snprintf(each, sizeof each, "%" PRId64, run->config->webhook_calls);
    snprintf(share, sizeof share, "%" PRId64, account_share(run->config));
    snprintf(lease, sizeof lease, "%" PRId64, lease_ms(run->config));
    PGresult *r = run_sql(run, failed, "select * from webhook_claim($1, $2, $3, $4, $5)", 5, values);
    for (int i = 0; r && i < PQntuples(r) && *count < limit; i++) {
        struct piece *p = piece_of(run->config, r, i);
        *position = strtoll(p->webhook, NULL, 10);
        pieces[(*count)++] = p;
    }
    PQclear(r);
    return r != NULL;
}

/* --- call --- */

static void note_failure(const struct config *c, struct piece *p)
{
    struct schedule s;
    char why[120];
    bool known = schedule_read(c->webhook_schedule, &s, why, sizeof why); /* it could at start */
    p->wait_ms = known ? schedule_wait_ms(&s, p->tries, p->answer.wait_s * 1000) : -1;
    p->end = p->wait_ms < 0 || strcmp(p->type, TEST_TYPE) == 0 ? END_FAILED : END_RETRY;
}

static void calls_call(struct run *run, void *piece)
{
    struct piece *p = piece;
    char id[sizeof "msg_" + UUID_TEXT_SIZE];
    if (!p->body) {
        snprintf(p->answer.why, sizeof p->answer.why, "the campaign was deleted");
        p->end = END_CANCELLED;
        return;
    }
    int64_t started = clock_mono_us();
    snprintf(id, sizeof id, "msg_%s", p->event);
    const struct webhook_call call = {.url = p->url,
                                      .secret = p->secret,
                                      .old_secret = p->old_secret,
                                      .id = id,
                                      .body = p->body,
                                      .body_len = strlen(p->body),
                                      .now_s = p->claimed_s + (started - p->claimed_us) / 1000000};
    switch (webhook_send(run->worker, &call, run->stop_at, &p->answer)) {
    case WEBHOOK_DELIVERED: p->end = END_DELIVERED; break;
    case WEBHOOK_GONE: p->end = END_GONE; break;
    case WEBHOOK_STOPPED: p->end = END_RELEASED; break;
    case WEBHOOK_RETRY:
    case WEBHOOK_REJECT: note_failure(run->config, p); break; /* its people may mend that, too */
    }
    metric_seen(M_WEBHOOK_SECONDS, clock_mono_us() - started);
    text_clean(p->answer.why);
    text_clean(p->answer.body);
}

/* --- settle --- */

static bool calls_settle(struct run *run, void *piece, PGresult **failed)
{
    struct piece *p = piece;
    const struct webhook_answer *a = &p->answer;
    char status[NUMBER_SIZE], wait[NUMBER_SIZE], disable[NUMBER_SIZE];
    const char *const values[] = {p->webhook,
                                  p->event,
                                  p->lease,
                                  p->url,
                                  ends[p->end].name,
                                  a->status != 0 ? status : NULL,
                                  a->why[0] ? a->why : NULL,
                                  a->status != 0 ? a->body : NULL,
                                  wait,
                                  disable};
    snprintf(status, sizeof status, "%d", a->status);
    snprintf(wait, sizeof wait, "%" PRId64, p->wait_ms);
    snprintf(disable, sizeof disable, "%" PRId64, run->config->webhook_disable_s);
    PGresult *r = run_sql(run, failed, "select webhook_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", 10, values);
    if (r)
        metric_add(metric_get(M_WEBHOOKS, ends[p->end].counted, NULL), 1);
    PQclear(r);
    return r != NULL;
}

static bool calls_trim(struct run *run, bool *more, PGresult **failed)
{
    char keep[NUMBER_SIZE], keys[NUMBER_SIZE], rows[NUMBER_SIZE];
    const char *const values[] = {keep, keys, rows};
    snprintf(keys, sizeof keys, "%" PRId64, run->config->idempotency_keep_s);
    snprintf(keep, sizeof keep, "%" PRId64, run->config->webhook_keep_days);
    snprintf(rows, sizeof rows, "%d", TRIM_ROWS);
    PGresult *r = run_sql(run, failed, "select webhook_trim($1, $2, $3)", 3, values);
    *more = r && strtoll(PQgetvalue(r, 0, 0), NULL, 10) >= TRIM_ROWS;
    PQclear(r);
    return r != NULL;
}

const struct chores webhook_chores = {
    .workers = calls_workers,
    .worker_open = calls_open,
    .worker_close = calls_close,
    .find = calls_find,
    .call = calls_call,
    .settle = calls_settle,
    .release = calls_release,
    .trim = calls_trim,
};
