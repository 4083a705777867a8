/* Everything in its order. */
#include "verify/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/hash.h"
#include "core/pgbinary.h"
#include "verify/part.h"

/* Over how many partitions keys are spread. */
static bool fix_partitions(struct verify *v)
{
    uint32_t there = topic_partitions(v->topic), shards = v->options->shards;
    v->partitions = v->options->partitions ? v->options->partitions : there - there % shards;
    if (v->partitions > 0 && v->partitions <= there)
        return true;
    snprintf(v->why, v->why_size, "topic %s has %" PRIu32 " partitions, and must have %" PRIu32 " at least",
             v->config->kafka_topic, there, v->partitions ? v->partitions : shards);
    return false;
}

static bool find_campaign(struct verify *v)
{
    const char *const values[] = {v->options->campaign};
    if (!v->options->campaign)
        return true;
    v->campaign_hash = aggregate_hash(v->options->campaign, UUID_TEXT_SIZE - 1);
    PGresult *r = rows_ask(v->ask, "select no from campaigns where id = $1::uuid", 1, values, v->why, v->why_size);
    bool ok = r && PQntuples(r) == 1;
    if (ok)
        v->campaign_no = (int32_t)pgbinary_int(r, 0, 0);
    else if (r)
        snprintf(v->why, v->why_size, "there is no campaign %s", v->options->campaign);
    PQclear(r);
    return ok;
}

static void make_room(struct verify *v)
{
    uint32_t partitions = topic_partitions(v->topic);
    v->shard = xcalloc(v->options->shards, sizeof *v->shard);
    v->range = xcalloc(partitions, sizeof *v->range);
    v->from = xcalloc(partitions, sizeof *v->from);
    v->committed = xcalloc((v->options->group_count + 1) * partitions, sizeof *v->committed);
    v->versions = versions_open(v);
    v->effects = v->options->group_count ? effects_open(v) : NULL;
}

static void give_room(struct verify *v)
{
    free(v->shard);
    free(v->range);
    free(v->from);
    free(v->committed);
    versions_close(v->versions);
    effects_close(v->effects);
}

static bool wait_first(struct verify *v)
{
    bool done;
    progress_start(&v->progress, "waiting", 0);
    return v->options->wait_s == 0 ||
           cut_wait(v, 0, v->options->group_count, v->options->wait_s * 1000, &done); /* what is left shows as such */
}

static int64_t records_to_read(const struct verify *v)
{
    int64_t total = 0;
    for (uint32_t p = 0; p < topic_partitions(v->topic); p++)
        if ((!v->options->campaign || part_takes(v, p, v->campaign_hash)) && v->range[p].high > v->from[p])
            total += v->range[p].high - v->from[p];
    return total;
}

static bool verify_shards(struct verify *v)
{
    uint32_t shards = v->options->shards;
    progress_start(&v->progress, "records", records_to_read(v));
    if (v->options->campaign)
        return shard_verify(v, v->campaign_hash % shards);
    for (uint32_t s = 0; s < shards; s++)
        if (!shard_verify(v, s))
            return false;
    for (uint32_t p = v->partitions; p < topic_partitions(v->topic); p++)
        if (!shard_verify_foreign(v, p))
            return false;
    return true;
}

static bool verify_groups(struct verify *v)
{
    bool ok = !v->effects || effects_flush(v->effects);
    for (size_t g = 0; ok && g < v->options->group_count; g++) {
        progress_start(&v->progress, v->options->groups[g].name, 0);
        ok = strays_verify(v, g);
    }
    return ok;
}

static void describe(struct verify *v)
{
    struct report *r = v->report;
    *r = (struct report){.topic = v->config->kafka_topic,
                         .campaign = v->options->campaign,
                         .since = v->options->since,
                         .shards = v->options->shards,
                         .partitions = topic_partitions(v->topic),
                         .groups = v->options->group_count};
    for (size_t g = 0; g < r->groups; g++)
        r->group[g].name = v->options->groups[g].name;
}

bool verify_run(const struct config *config, const struct verify_options *options, PGconn *rows, PGconn *ask,
                struct report *report, char *why, size_t why_size)
{
    struct verify v = {.config = config,
                       .options = options,
                       .rows = rows,
                       .ask = ask,
                       .report = report,
                       .why = why,
                       .why_size = why_size};
    int64_t started = clock_mono_us();
    /* So many partitions are read at a time as a shard has. */
    v.topic = topic_open(config, options->partitions / options->shards, why, why_size);
    if (!v.topic)
        return false;
    describe(&v);
    make_room(&v);
    bool ok = fix_partitions(&v) && find_campaign(&v) && wait_first(&v) && cut_take(&v);
    if (ok)
        cut_lag(&v);
    ok = ok && verify_shards(&v) && verify_groups(&v);
    progress_end(&v.progress);
    report->seconds = (double)(clock_mono_us() - started) / 1e6;
    give_room(&v);
    topic_close(v.topic);
    return ok;
}
