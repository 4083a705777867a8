/* fraud-workers: count for each referrer how many users he brought in each hour, so that somebody can look at those who
 * bring in too many. The example of docs/adding-a-consumer.md; its table is in fraud.sql. */
#include "core/clock.h"
#include "handlers/handler.h"
#include "handlers/sql.h"

/* What must stay in order, and what two workers must not do at once: one referrer's row. */
static void fraud_key(const struct event *e, struct buf *out)
{
    struct uuid referrer = event_data_uuid(e, "referrer_id");
    buf_add(out, referrer.b, sizeof referrer.b);
}

/* One statement for the whole run. Rows are written in one order, so that two processes cannot deadlock. */
static const char COUNT[] =
    "insert into fraud_counts as c (referrer_id, hour, campaign_id, referrals)"
    " select g.referrer, date_trunc('hour', g.at), g.campaign, count(*)"
    " from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as g (referrer, campaign, at)"
    " group by 1, 2, 3 order by 1, 2"
    " on conflict (referrer_id, hour) do update set referrals = c.referrals + excluded.referrals";

static bool fraud_apply(struct run *run, PGresult **failed)
{
    struct buf referrers = {0}, campaigns = {0}, times = {0};
    sql_array_begin(&referrers);
    sql_array_begin(&campaigns);
    sql_array_begin(&times);
    for (size_t i = 0; i < run->count; i++) {
        const struct event *e = &run->records[i]->event;
        char at[RFC3339_SIZE];
        if (run->records[i]->known) /* counted before: the event came again */
            continue;
        rfc3339_format(e->at_us, at);
        sql_array_uuid(&referrers, event_data_uuid(e, "referrer_id"));
        sql_array_uuid(&campaigns, e->campaign_id);
        sql_array_text(&times, at);
    }
    const char *const values[] = {sql_array_end(&referrers), sql_array_end(&campaigns), sql_array_end(&times)};
    PGresult *r = run_sql(run, failed, COUNT, 3, values);
    bool ok = r != NULL;
    PQclear(r);
    buf_free(&referrers);
    buf_free(&campaigns);
    buf_free(&times);
    return ok;
}

const struct handler fraud_handler = {
    .group = "fraud-workers",
    .processes = "referral.created",
    .types = 1u << EVENT_REFERRAL_CREATED,
    .dedupe = true,
    .key = fraud_key,
    .apply = fraud_apply,
};
