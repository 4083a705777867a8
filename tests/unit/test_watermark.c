/* The watermark: whatever the order in which records finish, the offset to commit is that of the first unfinished one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>

#include "consumers/watermark.h"

enum { RECORDS = 3000, ROUNDS = 30 };

static void test_in_order(void **state)
{
    struct watermark w;
    (void)state;
    watermark_init(&w);
    assert_int_equal(w.next, -1);
    uint64_t a = watermark_add(&w, 10), b = watermark_add(&w, 11);
    assert_int_equal(w.next, 10);
    watermark_done(&w, b);
    assert_int_equal(w.next, 10);
    watermark_done(&w, a);
    assert_int_equal(w.next, 12);
    assert_int_equal(w.first, 10);
    assert_int_equal(watermark_open(&w), 0);
    watermark_free(&w);
    assert_int_equal(w.first, -1);
    watermark_add_done(&w, 7);
    assert_int_equal(w.first, 7);
    watermark_free(&w);
}

static void test_skipped_take_one_slot(void **state)
{
    struct watermark w;
    (void)state;
    watermark_init(&w);
    watermark_add_done(&w, 3);
    assert_int_equal(w.next, 4);
    uint64_t slow = watermark_add(&w, 4);
    for (int64_t offset = 5; offset < 100000; offset++)
        watermark_add_done(&w, offset);
    assert_int_equal(watermark_open(&w), 2);
    assert_int_equal(w.next, 4);
    watermark_done(&w, slow);
    assert_int_equal(w.next, 100000);
    watermark_free(&w);
}

/* Offsets have gaps (transactions, compaction); after an unclean loss of the log's end they may even repeat. */
static void test_never_back(void **state)
{
    struct watermark w;
    (void)state;
    watermark_init(&w);
    watermark_done(&w, watermark_add(&w, 100));
    watermark_done(&w, watermark_add(&w, 205));
    assert_int_equal(w.next, 206);
    watermark_done(&w, watermark_add(&w, 50));
    assert_int_equal(w.next, 206);
    watermark_free(&w);
}

/* Against a model: an array of what is done. */
static void test_random(void **state)
{
    (void)state;
    srand(20250101);
    for (int round = 0; round < ROUNDS; round++) {
        struct watermark w;
        int64_t offset[RECORDS], at = rand() % 1000;
        uint64_t ticket[RECORDS];
        bool done[RECORDS];
        int added = 0, open[RECORDS], open_count = 0, first = 0;
        watermark_init(&w);
        while (added < RECORDS || open_count > 0) {
            if (added < RECORDS && (open_count == 0 || rand() % 2)) {
                offset[added] = at;
                at += 1 + (rand() % 5 == 0 ? rand() % 4 : 0);
                done[added] = rand() % 3 == 0;
                if (done[added]) {
                    watermark_add_done(&w, offset[added]);
                } else {
                    ticket[added] = watermark_add(&w, offset[added]);
                    open[open_count++] = added;
                }
                added++;
            } else {
                int pick = rand() % open_count, i = open[pick];
                open[pick] = open[--open_count];
                done[i] = true;
                watermark_done(&w, ticket[i]);
            }
            while (first < added && done[first])
                first++;
            /* Between the last finished and the first unfinished record there may be offsets that nobody has. */
            assert_true(w.next <= (first < added ? offset[first] : at));
            assert_true(w.next >= (first > 0 ? offset[first - 1] + 1 : offset[0]));
        }
        assert_int_equal(watermark_open(&w), 0);
        watermark_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_skipped_take_one_slot),
        cmocka_unit_test(test_never_back),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
