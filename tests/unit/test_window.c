/* The relay's window: order per partition, cursors, gaps, rewinds; a random run against a model of Kafka's logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/hash.h"
#include "relay/window.h"

enum { SHARDS = 2, PARTITIONS = 6, EVENTS = 400, CAMPAIGNS = 8, PAGE = 20 };

struct log_entry {
    int64_t seq;
};

struct kafka {
    struct log_entry sent[PARTITIONS][EVENTS * 8]; /* in flight, in order */
    size_t first[PARTITIONS], last[PARTITIONS];
    int64_t acked[PARTITIONS]; /* highest seq that the partition's log holds */
    bool refuse;
};

/* One of which all shards are ours. */
static struct window *new_window(uint32_t shards, uint32_t partitions, size_t max_count, size_t max_bytes)
{
    struct window *w = window_new(shards, partitions, max_count, max_bytes);
    for (uint32_t i = 0; i < shards; i++)
        window_own(w, i, true);
    return w;
}

static struct event_row rows[SHARDS][EVENTS];
static uint32_t partition_of[SHARDS][EVENTS];

static void make_rows(void)
{
    struct uuid campaigns[CAMPAIGNS];
    uint32_t hashes[CAMPAIGNS];
    for (uint32_t i = 0; i < CAMPAIGNS; i++) { /* campaign i is of shard i % SHARDS */
        char text[UUID_TEXT_SIZE];
        do {
            campaigns[i] = uuid_v7();
            uuid_format(campaigns[i], text);
            hashes[i] = aggregate_hash(text, 36);
        } while (hashes[i] % SHARDS != i % SHARDS);
    }
    for (uint32_t s = 0; s < SHARDS; s++)
        for (int i = 0; i < EVENTS; i++) {
            uint32_t c = (uint32_t)(rand() % (CAMPAIGNS / SHARDS)) * SHARDS + s;
            rows[s][i] = (struct event_row){.shard = s,
                                            .seq = i + 1,
                                            .version = i + 1,
                                            .type = EVENT_USER_SIGNED_UP,
                                            .at_us = 1000 + i,
                                            .id = uuid_v7(),
                                            .campaign_id = campaigns[c]};
            partition_of[s][i] = hashes[c] % PARTITIONS;
        }
}

static size_t send_to(void *arg, uint32_t partition, const struct event_row *row)
{
    struct kafka *k = arg;
    assert_int_equal(partition, partition_of[row->shard][row->seq - 1]);
    if (k->refuse)
        return 0;
    if (k->last[partition] > k->first[partition]) /* in flight: strictly ascending */
        assert_true(k->sent[partition][k->last[partition] - 1].seq < row->seq);
    k->sent[partition][k->last[partition]++].seq = row->seq;
    return 100;
}

/* The first time that a seq is acknowledged, everything of its partition before it was. */
static void check_first_in_order(const struct kafka *k, uint32_t partition, int64_t seq)
{
    uint32_t shard = partition % SHARDS;
    for (int64_t s = k->acked[partition] + 1; s < seq; s++)
        assert_int_not_equal(partition_of[shard][s - 1], partition);
}

static void arrive(struct kafka *k, uint32_t partition, int64_t seq)
{
    if (seq <= k->acked[partition])
        return; /* a repeat */
    check_first_in_order(k, partition, seq);
    k->acked[partition] = seq;
}

static void ack_one(struct window *w, struct kafka *k, uint32_t p)
{
    int64_t at;
    if (k->first[p] == k->last[p])
        return;
    int64_t seq = k->sent[p][k->first[p]++].seq;
    arrive(k, p, seq);
    assert_true(window_ack(w, p, seq, 5, &at));
    assert_int_equal(at, 999 + seq);
}

static int64_t model_cursor(const struct kafka *k, uint32_t shard, int64_t passed)
{
    for (int64_t s = 1; s <= passed; s++)
        if (k->acked[partition_of[shard][s - 1]] < s)
            return s - 1;
    return passed;
}

