/* analytics-workers: per campaign and minute, how many events of each type there were. The counts are kept in Postgres, where
 * an event counts once, and each key that a run's records touch goes to STATS_TOPIC with all its counts as they are then.
 * A record that comes again counts nothing and emits its key again: what was committed here and not there comes right. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "handlers/handler.h"
#include "handlers/sql.h"

enum { PAGE = 5000 }; /* minutes of deleted campaigns in one run: about 0.6 MB of output */
#define ALL_TYPES ((1u << EVENT_TYPE_MAX) - 1 - (1u << EVENT_NONE))

static void analytics_key(const struct event *e, struct buf *out)
{
    const struct uuid none = {{0}};
    struct uuid aggregate = uuid_equal(e->campaign_id, none) ? e->account_id : e->campaign_id;
    buf_add(out, aggregate.b, sizeof aggregate.b);
}

static bool analytics_gathers(const struct config *c)
{
    (void)c;
    return true;
}

static bool analytics_enabled(const struct config *c)
{
    return c->stats_topic[0] != '\0';
}

static bool analytics_check(const struct config *c, char *why, size_t why_size)
{
    bool ok = strcmp(c->stats_topic, c->kafka_topic) != 0;
    if (!ok)
        snprintf(why, why_size, "STATS_TOPIC must not be KAFKA_TOPIC: counts are no events");
    return ok;
}

static const char *analytics_topic(const struct config *c)
{
    return c->stats_topic;
}

/* The keys that were touched, with their counts as JSON text, or null when the campaign is deleted. */
static void emit(struct run *run, const PGresult *r)
{
    struct buf key = {0}, value = {0};
    for (int i = 0; i < PQntuples(r); i++) {
        const char *campaign = PQgetvalue(r, i, 0), *minute = PQgetvalue(r, i, 1);
        buf_clear(&key);
        buf_printf(&key, "%s/%s", campaign, minute);
        buf_clear(&value);
        if (!PQgetisnull(r, i, 2))
            buf_printf(&value, "{\"campaign_id\":\"%s\",\"minute\":\"%s\",\"counts\":%s}", campaign, minute,
                       PQgetvalue(r, i, 2));
        run_emit(run, key.data, key.len, value.len ? value.data : NULL, value.len);
    }
    buf_free(&key);
    buf_free(&value);
}

static void emit_gone(struct run *run, const PGresult *r, struct record *const *deleted, size_t count)
{
    struct buf key = {0};
    size_t place = 1;
    int rows = PQntuples(r);
    for (int i = 0; i < rows; i++) {
        place = strtoul(PQgetvalue(r, i, 0), NULL, 10);
        if (place < 1 || place > count)
            place = 1;
        buf_clear(&key);
        buf_printf(&key, "%s/%s", PQgetvalue(r, i, 1), PQgetvalue(r, i, 2));
        run_emit(run, key.data, key.len, NULL, 0);
        deleted[place - 1]->progress_next = strtoll(PQgetvalue(r, i, 3), NULL, 10);
    }
    for (size_t i = place - 1; rows == PAGE && i < count; i++)
        record_fail(deleted[i], OUTCOME_LATER, "its campaign has more minutes than one run takes out of the topic");
    buf_free(&key);
}

/* Takes the minutes of deleted campaigns out of the topic. One that lived long has many: so they go by pages; a record's
 * progress is the minute, in seconds since 1970, up to which they are gone. */
static bool retract(struct run *run, PGresult **failed)
{
    struct buf campaigns = {0}, after = {0};
    char page[16];
    struct record **deleted = xmalloc((run->count + 1) * sizeof(struct record *));
    PGresult *r = NULL;
    size_t count = 0;
    snprintf(page, sizeof page, "%d", PAGE);
    sql_array_begin(&campaigns);
    sql_array_begin(&after);
    for (size_t i = 0; i < run->count; i++) {
        struct record *record = run->records[i];
        if (record->event.type != EVENT_CAMPAIGN_DELETED)
            continue;
        sql_array_uuid(&campaigns, record->event.campaign_id);
        sql_array_int(&after, record->progress);
        deleted[count++] = record;
    }
    const char *const values[] = {sql_array_end(&campaigns), sql_array_end(&after), page};
    if (count > 0)
        r = run_sql(run, failed, "select * from stats_gone($1, $2, $3)", 3, values);
    if (r)
        emit_gone(run, r, deleted, count);
    bool ok = count == 0 || r != NULL;
    PQclear(r);
    free(deleted);
    buf_free(&campaigns);
    buf_free(&after);
    return ok;
}

static bool analytics_apply(struct run *run, PGresult **failed)
{
    const struct uuid none = {{0}};
    struct buf campaigns = {0}, times = {0}, types = {0}, counts = {0}, names = {0};
    sql_array_begin(&campaigns);
    sql_array_begin(&times);
    sql_array_begin(&types);
    sql_array_begin(&counts);
    for (size_t i = 0; i < run->count; i++) {
        const struct record *record = run->records[i];
        char at[RFC3339_SIZE];
        if (uuid_equal(record->event.campaign_id, none))
            continue; /* of the account itself */
        rfc3339_format(record->event.at_us, at);
        sql_array_uuid(&campaigns, record->event.campaign_id);
        sql_array_text(&times, at);
        sql_array_int(&types, record->event.type);
        sql_array_int(&counts, !record->known);
    }
    event_names(&names);
    const char *const values[] = {sql_array_end(&campaigns), sql_array_end(&times), sql_array_end(&types),
                                  sql_array_end(&counts), buf_cstr(&names)};
    PGresult *r = run_sql(run, failed, "select * from stats_add($1, $2, $3, $4, $5)", 5, values);
    if (r)
        emit(run, r);
    bool ok = r && retract(run, failed);
    PQclear(r);
    buf_free(&campaigns);
    buf_free(&times);
    buf_free(&types);
    buf_free(&counts);
    buf_free(&names);
    return ok;
}

const struct handler analytics_handler = {
    .group = "analytics-workers",
    .processes = "all events",
    .types = ALL_TYPES,
    .dedupe = true,
    .fixed_pool = 1, /* runs are set-based, and of one campaign they wait for each other anyway */
    .gathers = analytics_gathers,
    .enabled = analytics_enabled,
    .check = analytics_check,
    .output_topic = analytics_topic,
    .key = analytics_key,
    .apply = analytics_apply,
};
