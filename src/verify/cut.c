/* The order of looking (see verify.h), and waiting for what is under way. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/pgbinary.h"
#include "verify/verify_int.h"

enum {
    AGAIN_US = 50000,
    SINCE_MARGIN_MS = 3600000 /* a record's time is its producer's, an event's is the database's */
};

/* acked and head of each shard as they are now; either may be NULL. */
static bool read_shards(struct verify *v, int64_t *acked, int64_t *head)
{
    PGresult *r = rows_ask(v->ask, "select * from verify_shards()", 0, NULL, v->why, v->why_size);
    bool ok = r && PQntuples(r) == (int)v->options->shards;
    if (r && !ok)
        snprintf(v->why, v->why_size, "relay_cursors has %d rows, not one for each of %" PRIu32 " shards", PQntuples(r),
                 v->options->shards);
    for (int i = 0; ok && i < PQntuples(r); i++) {
        if (acked)
            acked[i] = (int64_t)pgbinary_int(r, i, 1);
        if (head)
            head[i] = (int64_t)pgbinary_int(r, i, 2);
    }
    PQclear(r);
    return ok;
}

static bool read_now(struct verify *v)
{
    PGresult *r = rows_ask(v->ask, "select clock_timestamp()", 0, NULL, v->why, v->why_size);
    if (r)
        v->now_us = pgbinary_time_us(r, 0, 0);
    PQclear(r);
    return r != NULL;
}

static bool read_committed(struct verify *v, size_t group, int64_t *out)
{
    return topic_committed(v->topic, v->options->groups[group].name, out, v->why, v->why_size);
}

static int64_t *committed_of(const struct verify *v, size_t group)
{
    return &v->committed[group * topic_partitions(v->topic)];
}

static bool read_ranges(struct verify *v, struct topic_range *out)
{
    for (uint32_t p = 0; p < topic_partitions(v->topic); p++)
        if (!topic_range(v->topic, p, &out[p], v->why, v->why_size))
            return false;
    return true;
}

/* Where reading begins. */
static bool find_begins(struct verify *v)
{
    int64_t since_ms = v->options->since_us / 1000 - SINCE_MARGIN_MS;
    for (uint32_t p = 0; p < topic_partitions(v->topic); p++) {
        v->from[p] = v->range[p].low;
        if (v->options->since && !topic_offset_at(v->topic, p, since_ms, v->range[p], &v->from[p], v->why, v->why_size))
            return false;
    }
    return true;
}

static bool find_afters(struct verify *v)
{
    for (uint32_t s = 0; s < v->options->shards; s++) {
        char shard[16];
        const char *const values[] = {shard, v->options->since};
        snprintf(shard, sizeof shard, "%" PRIu32, s);
        PGresult *r = rows_ask(v->ask, "select verify_since($1::int, $2::timestamptz)", 2, values, v->why, v->why_size);
        if (!r)
            return false;
        v->shard[s].after = (int64_t)pgbinary_int(r, 0, 0);
        PQclear(r);
    }
    return true;
}

bool cut_take(struct verify *v)
{
    uint32_t shards = v->options->shards;
    int64_t *acked = xcalloc(shards, sizeof *acked), *head = xcalloc(shards, sizeof *head);
    bool ok = read_now(v);
    for (size_t g = 0; ok && g < v->options->group_count; g++)
        ok = read_committed(v, g, committed_of(v, g));
    ok = ok && read_shards(v, acked, NULL) && read_ranges(v, v->range) && read_shards(v, NULL, head);
    for (uint32_t s = 0; ok && s < shards; s++)
        v->shard[s] = (struct verify_shard){.acked = acked[s], .head = head[s]};
    free(acked);
    free(head);
    return ok && find_begins(v) && find_afters(v);
}

void cut_lag(struct verify *v)
{
    for (size_t g = 0; g < v->options->group_count; g++)
        for (uint32_t p = 0; p < topic_partitions(v->topic); p++)
            v->report->group[g].lag += topic_lag(v->range[p], committed_of(v, g)[p]);
}

/* --- waiting --- */

static bool is_acked(struct verify *v, const int64_t *head, bool *done)
{
    int64_t *acked = xcalloc(v->options->shards, sizeof *acked);
    bool ok = read_shards(v, acked, NULL);
    *done = ok;
    for (uint32_t s = 0; ok && s < v->options->shards; s++)
        *done = *done && acked[s] >= head[s];
    free(acked);
    return ok;
}

static bool is_finished(struct verify *v, size_t group, const struct topic_range *end, bool *done)
{
    int64_t *at = xcalloc(topic_partitions(v->topic), sizeof *at);
    bool ok = read_committed(v, group, at);
    *done = ok;
    for (uint32_t p = 0; ok && p < topic_partitions(v->topic); p++)
        *done = *done && (end[p].high <= end[p].low || at[p] >= end[p].high);
    free(at);
    return ok;
}

bool cut_wait(struct verify *v, size_t first, size_t count, int64_t timeout_ms, bool *done)
{
    int64_t deadline = clock_mono_us() + timeout_ms * 1000;
    int64_t *head = xcalloc(v->options->shards, sizeof *head);
    struct topic_range *end = xcalloc(topic_partitions(v->topic), sizeof *end);
    bool ok = read_shards(v, NULL, head);
    *done = false;
    while (ok && (ok = is_acked(v, head, done)) && !*done && clock_mono_us() < deadline)
        usleep(AGAIN_US);
    ok = ok && read_ranges(v, end);
    for (size_t g = first; ok && *done && g < first + count; g++)
        while ((ok = is_finished(v, g, end, done)) && !*done && clock_mono_us() < deadline)
            usleep(AGAIN_US);
    free(head);
    free(end);
    return ok;
}