static void read_gap(struct window *w, struct kafka *k, uint32_t shard, int64_t committed)
{
    int64_t from;
    size_t count;
    if (!window_gap(w, shard, PAGE, &from, &count))
        return;
    assert_in_range(count, 1, PAGE);
    int64_t n = 1 + rand() % 40; /* more or less than that: other partitions' may be among them */
    if (from + n > committed)
        n = committed - from;
    window_feed(w, &rows[shard][from], (size_t)n, send_to, k);
}

static void test_random_run(void **state)
{
    (void)state;
    for (int round = 0; round < 60; round++) {
        srand((unsigned)round);
        make_rows();
        struct kafka *k = calloc(1, sizeof *k);
        struct window *w = new_window(SHARDS, PARTITIONS, 1 + (size_t)(rand() % 20), 1 + (size_t)(rand() % 3000));
        int64_t committed[SHARDS] = {0};
        for (int step = 0; step < 4000; step++) {
            uint32_t shard = (uint32_t)rand() % SHARDS;
            int what = rand() % 100;
            k->refuse = rand() % 50 == 0;
            if (what < 30 && committed[shard] < EVENTS) { /* a commit: its rows come from memory, or are missed */
                int64_t n = 1 + rand() % 5;
                if (committed[shard] + n > EVENTS)
                    n = EVENTS - committed[shard];
                if (rand() % 10)
                    window_feed(w, &rows[shard][committed[shard]], (size_t)n, send_to, k);
                committed[shard] += n;
            } else if (what < 50) {
                window_saw(w, shard, committed[shard]);
                read_gap(w, k, shard, committed[shard]);
            } else if (what < 98) {
                ack_one(w, k, (uint32_t)rand() % PARTITIONS);
            } else { /* the producer fails: some of what is in flight may have arrived all the same */
                for (uint32_t p = 0; p < PARTITIONS; p++) {
                    size_t arrived = k->first[p] + (size_t)(rand() % 3);
                    for (size_t i = k->first[p]; i < arrived && i < k->last[p]; i++)
                        arrive(k, p, k->sent[p][i].seq);
                    k->first[p] = k->last[p] = 0;
                }
                window_rewind(w);
            }
            for (uint32_t s = 0; s < SHARDS; s++)
                assert_true(window_cursor(w, s) <= model_cursor(k, s, committed[s]));
        }
        k->refuse = false;
        for (int i = 0; i < 20000; i++) { /* it all settles */
            for (uint32_t s = 0; s < SHARDS; s++) {
                window_saw(w, s, committed[s]);
                read_gap(w, k, s, committed[s]);
            }
            ack_one(w, k, (uint32_t)i % PARTITIONS);
        }
        for (uint32_t s = 0; s < SHARDS; s++) {
            assert_int_equal(window_cursor(w, s), committed[s]);
            assert_int_equal(window_head(w, s), committed[s]);
        }
        assert_int_equal(window_in_flight(w), 0);
        window_free(w);
        free(k);
    }
}

static void test_one_alone_until_proven(void **state)
{
    (void)state;
    srand(1);
    make_rows();
    struct kafka *k = calloc(1, sizeof *k);
    struct window *w = new_window(1, 1, 100, 100000);
    memset(partition_of, 0, sizeof partition_of);
    window_feed(w, rows[0], 5, send_to, k);
    assert_int_equal(window_in_flight(w), 1);
    int64_t from, at;
    size_t count;
    assert_false(window_gap(w, 0, PAGE, &from, &count)); /* no room yet */
    assert_true(window_ack(w, 0, 1, 5, &at));
    assert_true(window_gap(w, 0, PAGE, &from, &count));
    assert_int_equal(from, 1);
    window_feed(w, &rows[0][1], 4, send_to, k);
    assert_int_equal(window_in_flight(w), 4);
    assert_int_equal(window_cursor(w, 0), 1);
    assert_false(window_ack(w, 0, 3, 5, &at)); /* not the first in flight */
    window_rewind(w);
    k->first[0] = k->last[0] = 0;
    assert_true(window_gap(w, 0, PAGE, &from, &count));
    assert_int_equal(from, 1);
    window_feed(w, &rows[0][1], 4, send_to, k);
    assert_int_equal(window_in_flight(w), 1); /* a new producer: one alone again */
    window_free(w);
    free(k);
}

