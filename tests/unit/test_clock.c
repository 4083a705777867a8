/* RFC 3339 both ways, clocks, back-off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/uuid.h"
#include "garbage.h"

static int64_t parsed(const char *text)
{
    int64_t us = -1;
    assert_int_equal(rfc3339_parse(text, strlen(text), &us), 0);
    return us;
}

static void test_format_golden(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } known[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {1, "1970-01-01T00:00:00.000001Z"},
        {951782399999999, "2000-02-28T23:59:59.999999Z"},
        {951782400000000, "2000-02-29T00:00:00.000000Z"},
        {1735732800123456, "2025-01-01T12:00:00.123456Z"},
        {4107542400000000, "2100-03-01T00:00:00.000000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z"},
        {-5, "1970-01-01T00:00:00.000000Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999999Z"},
        {INT64_MIN, "1970-01-01T00:00:00.000000Z"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[RFC3339_SIZE];
        rfc3339_format(known[i].us, text);
        assert_string_equal(text, known[i].text);
    }
}

/* Against the C library's calendar, and back. */
static void test_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        int64_t us = (int64_t)(random_u64() % UINT64_C(253402300800000000)), back;
        char text[RFC3339_SIZE], expected[64];
        struct tm tm;
        time_t seconds = (time_t)(us / 1000000);
        gmtime_r(&seconds, &tm);
        size_t len = strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(expected + len, sizeof expected - len, ".%06dZ", (int)(us % 1000000));
        rfc3339_format(us, text);
        assert_string_equal(text, expected);
        assert_int_equal(rfc3339_parse(text, strlen(text), &back), 0);
        assert_true(back == us);
    }
}

static void test_parse_forms(void **state)
{
    (void)state;
    const int64_t noon = 1735732800000000;
    assert_true(parsed("2025-01-01T12:00:00Z") == noon);
    assert_true(parsed("2025-01-01t12:00:00z") == noon);
    assert_true(parsed("2025-01-01T12:00:00+00:00") == noon);
    assert_true(parsed("2025-01-01T12:00:00-00:00") == noon);
    assert_true(parsed("2025-01-01T14:30:00+02:30") == noon);
    assert_true(parsed("2024-12-31T22:00:00-14:00") == noon);
    assert_true(parsed("2025-01-01T12:00:00.5Z") == noon + 500000);
    assert_true(parsed("2025-01-01T12:00:00.000001Z") == noon + 1);
    assert_true(parsed("2025-01-01T12:00:00.123456789Z") == noon + 123456);
    assert_true(parsed("2016-12-31T23:59:60Z") == parsed("2017-01-01T00:00:00Z"));
    assert_true(parsed("2017-01-01T01:59:60+02:00") == parsed("2017-01-01T00:00:00Z"));
    assert_true(parsed("1969-12-31T23:59:59.5Z") == -500000);
    assert_true(parsed("0000-01-01T00:00:00Z") == INT64_C(-62167219200000000));
    assert_true(parsed("2024-02-29T00:00:00Z") == INT64_C(1709164800000000));
}

static void test_parse_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "2025",
        "2025-01-01",
        "2025-01-01T12:00:00",
        "2025-01-01T12:00Z",
        "2025-01-01 12:00:00Z",
        "2025-00-01T12:00:00Z",
        "2025-13-01T12:00:00Z",
        "2025-01-00T12:00:00Z",
        "2025-01-32T12:00:00Z",
        "2025-02-29T12:00:00Z",
        "1900-02-29T12:00:00Z",
        "2025-04-31T12:00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T12:60:00Z",
        "2025-01-01T12:00:61Z",
        "2025-01-01T12:00:60Z",
        "2025-01-01T12:00:00.Z",
        "2025-01-01T12:00:00.1234567890Z",
        "2025-01-01T12:00:00,5Z",
        "2025-01-01T12:00:00+24:00",
        "2025-01-01T12:00:00+01:60",
        "2025-01-01T12:00:00+0100",
        "2025-01-01T12:00:00+01",
        "2025-01-01T12:00:00ZZ",
        " 2025-01-01T12:00:00Z",
        "2025-01-01T12:00:00Z ",
        "+025-01-01T12:00:00Z",
        "2025-1-01T12:00:00Z",
        "-2025-01-01T12:00:00Z",
        "12025-01-01T12:00:00Z",
        "2025-01-01T12:00:00.+1Z",
        "2025-01-01T-2:00:00Z",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t us;
        if (rfc3339_parse(bad[i], strlen(bad[i]), &us) == 0)
            fail_msg("accepted %s", bad[i]);
    }
    int64_t us;
    assert_int_equal(rfc3339_parse("2025-01-01T12:00:00\0", 20, &us), -1); /* a NUL is none of "Zz+-" */
    assert_int_equal(rfc3339_parse("2025\0"
                                   "01-01T12:00:00Z",
                                   20, &us),
                     -1);
}

static void check_parse(const char *text, size_t len)
{
    int64_t us, again;
    char back[RFC3339_SIZE];
    if (rfc3339_parse(text, len, &us) != 0 || us < 0)
        return;
    rfc3339_format(us, back);
    assert_int_equal(rfc3339_parse(back, strlen(back), &again), 0);
    assert_true(us == again || us > INT64_C(253402300799999999));
}

static void test_parse_garbage(void **state)
{
    (void)state;
    garbage_try("2025-01-01T12:00:00.123456+05:30", 50000, check_parse);
    garbage_try("9999-12-31T23:59:59Z", 50000, check_parse);
}

static void test_clocks(void **state)
{
    (void)state;
    int64_t before = clock_mono_us();
    assert_true(before > 0);
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_mono_us();
        assert_true(now >= before);
        before = now;
    }
    assert_true(clock_wall_us() / 1000000 - (int64_t)time(NULL) <= 1);
    assert_true(clock_wall_us() > INT64_C(1700000000000000));
    int64_t coarse = clock_coarse_us();
    assert_true(coarse <= clock_mono_us());
    assert_true(coarse >= before - 100000); /* a tick is 10 ms at most */
}

static void test_backoff(void **state)
{
    (void)state;
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < 5000; i++) {
        int64_t ms = backoff_ms(3, 200, 30000);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, 100, 200); /* uniform in [100, 1600] */
    assert_in_range(most, 1500, 1600);
    for (int attempt = -1; attempt < 200; attempt++) {
        assert_in_range(backoff_ms(attempt, 200, 30000), 100, 30000);
        assert_in_range(backoff_ms(attempt, 1, 1), 1, 1);
        assert_in_range(backoff_ms(attempt, 0, 0), 1, 1);
        assert_in_range(backoff_ms(attempt, 1000, 10), 10, 10); /* the maximum holds */
        assert_in_range(backoff_ms(attempt, 3, INT64_MAX), 1, INT64_MAX);
    }
    assert_in_range(backoff_ms(0, 200, 30000), 100, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_golden), cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_parse_forms),
        cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_parse_garbage), cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
