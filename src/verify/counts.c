/* What analytics-workers keep: in Postgres the counts are those of the events that they have claimed, and of each key the last
 * committed value in STATS_TOPIC is what Postgres has. The first holds at any moment. The second is a moment behind: what
 * differs is looked at again when the group has committed what it had then, until it agrees, or stays as it is and does not. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "verify/published.h"
#include "verify/verify_int.h"

enum { CAMPAIGNS = 100, MINUTES = 2000, DOUBTS = 2000, CATCH_UP_MS = 10000, ROUNDS = 5 };
#define DAY_US 86400000000LL
#define HOUR_US 3600000000LL
#define MINUTE_US 60000000LL

struct doubt {
    struct uuid campaign;
    int64_t minute_us;
    uint64_t before, now; /* hashes of what Postgres has; 0: nothing */
    bool gone;
};

struct counts {
    struct verify *verify;
    size_t group;
    char from[RFC3339_SIZE]; /* minutes before it are not judged */
    int64_t from_us;
    char campaign[16]; /* campaigns.no, or "" */
    struct buf names;
    struct published *published;
    struct doubt doubts[DOUBTS];
    size_t count;
};

static const char *only(const struct counts *c)
{
    return c->campaign[0] ? c->campaign : NULL;
}

static void blame(struct counts *c, struct uuid campaign, const char *minute, const char *what)
{
    struct culprit culprit = CULPRIT_INIT;
    culprit.aggregate = campaign;
    snprintf(culprit.note, sizeof culprit.note, "the counts of %.16s: %s", minute, what);
    report_add_group(c->verify->report, c->group, GROUP_DOUBLED, &culprit);
}

/* --- Postgres against the events --- */

/* "{…,…}" of ids, and of times, which come without quotes. */
static void blame_all(struct counts *c, const char *ids, const char *minutes)
{
    struct uuid id;
    for (const char *at = ids + 1, *minute = minutes + 1; uuid_parse(at, strcspn(at, ",}"), &id);
         at += UUID_TEXT_SIZE) {
        blame(c, id, minute, "they are not those of the events");
        minute += strcspn(minute, ",}") + 1;
        if (at[UUID_TEXT_SIZE - 1] == '}')
            break;
    }
}

static bool verify_table(struct counts *c)
{
    struct verify *v = c->verify;
    char after[16] = "0", limit[16];
    const char *const values[] = {after, limit, only(c), c->from};
    bool more = true;
    snprintf(limit, sizeof limit, "%d", CAMPAIGNS);
    while (more) {
        PGresult *r = rows_ask_text(v->ask, "select * from verify_counts($1::int, $2::int, $3::int, $4::timestamptz)",
                                    4, values, v->why, v->why_size);
        if (!r)
            return false;
        blame_all(c, PQgetvalue(r, 0, 2), PQgetvalue(r, 0, 3));
        more = strtol(PQgetvalue(r, 0, 1), NULL, 10) == CAMPAIGNS;
        snprintf(after, sizeof after, "%s", PQgetvalue(r, 0, 0));
        PQclear(r);
    }
    return true;
}

/* --- the topic against Postgres --- */

/* What Postgres has of the doubtful ones now. */
static bool look_again(struct counts *c)
{
    struct verify *v = c->verify;
    struct buf campaigns = {0}, minutes = {0};
    array_begin(&campaigns);
    array_begin(&minutes);
    for (size_t i = 0; i < c->count; i++) {
        char at[RFC3339_SIZE];
        rfc3339_format(c->doubts[i].minute_us, at);
        array_uuid(&campaigns, c->doubts[i].campaign);
        buf_printf(&minutes, "%s%s", i ? "," : "", at);
    }
    const char *const values[] = {array_end(&campaigns), array_end(&minutes), buf_cstr(&c->names)};
    PGresult *r = rows_ask_text(v->ask, "select * from verify_stats_again($1::uuid[], $2::timestamptz[], $3::text[])",
                                3, values, v->why, v->why_size);
    for (int i = 0; r && i < PQntuples(r) && (size_t)i < c->count; i++) {
        struct doubt *d = &c->doubts[i];
        d->before = d->now;
        d->gone = PQgetvalue(r, i, 1)[0] == 't';
        d->now = PQgetisnull(r, i, 2) ? 0 : published_hash(PQgetvalue(r, i, 2), strlen(PQgetvalue(r, i, 2)));
    }
    PQclear(r);
    buf_free(&campaigns);
    buf_free(&minutes);
    return r != NULL;
}

/* Keeps those of which it cannot be said yet: they change. */
static void judge(struct counts *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        struct doubt *d = &c->doubts[i];
        const struct published_key *k = published_find(c->published, d->campaign, d->minute_us);
        uint64_t there = k ? k->counts : 0;
        char minute[RFC3339_SIZE];
        if (d->gone || there == d->before || there == d->now)
            continue;
        if (d->before != d->now) {
            c->doubts[kept++] = *d;
            continue;
        }
        rfc3339_format(d->minute_us, minute);
        blame(c, d->campaign, minute, there ? "the topic's last ones are others" : "the topic has none");
    }
    c->count = kept;
}