static void test_halted_partition_holds_the_cursor_alone(void **state)
{
    (void)state;
    srand(2);
    make_rows();
    struct kafka *k = calloc(1, sizeof *k);
    struct window *w = new_window(SHARDS, PARTITIONS, 10000, 10000000);
    uint32_t halted = partition_of[0][9];
    window_halt(w, halted);
    for (int i = 0; i < 3000; i++) {
        for (uint32_t s = 0; s < SHARDS; s++) {
            window_saw(w, s, EVENTS);
            read_gap(w, k, s, EVENTS);
        }
        ack_one(w, k, (uint32_t)i % PARTITIONS);
    }
    assert_int_equal(window_halted(w), 1);
    assert_true(window_cursor(w, 0) < 10);
    assert_int_equal(window_cursor(w, 1), EVENTS);
    for (uint32_t p = 0; p < PARTITIONS; p += SHARDS) /* the shard's other partitions went on to the end */
        if (p != halted)
            for (int64_t s = 1; s <= EVENTS; s++)
                if (partition_of[0][s - 1] == p)
                    assert_true(k->acked[p] >= s);
    window_free(w);
    free(k);
}

static void test_idle_partition_is_distrusted(void **state)
{
    (void)state;
    srand(3);
    make_rows();
    memset(partition_of, 0, sizeof partition_of);
    struct kafka *k = calloc(1, sizeof *k);
    struct window *w = new_window(1, 1, 100, 100000);
    int64_t at;
    window_feed(w, rows[0], 1, send_to, k);
    assert_true(window_ack(w, 0, 1, 50, &at));
    window_distrust_idle(w, 40); /* acknowledged later than that */
    window_feed(w, &rows[0][1], 2, send_to, k);
    assert_int_equal(window_in_flight(w), 2);
    assert_true(window_ack(w, 0, 2, 60, &at));
    assert_true(window_ack(w, 0, 3, 60, &at));
    window_distrust_idle(w, 100);
    window_feed(w, &rows[0][3], 2, send_to, k);
    assert_int_equal(window_in_flight(w), 1);
    window_free(w);
    free(k);
}

/* Of a shard that is another process's nothing is sent or missed; what was in flight is still acknowledged. */
static void test_shards_of_others(void **state)
{
    (void)state;
    srand(4);
    make_rows();
    memset(partition_of, 0, sizeof partition_of);
    struct kafka *k = calloc(1, sizeof *k);
    struct window *w = new_window(1, 1, 100, 100000);
    int64_t at, from;
    size_t count;
    window_feed(w, rows[0], 1, send_to, k);
    assert_int_equal(window_shard_in_flight(w, 0), 1);
    window_own(w, 0, false);
    window_feed(w, &rows[0][1], 1, send_to, k);
    assert_int_equal(window_in_flight(w), 1);
    assert_int_equal(window_head(w, 0), 2);
    assert_true(window_ack(w, 0, 1, 5, &at));
    assert_false(window_gap(w, 0, PAGE, &from, &count));
    assert_int_equal(window_shard_in_flight(w, 0), 0);
    assert_int_equal(window_cursor(w, 0), 1);
    window_start_at(w, 0, 5); /* another process has come so far */
    window_own(w, 0, true);
    window_saw(w, 0, 7);
    assert_true(window_gap(w, 0, PAGE, &from, &count));
    assert_int_equal(from, 5);
    window_go_back(w, 0, 2); /* somebody wants it again */
    assert_true(window_gap(w, 0, PAGE, &from, &count));
    assert_int_equal(from, 2);
    window_free(w);
    free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_run),
        cmocka_unit_test(test_one_alone_until_proven),
        cmocka_unit_test(test_halted_partition_holds_the_cursor_alone),
        cmocka_unit_test(test_idle_partition_is_distrusted),
        cmocka_unit_test(test_shards_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
