/* What waits to be sent together: nothing is lost or changed, each shard keeps its order, and it is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "relay/hold.h"

enum { SHARDS = 7, ROUNDS = 200 };

static void fill(struct event_row *row, char data[64], uint32_t shard, int64_t seq)
{
    int len = snprintf(data, 64, "{\"n\":\"%u-%lld\"}", shard, (long long)seq);
    *row = (struct event_row){.shard = shard,
                              .seq = seq,
                              .version = seq * 3,
                              .type = EVENT_USER_SIGNED_UP,
                              .format = EVENT_FORMAT,
                              .data = data,
                              .data_len = (size_t)len};
}

static void check(const struct event_row *row, int64_t expected_seq)
{
    char data[64];
    struct event_row want;
    fill(&want, data, row->shard, expected_seq);
    assert_int_equal(row->seq, expected_seq);
    assert_int_equal(row->version, want.version);
    assert_int_equal(row->data_len, want.data_len);
    assert_memory_equal(row->data, data, want.data_len);
}

static void test_each_shard_keeps_its_order(void **state)
{
    (void)state;
    struct hold h;
    int64_t given[SHARDS] = {0}, taken[SHARDS] = {0};
    srand(1);
    hold_open(&h, SHARDS);
    for (int round = 0; round < ROUNDS; round++) {
        size_t held = 0;
        for (int commits = rand() % 6; commits > 0; commits--) {
            struct event_row rows[40];
            char data[40][64];
            size_t n = 1 + (size_t)rand() % 40;
            for (size_t i = 0; i < n; i++) {
                uint32_t shard = (uint32_t)rand() % SHARDS;
                fill(&rows[i], data[i], shard, ++given[shard]);
            }
            assert_true(hold_add(&h, rows, n));
            memset(data, 'x', sizeof data); /* rows are copied, with their data */
            held += n;
        }
        const struct event_row *rows;
        size_t n = hold_take(&h, &rows);
        assert_int_equal(n, held);
        bool seen[SHARDS] = {false};
        for (size_t i = 0; i < n; i++) {
            check(&rows[i], ++taken[rows[i].shard]);
            assert_true(i == 0 || rows[i].shard == rows[i - 1].shard || !seen[rows[i].shard]); /* shard by shard */
            seen[rows[i].shard] = true;
        }
        assert_int_equal(hold_take(&h, &rows), 0);
    }
    hold_free(&h);
}

static void test_it_is_bounded(void **state)
{
    (void)state;
    struct hold h;
    struct event_row row;
    char data[64];
    const struct event_row *rows;
    int64_t seq = 0;
    hold_open(&h, 1);
    do
        fill(&row, data, 0, ++seq);
    while (hold_add(&h, &row, 1));
    assert_int_equal(seq, 2000);
    assert_int_equal(hold_take(&h, &rows), 2000);
    static char large[100000];
    for (seq = 0, row.data = large, row.data_len = sizeof large; hold_add(&h, &row, 1);)
        seq++;
    assert_in_range(seq, 4, 6);
    hold_free(&h);
}

static void test_waits_only_under_load(void **state)
{
    (void)state;
    assert_int_equal(hold_wait_ms(0, 10, 10), 0);
    assert_int_equal(hold_wait_ms(3000, 10, 10), 0);
    assert_int_equal(hold_wait_ms(6000, 10, 10), 5);
    assert_int_equal(hold_wait_ms(10000, 10, 10), 10);
    assert_int_equal(hold_wait_ms(100000, 10, 10), 2); /* no longer than batches take to fill */
    assert_int_equal(hold_wait_ms(20000, 10, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_shard_keeps_its_order),
        cmocka_unit_test(test_it_is_bounded),
        cmocka_unit_test(test_waits_only_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
