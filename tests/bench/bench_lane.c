/* A batch of sign-ups through a lane: actions → numbered, encoded as the parameters of the call; the call's answer → events and
 * results. The connection is a stand-in. Counted per sign-up. */
#include <string.h>

#include "bench.h"
#include "core/hash.h"
#include "core/pglink.h"
#include "store/lane_append.h"
#include "store/lane_known.h"
#include "store/pgarray.h"

enum { SHARDS = 10, CAMPAIGNS = 40, BATCH = 100, WARM_ROUNDS = 3, ROUNDS = 50 };

static struct uuid campaigns[CAMPAIGNS];

static uint32_t shard_of(size_t campaign)
{
    return (uint32_t)campaign % SHARDS;
}

static size_t sent_bytes;

bool pglink_send(struct pglink *l, const char *statement, int count, const char *const *values, const int *lengths,
                 const int *formats, int result_format, pglink_done done, void *arg)
{
    (void)l, (void)statement, (void)values, (void)formats, (void)result_format, (void)done, (void)arg;
    for (int i = 0; i < count; i++)
        sent_bytes += (size_t)lengths[i];
    return true;
}

/* --- answers as the database gives them -------------------------------------------------------------------------------- */

static PGresult *make_result(int columns)
{
    static char names[16][8];
    PGresAttDesc described[16] = {{0}};
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    for (int i = 0; i < columns; i++) {
        snprintf(names[i], sizeof names[i], "c%d", i);
        described[i].name = names[i];
        described[i].format = 1;
    }
    bench_check(PQsetResultAttrs(r, columns, described));
    return r;
}

static void set(PGresult *r, int row, int column, const void *value, size_t len)
{
    char copy[4096];
    bench_check(len <= sizeof copy);
    memcpy(copy, value, len);
    bench_check(PQsetvalue(r, row, column, copy, (int)len));
}

static void set_int(PGresult *r, int row, int column, int64_t value, size_t size)
{
    struct buf b = {0};
    buf_add_u64be(&b, (uint64_t)value);
    set(r, row, column, b.data + 8 - size, size);
    buf_free(&b);
}

static void set_array(PGresult *r, int row, int column, struct pgarray *array)
{
    pgarray_end(array);
    set(r, row, column, array->buf.data, array->buf.len);
    pgarray_free(array);
}

static void set_null(PGresult *r, int row, int column)
{
    bench_check(PQsetvalue(r, row, column, NULL, -1));
}

/* The rows of lane_load: the heads of all shards, then the campaigns. Columns as in lane_known.c. */
static PGresult *make_known(void)
{
    PGresult *r = make_result(11);
    for (int i = 0; i < SHARDS; i++) {
        set_int(r, i, 0, i, 4);
        set_int(r, i, 1, 1000, 8);
        for (int column = 2; column < 11; column++)
            set_null(r, i, column);
    }
    for (int i = 0; i < CAMPAIGNS; i++) {
        int row = SHARDS + i;
        struct pgarray milestones = {0};
        pgarray_begin(&milestones, PG_OID_INT4);
        for (int32_t n = 1000000; n <= 100000000; n *= 10)
            pgarray_int(&milestones, n);
        set_int(r, row, 0, shard_of((size_t)i), 4);
        set_null(r, row, 1);
        set(r, row, 2, campaigns[i].b, sizeof campaigns[i].b);
        set_int(r, row, 3, i + 1, 4);
        set_int(r, row, 4, 1, 4);
        set(r, row, 5, campaigns[0].b, sizeof campaigns[0].b);
        set_int(r, row, 6, 100, 8);
        set_int(r, row, 7, 99, 4);
        set_int(r, row, 8, 0, 1);
        set_array(r, row, 9, &milestones);
        set_null(r, row, 10);
    }
    return r;
}

/* The row of lane_append: done, and when in each shard. Columns as in lane_append.c. */
static PGresult *make_answer(void)
{
    PGresult *r = make_result(5);
    struct pgarray times = {0};
    pgarray_begin(&times, PG_OID_INT8);
    for (int i = 0; i < SHARDS; i++)
        pgarray_bigint(&times, INT64_C(848573278123456));
    set_int(r, 0, 0, 0, 4);
    set_array(r, 0, 1, &times);
    for (int column = 2; column < 5; column++)
        set_null(r, 0, column);
    return r;
}

static struct action *make_action(size_t i)
{
    char email[64];
    size_t len = (size_t)snprintf(email, sizeof email, "x12345-1-%zu@example.com", i);
    struct action *a = action_new(ACTION_SIGN_UP, 2 * len);
    a->account_no = 1;
    a->account_id = campaigns[0];
    a->campaign_id = campaigns[i % CAMPAIGNS];
    a->shard = shard_of(i % CAMPAIGNS);
    a->email = action_text(a, email, len);
    a->email_key = action_text(a, email, len);
    return a;
}

int main(void)
{
    struct action *batch[BATCH];
    struct lane_result result = {0};
    for (uint32_t i = 0; i < CAMPAIGNS; i++)
        campaigns[i] = uuid_with_place((struct uuid){{1, 0xa1, 0xfd, 0x5a, 0xc8, 0x33}}, i * 2654435761U);
    for (size_t i = 0; i < BATCH; i++)
        batch[i] = make_action(i);
    struct lane_known known;
    lane_known_init(&known, BATCH, 1000, SHARDS);
    struct lane_append *lane = lane_append_new(BATCH, &known);
    PGresult *loaded = make_known(), *answer = make_answer();
    bench_check(lane_known_answer(&known, loaded));
    for (int round = 0; round < WARM_ROUNDS + ROUNDS; round++) {
        bool counted = round >= WARM_ROUNDS;
        if (counted)
            bench_on();
        bool knows = lane_known_has(&known, batch, BATCH);
        enum append_sent sent = lane_append_send(lane, NULL, batch, BATCH, NULL, NULL);
        enum append_outcome outcome = lane_append_decode(lane, answer, BATCH, &result);
        if (counted)
            bench_off();
        bench_check(knows && sent == APPEND_SENT && outcome == APPEND_DONE);
        bench_check(result.row_count == BATCH && result.results[BATCH - 1].events == 1);
    }
    bench_report("lane", ROUNDS * BATCH);
    PQclear(loaded);
    PQclear(answer);
    lane_append_free(lane);
    lane_known_free(&known);
    lane_result_free(&result);
    for (size_t i = 0; i < BATCH; i++)
        action_free(batch[i]);
    return 0;
}