/* What changes at every look is left to the next run. */
static bool settle(struct counts *c)
{
    struct verify *v = c->verify;
    int64_t wait_ms = v->options->wait_s * 1000 > CATCH_UP_MS ? v->options->wait_s * 1000 : CATCH_UP_MS;
    bool *unjudged = &v->report->group[c->group].unjudged, full;
    for (int round = 0; round < ROUNDS && c->count > 0 && !*unjudged; round++) {
        bool done = false;
        if (!look_again(c) || !cut_wait(v, c->group, 1, wait_ms, &done))
            return false;
        *unjudged = !done;
        if (!done)
            break;
        if (!published_read(c->published, &full, v->why, v->why_size) || !look_again(c))
            return false;
        judge(c);
    }
    c->count = 0;
    return true;
}

static bool doubt(struct counts *c, struct uuid campaign, int64_t minute_us)
{
    c->doubts[c->count++] = (struct doubt){.campaign = campaign, .minute_us = minute_us};
    return c->count < DOUBTS || settle(c);
}

/* Columns of verify_stats. */
enum { S_NO, S_CAMPAIGN, S_MINUTE, S_COUNTS };

static bool compare(struct counts *c, const PGresult *r, int row)
{
    const char *minute = PQgetvalue(r, row, S_MINUTE), *text = PQgetvalue(r, row, S_COUNTS);
    struct uuid campaign;
    int64_t minute_us;
    if (PQgetisnull(r, row, S_CAMPAIGN) || PQgetisnull(r, row, S_COUNTS) ||
        !uuid_parse(PQgetvalue(r, row, S_CAMPAIGN), UUID_TEXT_SIZE - 1, &campaign) ||
        rfc3339_parse(minute, strlen(minute), &minute_us) != 0)
        return true;
    struct published_key *k = published_find(c->published, campaign, minute_us);
    if (k)
        k->seen = true;
    return (k && k->counts == published_hash(text, strlen(text))) || doubt(c, campaign, minute_us);
}

static bool verify_rows(struct counts *c)
{
    struct verify *v = c->verify;
    char no[16] = "0", minute[RFC3339_SIZE] = "", limit[16];
    bool ok = true, more = true;
    snprintf(limit, sizeof limit, "%d", MINUTES);
    while (ok && more) {
        const char *const values[] = {no, minute[0] ? minute : NULL, limit, only(c), c->from, buf_cstr(&c->names)};
        PGresult *r = rows_ask_text(
            v->ask,
            "select * from verify_stats($1::int, $2::timestamptz, $3::int, $4::int, $5::timestamptz, $6::text[])", 6,
            values, v->why, v->why_size);
        if (!r)
            return false;
        int count = PQntuples(r);
        for (int i = 0; ok && i < count; i++)
            ok = compare(c, r, i);
        more = count == MINUTES;
        if (count > 0) {
            snprintf(no, sizeof no, "%s", PQgetvalue(r, count - 1, S_NO));
            snprintf(minute, sizeof minute, "%s", PQgetvalue(r, count - 1, S_MINUTE));
        }
        PQclear(r);
        progress_add(&v->progress, count);
    }
    return ok;
}

/* Keys that Postgres has nothing of. */
static bool verify_rest(struct counts *c)
{
    const char *campaign = c->verify->options->campaign;
    struct uuid id = {{0}};
    if (campaign)
        uuid_parse(campaign, strlen(campaign), &id);
    for (const struct published_key *k = NULL; (k = published_next(c->published, k));)
        if (!k->seen && k->counts && k->minute_us >= c->from_us && (!campaign || uuid_equal(k->campaign, id)) &&
            !doubt(c, k->campaign, k->minute_us))
            return false;
    return true;
}

static bool verify_topic(struct counts *c)
{
    struct verify *v = c->verify;
    bool full = false;
    c->published = published_open(v->config, v->why, v->why_size);
    bool ok = c->published && published_read(c->published, &full, v->why, v->why_size);
    if (ok && full)
        v->report->group[c->group].unjudged = true;
    else
        ok = ok && verify_rows(c) && verify_rest(c) && settle(c);
    published_close(c->published);
    return ok;
}

/* Before the first minute that is judged, claims of events may have been deleted. */
static void begin_at(struct counts *c)
{
    const struct verify *v = c->verify;
    int64_t from = v->now_us - v->config->handled_keep_days * DAY_US + HOUR_US;
    if (v->options->since && v->options->since_us > from)
        from = v->options->since_us;
    c->from_us = (from + MINUTE_US - 1) / MINUTE_US * MINUTE_US;
    rfc3339_format(c->from_us, c->from);
}

bool counts_verify(struct verify *v, size_t group, bool has_committed)
{
    struct counts *c = xcalloc(1, sizeof *c);
    c->verify = v;
    c->group = group;
    begin_at(c);
    if (v->campaign_no)
        snprintf(c->campaign, sizeof c->campaign, "%" PRId32, v->campaign_no);
    event_names(&c->names);
    bool ok = verify_table(c) && (!has_committed || verify_topic(c));
    buf_free(&c->names);
    free(c);
    return ok;
}
