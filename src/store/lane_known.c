/* Heads and campaigns: loaded, kept up to date by what the lane commits, forgotten when somebody else was there. */
#include "store/lane_known.h"

#include <stdlib.h>

#include "core/buf.h"
#include "core/hash.h"
#include "core/pgbinary.h"

/* Columns of lane_load's rows. */
/* clang-format off */
enum { L_SHARD, L_HEAD, L_ID, L_NO, L_ACCOUNT, L_ACCOUNT_ID, L_VERSION, L_PLACES, L_CLOSED, L_MILESTONES, L_LANDING_URL, L_COLUMNS };
/* clang-format on */

void lane_known_init(struct lane_known *k, size_t batch, size_t campaigns, uint32_t shards)
{
    *k = (struct lane_known){
        .shards = shards,
        .campaigns = campaigns_new(campaigns > batch ? campaigns : batch, shards),
        .heads = xcalloc(shards, sizeof *k->heads),
        .has_head = xcalloc(shards, sizeof *k->has_head),
    };
    seen_init(&k->asked, 2 * batch);
}

void lane_known_free(struct lane_known *k)
{
    campaigns_free(k->campaigns);
    pgarray_free(&k->ask_shards);
    pgarray_free(&k->ask_ids);
    seen_free(&k->asked);
    free(k->heads);
    free(k->has_head);
}

void lane_known_forget(struct lane_known *k, uint32_t shard)
{
    k->has_head[shard] = false;
    campaigns_forget_shard(k->campaigns, shard);
}

void lane_known_reset(struct lane_known *k, const int64_t *heads)
{
    for (uint32_t i = 0; i < k->shards; i++) {
        lane_known_forget(k, i);
        if (heads) {
            k->heads[i] = heads[i];
            k->has_head[i] = true;
        }
    }
}

static bool is_known(struct lane_known *k, const struct action *a)
{
    return k->has_head[a->shard] && campaigns_find(k->campaigns, a->campaign_id);
}

bool lane_known_has(struct lane_known *k, struct action *const *batch, size_t count)
{
    campaigns_begin(k->campaigns);
    for (size_t i = 0; i < count; i++)
        if (!is_known(k, batch[i]))
            return false;
    return true;
}

bool lane_known_ask(struct lane_known *k, struct pglink *link, struct action *const *batch, size_t count,
                    pglink_done done, void *arg)
{
    pgarray_begin(&k->ask_shards, PG_OID_INT4);
    pgarray_begin(&k->ask_ids, PG_OID_UUID);
    seen_clear(&k->asked);
    for (size_t i = 0; i < count; i++) {
        const struct action *a = batch[i];
        if (is_known(k, a))
            continue;
        if (seen_first(&k->asked, a->shard + 1))
            pgarray_int(&k->ask_shards, (int32_t)a->shard);
        if (seen_first(&k->asked, hash64(a->campaign_id.b, sizeof a->campaign_id.b)))
            pgarray_uuid(&k->ask_ids, a->campaign_id);
    }
    pgarray_end(&k->ask_shards);
    pgarray_end(&k->ask_ids);
    const char *values[] = {k->ask_shards.buf.data, k->ask_ids.buf.data};
    const int lengths[] = {(int)k->ask_shards.buf.len, (int)k->ask_ids.buf.len}, formats[] = {1, 1};
    return pglink_send(link, "lane_load", 2, values, lengths, formats, 1, done, arg);
}

/* A head that is not as expected: somebody else wrote there, so what was known of the shard's campaigns is out of date. */
static void load_head(struct lane_known *k, uint32_t shard, int64_t head)
{
    if (!k->has_head[shard] || k->heads[shard] != head)
        lane_known_forget(k, shard);
    k->heads[shard] = head;
    k->has_head[shard] = true;
}

static bool load_campaign(struct lane_known *k, const PGresult *rows, int i)
{
    struct pgarray_elements milestones;
    const uint8_t *value;
    size_t len;
    struct campaign c = {
        .id = pgbinary_uuid(rows, i, L_ID),
        .account_id = pgbinary_uuid(rows, i, L_ACCOUNT_ID),
        .no = (uint32_t)pgbinary_int(rows, i, L_NO),
        .account_no = (uint32_t)pgbinary_int(rows, i, L_ACCOUNT),
        .shard = (uint32_t)pgbinary_int(rows, i, L_SHARD),
        .version = (int64_t)pgbinary_int(rows, i, L_VERSION),
        .places = (uint32_t)pgbinary_int(rows, i, L_PLACES),
        .closed = pgbinary_int(rows, i, L_CLOSED) != 0,
    };
    if (c.shard >= k->shards ||
        !pgarray_read(&milestones, PQgetvalue(rows, i, L_MILESTONES), (size_t)PQgetlength(rows, i, L_MILESTONES)))
        return false;
    if (!PQgetisnull(rows, i, L_LANDING_URL))
        c.landing_url = (struct text){PQgetvalue(rows, i, L_LANDING_URL), (size_t)PQgetlength(rows, i, L_LANDING_URL)};
    c.milestones = xcalloc(milestones.left + 1, sizeof *c.milestones);
    while (pgarray_next(&milestones, &value, &len))
        c.milestones[c.milestone_count++] = (int32_t)pgarray_int_of(value, len);
    campaigns_put(k->campaigns, &c);
    free(c.milestones);
    return milestones.left == 0;
}

bool lane_known_answer(struct lane_known *k, const PGresult *rows)
{
    bool ok = PQnfields(rows) == L_COLUMNS;
    /* Heads come first: they may say that the rest is to be forgotten. */
    for (int i = 0; ok && i < PQntuples(rows); i++) {
        uint32_t shard = (uint32_t)pgbinary_int(rows, i, L_SHARD);
        ok = shard < k->shards;
        if (ok && PQgetisnull(rows, i, L_ID))
            load_head(k, shard, (int64_t)pgbinary_int(rows, i, L_HEAD));
    }
    for (int i = 0; ok && i < PQntuples(rows); i++)
        ok = PQgetisnull(rows, i, L_ID) || load_campaign(k, rows, i);
    if (!ok)
        lane_known_reset(k, NULL);
    return ok;
}

/* Events that follow on what was known are all that happened in their shard. */
static void learn_row(struct lane_known *k, const struct event_row *row)
{
    if (k->has_head[row->shard] && row->seq != k->heads[row->shard] + 1)
        lane_known_forget(k, row->shard);
    k->heads[row->shard] = row->seq;
    struct campaign *c = campaigns_find(k->campaigns, row->campaign_id);
    if (c && row->version == c->version + 1)
        c->version++;
    else if (c)
        campaigns_forget(k->campaigns, row->campaign_id);
}

void lane_known_learn(struct lane_known *k, struct action *const *batch, size_t count, const struct lane_result *result)
{
    campaigns_begin(k->campaigns);
    for (size_t i = 0; i < result->row_count; i++)
        learn_row(k, &result->rows[i]);
    for (size_t i = 0; i < count; i++) {
        const struct action *a = batch[i];
        if (result->again[i] || result->results[i].err != ERR_NONE || result->results[i].events == 0)
            continue;
        struct campaign *c = a->kind == ACTION_SIGN_UP ? campaigns_find(k->campaigns, a->campaign_id) : NULL;
        if (c && result->results[i].place > c->places)
            c->places = result->results[i].place;
        else if (a->kind != ACTION_SIGN_UP && a->kind != ACTION_VERIFY && a->kind != ACTION_END_SAGAS)
            campaigns_forget(k->campaigns, a->campaign_id); /* it may be closed now, or have other milestones */
    }
}
