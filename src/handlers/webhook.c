/* webhook-workers: every event goes to those of its account's endpoints that want its type. Here its deliveries are entered, a row
 * of `webhook_deliveries` for each; when and how they are called is no matter of the records: webhook_calls.c.
 *
 * A row stands under endpoint and event, so an event that comes again adds nothing. */
#include "handlers/webhook.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/metrics.h"
#include "delivery/schedule.h"
#include "handlers/sql.h"

enum { COLUMNS = 6 }; /* of an event, for webhook_fan_out */

/* Runs are set-based, and rows of one account need no order: by campaign they spread. */
static void webhook_key(const struct event *e, struct buf *out)
{
    struct uuid none = {{0}};
    const struct uuid *id = uuid_equal(e->campaign_id, none) ? &e->account_id : &e->campaign_id;
    buf_add(out, id->b, sizeof id->b);
}

static bool webhook_gathers(const struct config *c)
{
    (void)c;
    return true;
}

static bool webhook_check(const struct config *c, char *why, size_t why_size)
{
    struct schedule s;
    char fault[120];
    bool ok = schedule_read(c->webhook_schedule, &s, fault, sizeof fault);
    if (!ok)
        snprintf(why, why_size, "WEBHOOK_RETRY_SCHEDULE: %s", fault);
    return ok;
}

static void add_event(const struct event *e, struct buf arrays[COLUMNS])
{
    char at[RFC3339_SIZE];
    rfc3339_format(e->at_us, at);
    sql_array_uuid(&arrays[0], e->id);
    sql_array_uuid(&arrays[1], e->account_id);
    if (uuid_equal(e->campaign_id, (struct uuid){{0}}))
        sql_array_text(&arrays[2], NULL);
    else
        sql_array_uuid(&arrays[2], e->campaign_id);
    sql_array_int(&arrays[3], e->version);
    sql_array_text(&arrays[4], event_type_name(e->type));
    sql_array_text(&arrays[5], at);
}

/* Which of the run's accounts have endpoints: of most runs none has, and then that is all. */
static PGresult *subscribers(struct run *run, PGresult **failed)
{
    struct buf accounts = {0};
    struct uuid last = {{0}};
    sql_array_begin(&accounts);
    for (size_t i = 0; i < run->count; i++) {
        struct uuid account = run->records[i]->event.account_id;
        if (!uuid_equal(account, last)) /* they come in clusters; the rest are few enough to be told twice */
            sql_array_uuid(&accounts, account);
        last = account;
    }
    const char *const values[] = {sql_array_end(&accounts)};
    PGresult *r = run_sql(run, failed, "select * from webhook_subscribers($1)", 1, values);
    buf_free(&accounts);
    return r;
}

static bool is_subscriber(struct uuid account, const PGresult *subscribers)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(account, text);
    for (int i = 0; i < PQntuples(subscribers); i++)
        if (strcmp(PQgetvalue(subscribers, i, 0), text) == 0)
            return true;
    return false;
}

/* Enters the deliveries of the subscribers' events. */
static bool fan_out(struct run *run, const PGresult *subscribers, PGresult **failed)
{
    struct buf arrays[COLUMNS] = {{0}};
    const char *values[COLUMNS + 1];
    char keep[24];
    for (int i = 0; i < COLUMNS; i++)
        sql_array_begin(&arrays[i]);
    for (size_t i = 0; i < run->count; i++)
        if (is_subscriber(run->records[i]->event.account_id, subscribers))
            add_event(&run->records[i]->event, arrays);
    for (int i = 0; i < COLUMNS; i++)
        values[i] = sql_array_end(&arrays[i]);
    snprintf(keep, sizeof keep, "%" PRId64, run->config->webhook_keep_days);
    values[COLUMNS] = keep;
    PGresult *r = run_sql(run, failed, "select webhook_fan_out($1, $2, $3, $4, $5, $6, $7)", COLUMNS + 1, values);
    bool ok = r != NULL;
    if (ok)
        metric_add(metric_get(M_WEBHOOKS_ENTERED, NULL, NULL), strtoll(PQgetvalue(r, 0, 0), NULL, 10));
    PQclear(r);
    for (int i = 0; i < COLUMNS; i++)
        buf_free(&arrays[i]);
    return ok;
}

static bool webhook_apply(struct run *run, PGresult **failed)
{
    PGresult *r = subscribers(run, failed);
    bool ok = r && (PQntuples(r) == 0 || fan_out(run, r, failed));
    PQclear(r);
    return ok;
}

const struct handler webhook_handler = {
    .group = WEBHOOK_GROUP,
    .processes = "all events",
    .types = ((1u << EVENT_TYPE_MAX) - 1) & ~(1u << EVENT_NONE),
    .fixed_pool = 2, /* of the runs; calls have threads of their own */
    .gathers = webhook_gathers,
    .check = webhook_check,
    .key = webhook_key,
    .apply = webhook_apply,
    .chores = &webhook_chores,
};
