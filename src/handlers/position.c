/* position-workers: keep the leaderboard. A run's records of one campaign are one update, however many they are: the
 * rows are computed from verified_referrals, the events only say whose changed. */
#include <stdlib.h>

#include "handlers/handler.h"
#include "handlers/sql.h"

static void position_key(const struct event *e, struct buf *out)
{
    buf_add(out, e->campaign_id.b, sizeof e->campaign_id.b);
}

/* Records that the update left out, by their places in its arrays. */
static void mark_problems(struct record *const *updated, size_t count, const PGresult *r)
{
    for (int row = 0; row < PQntuples(r); row++) {
        long place = strtol(PQgetvalue(r, row, 0), NULL, 10); /* from 1 */
        if (place >= 1 && (size_t)place <= count)
            record_fail(updated[place - 1], OUTCOME_REJECT, "%s", PQgetvalue(r, row, 1));
    }
}

static bool update(struct run *run, struct record *const *records, size_t count, PGresult **failed)
{
    struct buf campaigns = {0}, referrers = {0}, places = {0}, versions = {0};
    sql_array_begin(&campaigns);
    sql_array_begin(&referrers);
    sql_array_begin(&places);
    sql_array_begin(&versions);
    for (size_t i = 0; i < count; i++) {
        const struct event *e = &records[i]->event;
        struct uuid referrer = event_data_uuid(e, "referrer_id");
        sql_array_uuid(&campaigns, e->campaign_id);
        sql_array_uuid(&referrers, referrer);
        sql_array_int(&places, uuid_place(referrer));
        sql_array_int(&versions, e->version);
    }
    const char *const values[] = {sql_array_end(&campaigns), sql_array_end(&referrers), sql_array_end(&places),
                                  sql_array_end(&versions)};
    PGresult *r = run_sql(run, failed, "select * from leaderboard_update($1, $2, $3, $4)", 4, values);
    if (r)
        mark_problems(records, count, r);
    PQclear(r);
    buf_free(&campaigns);
    buf_free(&referrers);
    buf_free(&places);
    buf_free(&versions);
    return r != NULL;
}

static bool position_apply(struct run *run, PGresult **failed)
{
    struct record **records = xmalloc((run->count + 1) * sizeof(struct record *));
    size_t count = 0;
    for (size_t i = 0; i < run->count; i++)
        if (!run->records[i]->known)
            records[count++] = run->records[i];
    bool ok = count == 0 || update(run, records, count, failed);
    free(records);
    return ok;
}

const struct handler position_handler = {
    .group = "position-workers",
    .processes = "referral.verified",
    .types = 1u << EVENT_REFERRAL_VERIFIED,
    .dedupe = true,
    .any_age = true, /* computed anew from the source of truth: doing it again does no harm */
    .fixed_pool = 1,
    .key = position_key,
    .apply = position_apply,
};
