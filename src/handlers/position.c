/* position-workers: keep the leaderboard. A run's records of one campaign are one update, however many they are: the
 * rows are computed from verified_referrals, the events only say whose changed. campaign.updated goes through all rows
 * of its campaign: points_per_referral counts for all its referrals. */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "handlers/handler.h"
#include "handlers/sql.h"

#define PAGE_ROWS "10000" /* tenths of a second when all of them change */

static void position_key(const struct event *e, struct buf *out)
{
    buf_add(out, e->campaign_id.b, sizeof e->campaign_id.b);
}

/* Each campaign of a run is a lock that is held until its end, and Postgres has room for some thousands in all. */
static size_t position_run_max(const struct config *c)
{
    (void)c;
    return 200;
}

static bool position_gathers(const struct config *c)
{
    (void)c;
    return true;
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

/* --- campaign.updated --- */

/* One page. *after: the place behind which it begins; where the next one does, -1 when there is none. */
static bool rebuild_page(struct run *run, struct record *record, int64_t *after, PGresult **failed)
{
    char campaign[UUID_TEXT_SIZE], version[24], place[24];
    uuid_format(record->event.campaign_id, campaign);
    snprintf(version, sizeof version, "%lld", (long long)record->event.version);
    snprintf(place, sizeof place, "%lld", (long long)*after);
    const char *const values[] = {campaign, version, place, PAGE_ROWS};
    PGresult *r = run_sql(run, failed, "select * from leaderboard_rebuild($1, $2, $3, $4)", 4, values);
    *after = r && !PQgetisnull(r, 0, 0) ? strtoll(PQgetvalue(r, 0, 0), NULL, 10) : -1;
    if (r && !PQgetisnull(r, 0, 1))
        record_fail(record, OUTCOME_REJECT, "%s", PQgetvalue(r, 0, 1));
    PQclear(r);
    return r != NULL;
}

/* A large campaign has many pages: each has the time that a step has. */
static bool rebuild(struct run *run, struct record *record, PGresult **failed)
{
    int64_t after = 0, step_us = run->deadline_us - clock_mono_us();
    while (after >= 0) {
        run->deadline_us = clock_mono_us() + step_us;
        if (!rebuild_page(run, record, &after, failed))
            return false;
    }
    return true;
}

static bool same_campaign(const struct record *a, const struct record *b)
{
    return uuid_equal(a->event.campaign_id, b->event.campaign_id);
}

/* A campaign's records stand together, and one pass serves them all: what it does comes from the campaign's row. */
static bool rebuild_all(struct run *run, struct record *const *records, size_t count, PGresult **failed)
{
    bool ok = true;
    for (size_t first = 0, next; ok && first < count; first = next) {
        next = first + 1;
        while (next < count && same_campaign(records[first], records[next]))
            next++;
        struct record *last = records[next - 1];
        ok = rebuild(run, last, failed);
        for (size_t i = first; i + 1 < next; i++)
            if (last->outcome != OUTCOME_DONE)
                record_fail(records[i], last->outcome, "%s", last->reason);
    }
    return ok;
}

/* --- a run --- */

/* All locks of the run at once, in order: update and rebuild, one after the other, would take them in any. */
static bool lock(struct run *run, struct record *const *records, size_t count, PGresult **failed)
{
    struct buf campaigns = {0};
    sql_array_begin(&campaigns);
    for (size_t i = 0; i < count; i++)
        sql_array_uuid(&campaigns, records[i]->event.campaign_id);
    const char *const values[] = {sql_array_end(&campaigns)};
    PGresult *r = run_sql(run, failed, "select leaderboard_lock($1)", 1, values);
    PQclear(r);
    buf_free(&campaigns);
    return r != NULL;
}

/* The records of one type that are not known, in order. Returns how many. */
static size_t pick(const struct run *run, enum event_type type, struct record **out)
{
    size_t count = 0;
    for (size_t i = 0; i < run->count; i++)
        if (!run->records[i]->known && run->records[i]->event.type == type)
            out[count++] = run->records[i];
    return count;
}

static bool position_apply(struct run *run, PGresult **failed)
{
    struct record **verified = xmalloc((run->count + 1) * sizeof(struct record *));
    struct record **updated = xmalloc((run->count + 1) * sizeof(struct record *));
    size_t verified_count = pick(run, EVENT_REFERRAL_VERIFIED, verified);
    size_t updated_count = pick(run, EVENT_CAMPAIGN_UPDATED, updated);
    bool ok = updated_count == 0 || lock(run, run->records, run->count, failed);
    if (ok && verified_count > 0)
        ok = update(run, verified, verified_count, failed);
    ok = ok && rebuild_all(run, updated, updated_count, failed);
    free(verified);
    free(updated);
    return ok;
}

const struct handler position_handler = {
    .group = "position-workers",
    .processes = "referral.verified, campaign.updated",
    .types = 1u << EVENT_REFERRAL_VERIFIED | 1u << EVENT_CAMPAIGN_UPDATED,
    .dedupe = true,
    .any_age = true, /* computed anew from the source of truth: doing it again does no harm */
    .fixed_pool = 1,
    .run_max = position_run_max,
    .gathers = position_gathers,
    .key = position_key,
    .apply = position_apply,
};
