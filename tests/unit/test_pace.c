/* Paces: the rate holds whatever the order of asking; nobody is overtaken; campaigns do not meet; memory is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdlib.h>

#include "handlers/pace.h"

#define SECOND 1000000LL

static int64_t clock_us = 1000 * SECOND;

static void test_rate(void **state)
{
    int64_t start = clock_us, wait, sent = 0;
    (void)state;
    for (; clock_us < start + 60 * SECOND; clock_us += 1000) { /* asked for all the time */
        sent += pace_take(1, 120, true, clock_us, &wait);
        assert_true(sent <= 120 * ((clock_us - start) / 1000 + PACE_BURST_MS) / 60000 + 1);
    }
    assert_true(sent >= 120);
}

static void test_turns(void **state)
{
    int64_t due[200], wait;
    int sent = 0, waiting = 0;
    (void)state;
    clock_us += 3600 * SECOND;
    for (int i = 0; i < 200; i++) {
        if (pace_take(2, 600, false, clock_us, &wait))
            sent++;
        else
            due[waiting++] = clock_us + wait * 1000;
    }
    assert_int_equal(sent, 21); /* two seconds' worth, and one */
    for (int i = 1; i < waiting; i++)
        assert_in_range(due[i] - due[i - 1], 99000, 101000);
    for (int i = 0; i < waiting; i++) { /* each goes when it was told to, though newcomers ask all the time */
        clock_us = due[i];
        if (i + 1 < waiting) {
            int64_t new_wait;
            assert_false(pace_take(2, 600, false, clock_us, &new_wait));
            assert_true(clock_us + new_wait * 1000 > due[waiting - 1]);
        }
        assert_true(pace_take(2, 600, true, clock_us, &wait));
    }
}

static void test_late_ones_do_not_burst(void **state)
{
    int64_t wait, longest = 0;
    int sent = 0;
    (void)state;
    clock_us += 3600 * SECOND;
    for (int i = 0; i < 100; i++) { /* all come back at once, an hour late */
        bool mine = pace_take(3, 60, true, clock_us, &wait);
        sent += mine;
        longest = !mine && wait > longest ? wait : longest;
    }
    assert_int_equal(sent, 3);
    assert_in_range(longest, 97000, 99000);
}

static void test_a_promise_is_not_too_far(void **state)
{
    int64_t wait = 0;
    (void)state;
    clock_us += 36000 * SECOND;
    for (int i = 0; i < 1000; i++)
        pace_take(4, 1, false, clock_us, &wait);
    assert_int_equal(wait, 3600001);
}

static void test_many_campaigns(void **state)
{
    int64_t wait;
    (void)state;
    clock_us += 36000 * SECOND;
    for (int i = 1; i <= 100000; i++)
        assert_true(pace_take(i, 1, false, clock_us, &wait));
    for (int i = 1; i <= 100000; i += 1000)
        assert_false(pace_take(i, 1, false, clock_us + 57 * SECOND, &wait));
    clock_us += 36000 * SECOND;
    for (int i = 1; i <= 100000; i++)
        assert_true(pace_take(i, 1, false, clock_us, &wait));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_late_ones_do_not_burst),
        cmocka_unit_test(test_a_promise_is_not_too_far),
        cmocka_unit_test(test_many_campaigns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
