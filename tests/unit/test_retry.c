/* How long a record is tried, and from where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "consumers/retry.h"

#define SECOND_US 1000000
#define NOW_US (1000000 * (int64_t)SECOND_US)

static const struct config config = {.retry_base_ms = 100,
                                     .retry_max_ms = 1000,
                                     .retry_quick_attempts = 3,
                                     .retry_max_attempts = 5,
                                     .retry_max_age_s = 60};

/* attempt: as the handler sees it, from 0. */
static struct item failed(int attempt)
{
    struct item it = {.record = {.attempt = attempt, .outcome = OUTCOME_DONE}};
    record_fail(&it.record, OUTCOME_RETRY, "busy");
    return it;
}

static void test_memory_then_postgres_then_never(void **state)
{
    (void)state;
    for (int attempt = 0; attempt < 6; attempt++) {
        struct item it = failed(attempt);
        retry_decide(&config, &it, NOW_US);
        assert_int_equal(it.hold, attempt == 2 || attempt == 3);
        assert_int_equal(it.record.outcome, attempt < 4 ? OUTCOME_RETRY : OUTCOME_REJECT);
        assert_int_equal(it.record.failed_us, NOW_US);
    }
    struct item it = failed(4);
    retry_decide(&config, &it, NOW_US);
    assert_string_equal(it.record.reason, "gave up after 5 attempts: busy");
}

static void test_what_was_held_goes_back_there(void **state)
{
    (void)state;
    struct item it = failed(0);
    it.held_id = 7;
    retry_decide(&config, &it, NOW_US);
    assert_true(it.hold);
}

static void test_who_only_waits(void **state)
{
    (void)state;
    for (int held = 0; held < 2; held++)
        for (int from_row = 0; from_row < 2; from_row++) {
            struct item it = {
                .record = {.attempt = 50, .outcome = OUTCOME_LATER, .later_ms = 9000, .later_held = held}};
            it.held_id = from_row;
            retry_decide(&config, &it, NOW_US);
            assert_int_equal(it.hold, held && !from_row); /* a row stays where it is */
            assert_int_equal(it.record.outcome, OUTCOME_LATER);
            assert_int_equal(it.record.failed_us, 0);
        }
}

static void test_age(void **state)
{
    (void)state;
    struct item it = failed(1);
    it.record.failed_us = NOW_US;
    retry_decide(&config, &it, NOW_US + 60 * SECOND_US - 1);
    assert_int_equal(it.record.outcome, OUTCOME_RETRY);
    retry_decide(&config, &it, NOW_US + 61 * SECOND_US);
    assert_int_equal(it.record.outcome, OUTCOME_REJECT);
    assert_false(it.hold);
    assert_string_equal(it.record.reason, "gave up after 61 seconds: busy");
    it = failed(1);
    it.record.failed_us = -10 * SECOND_US; /* before this host started */
    retry_decide(&config, &it, 49 * SECOND_US);
    assert_int_equal(it.record.outcome, OUTCOME_RETRY);
    retry_decide(&config, &it, 50 * SECOND_US);
    assert_int_equal(it.record.outcome, OUTCOME_REJECT);
}

static void test_other_outcomes_are_left_alone(void **state)
{
    static const enum outcome outcomes[] = {OUTCOME_DONE, OUTCOME_UNAVAILABLE, OUTCOME_LATER, OUTCOME_REJECT};
    (void)state;
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        struct item it = {.record = {.attempt = 9, .outcome = outcomes[i]}, .hold = true};
        retry_decide(&config, &it, NOW_US);
        assert_int_equal(it.record.outcome, outcomes[i]);
        assert_int_equal(it.record.failed_us, 0);
        assert_false(it.hold);
    }
}

static void test_waits(void **state)
{
    (void)state;
    struct item it = failed(0);
    for (int i = 0; i < 100; i++) {
        it.record.attempt = i % 10;
        int64_t wait = retry_wait_ms(&config, &it.record);
        assert_true(wait >= 50 && wait <= 1000);
    }
    it.record.later_ms = 1000;
    assert_int_equal(retry_wait_ms(&config, &it.record), 1000);
    it.record.attempt = 0;
    retry_decide(&config, &it, NOW_US);
    assert_false(it.hold);
    it.record.later_ms = 1001; /* longer than a back-off: not in memory */
    retry_decide(&config, &it, NOW_US);
    assert_true(it.hold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_then_postgres_then_never),
        cmocka_unit_test(test_what_was_held_goes_back_there),
        cmocka_unit_test(test_who_only_waits),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_other_outcomes_are_left_alone),
        cmocka_unit_test(test_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
