/* Turns: no target has more than its share, whoever is sent away is told a time of his own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdio.h>

#include "core/clock.h"
#include "handlers/turns.h"

static void test_limit(void **state)
{
    int64_t now = clock_mono_us(), wait = 0;
    (void)state;
    assert_true(turns_take("limit", 2, &wait));
    assert_true(turns_take("limit", 2, &wait));
    assert_false(turns_take("limit", 2, &wait));
    assert_true(wait > 0 && wait < 1000);
    assert_true(turns_take("another", 2, &wait));
    turns_give("limit", now, true);
    assert_true(turns_take("limit", 2, &wait));
    turns_give("limit", now, true);
    turns_give("limit", now, true);
    turns_give("another", now, false);
}

static void test_waits_are_spread(void **state)
{
    int64_t wait = 0, before = 0;
    (void)state;
    assert_true(turns_take("slow", 2, &wait));
    turns_give("slow", clock_mono_us() - 2000000, true); /* a call takes 2 s: two of them at a time, one a second */
    assert_true(turns_take("slow", 2, &wait));
    assert_true(turns_take("slow", 2, &wait));
    for (int i = 0; i < 10; i++) {
        assert_false(turns_take("slow", 2, &wait));
        assert_in_range(wait - before, 900, 1100);
        before = wait;
    }
    for (int i = 0; i < 1000; i++)
        assert_false(turns_take("slow", 2, &wait));
    assert_in_range(wait, 59000, 60001);
    turns_give("slow", clock_mono_us(), true);
    turns_give("slow", clock_mono_us(), true);
}

static void test_hold(void **state)
{
    int64_t wait = 0;
    (void)state;
    turns_hold("held", 5000);
    assert_false(turns_take("held", 2, &wait));
    assert_in_range(wait, 4000, 5100);
    turns_hold("held", 0);
    assert_true(turns_take("held", 2, &wait));
    assert_int_equal(turns_good_us("held"), 0);
    turns_give("held", clock_mono_us(), false);
    assert_int_equal(turns_good_us("held"), 0);
    assert_true(turns_take("held", 2, &wait));
    turns_give("held", clock_mono_us(), true);
    assert_true(turns_good_us("held") > 0);
}

/* More targets than there is room for: those under way are never forgotten. */
static void test_many_targets(void **state)
{
    int64_t wait = 0;
    char name[32];
    (void)state;
    assert_true(turns_take("first", 1, &wait));
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "target %d", i);
        assert_true(turns_take(name, 1, &wait));
        turns_give(name, clock_mono_us(), true);
    }
    assert_false(turns_take("first", 1, &wait));
    turns_give("first", clock_mono_us(), true);
    assert_true(turns_take("first", 1, &wait));
    turns_give("first", clock_mono_us(), true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_waits_are_spread),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_many_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
