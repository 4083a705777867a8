/* The schedule of a webhook's attempts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "core/buf.h"
#include "delivery/schedule.h"

static void test_waits(void **state)
{
    static const int64_t waits[] = {5000, 300000, 7200000, 250, 144000000};
    struct schedule s;
    char why[100];
    (void)state;
    assert_true(schedule_read("5s,5m,2h,250ms,40h", &s, why, sizeof why));
    assert_int_equal(s.count, 5);
    for (size_t i = 0; i < s.count; i++)
        assert_int_equal(s.waits_ms[i], waits[i]);
}

static void test_what_is_none(void **state)
{
    static const char *const bad[] = {"",   ",",   "5",  "s",   "5s,",  ",5s",  "5s,,5s",      "5 s",
                                      "1d", "-1s", "0s", "0ms", "1.5s", "41h", "144000001ms", "99999999999999999999s"};
    struct schedule s;
    struct buf many = {0};
    char why[100];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        why[0] = '\0';
        if (schedule_read(bad[i], &s, why, sizeof why) || !why[0])
            fail_msg("\"%s\" is accepted, or not explained", bad[i]);
    }
    for (int i = 0; i < SCHEDULE_WAITS; i++)
        buf_adds(&many, i > 0 ? ",1s" : "1s");
    assert_true(schedule_read(buf_cstr(&many), &s, why, sizeof why));
    buf_adds(&many, ",1s");
    assert_false(schedule_read(buf_cstr(&many), &s, why, sizeof why));
    assert_string_equal(why, "1s is one wait too many");
    buf_free(&many);
}

static void test_next_wait(void **state)
{
    struct schedule s;
    char why[100];
    bool differ = false;
    (void)state;
    assert_true(schedule_read("10s,1h", &s, why, sizeof why));
    for (int i = 0; i < 100; i++) {
        int64_t first = schedule_wait_ms(&s, 0, 0), asked = schedule_wait_ms(&s, 0, 20000);
        assert_in_range(first, 10000, 12000);
        assert_in_range(asked, 20000, 24000);
        assert_in_range(schedule_wait_ms(&s, 1, 20000), 3600000, 4320000);
        differ = differ || first != schedule_wait_ms(&s, 0, 0);
    }
    assert_true(differ);
    assert_int_equal(schedule_wait_ms(&s, 2, 20000), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_next_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
