/* Events that were passed without having been seen: what is remembered is exactly what was passed and not taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>

#include "verify/unseen.h"

enum { SEQS = 300000, AFTER = 1000 };

static void test_nothing(void **state)
{
    struct unseen u;
    (void)state;
    unseen_init(&u, 5, 5);
    assert_false(unseen_take(&u, 6));
    assert_int_equal(unseen_next(&u, 0), 0);
    unseen_free(&u);
    unseen_init(&u, 0, 1000000000); /* costs nothing before something is unseen */
    assert_int_equal(unseen_next(&u, 0), 0);
    unseen_add(&u, 999999999);
    assert_int_equal(unseen_next(&u, 0), 999999999);
    assert_int_equal(unseen_next(&u, 999999999), 0);
    unseen_free(&u);
}

static void test_outside(void **state)
{
    struct unseen u;
    (void)state;
    unseen_init(&u, AFTER, AFTER + 10);
    unseen_add(&u, AFTER);
    assert_false(unseen_take(&u, AFTER));
    assert_false(unseen_take(&u, -1));
    assert_false(unseen_take(&u, INT64_MAX));
    unseen_add(&u, AFTER + 1);
    unseen_add(&u, AFTER + 10);
    assert_int_equal(unseen_next(&u, 0), AFTER + 1);
    assert_int_equal(unseen_next(&u, AFTER + 1), AFTER + 10);
    unseen_free(&u);
}

/* Against an array of flags, dense in places and empty in others. */
static void test_random(void **state)
{
    static bool missing[SEQS];
    struct unseen u;
    (void)state;
    srandom(1);
    unseen_init(&u, AFTER, AFTER + SEQS);
    for (int64_t i = 0; i < SEQS; i++) {
        missing[i] = i % 100000 < 40000 && random() % (1 + i / 10000) == 0;
        if (missing[i])
            unseen_add(&u, AFTER + 1 + i);
        int64_t past = random() % (i + 1);
        assert_int_equal(unseen_take(&u, AFTER + 1 + past), missing[past]);
        missing[past] = false;
    }
    int64_t at = 0, count = 0;
    for (int64_t i = 0; i < SEQS; i++) {
        if (!missing[i])
            continue;
        at = unseen_next(&u, at);
        assert_int_equal(at, AFTER + 1 + i);
        count++;
    }
    assert_true(count > 1000);
    assert_int_equal(unseen_next(&u, at), 0);
    unseen_free(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
