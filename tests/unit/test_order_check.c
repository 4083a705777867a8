/* Versions that come in order, again, too early, or as another event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/order_check.h"
#include "core/metrics.h"

static int64_t gaps(void)
{
    return metric_value(metric_get(M_CHECK_FAULTS, "gap", NULL));
}

static int64_t differences(void)
{
    return metric_value(metric_get(M_CHECK_FAULTS, "differs", NULL));
}

static void see_bytes(struct order_check *o, const char *key, const char *value, size_t len)
{
    order_check_see(o, &(struct source_record){.key = key, .key_len = strlen(key), .value = value, .value_len = len});
}

/* aggregate and id: small numbers. */
static void see(struct order_check *o, int aggregate, int id, int64_t version)
{
    char key[64], value[256];
    snprintf(key, sizeof key, "01900000-0000-7000-8000-%012d", aggregate);
    int len =
        snprintf(value, sizeof value, "{\"id\":\"01900000-0000-7000-9000-%012d\",\"type\":\"x\",\"version\":%lld}", id,
                 (long long)version);
    see_bytes(o, key, value, (size_t)len);
}

static void test_in_order(void **state)
{
    struct order_check *o = order_check_new();
    int64_t before = gaps() + differences();
    (void)state;
    for (int a = 0; a < 10000; a++) /* more than it remembers */
        see(o, a, a, 1);
    for (int64_t v = 5; v < 300; v++) /* it comes in the middle */
        see(o, 1, (int)v, v);
    see(o, 1, 299, 299); /* the last one again, and earlier ones */
    see(o, 1, 7, 7);
    see(o, 1, 300, 300);
    order_check_forget(o);
    see(o, 1, 900, 900);
    see(o, 1, 901, INT64_C(901));
    assert_int_equal(gaps() + differences(), before);
    order_check_free(o);
}

static void test_too_early(void **state)
{
    struct order_check *o = order_check_new();
    int64_t before = gaps();
    (void)state;
    see(o, 1, 1, 1);
    see(o, 1, 3, 3);
    assert_int_equal(gaps(), before + 1);
    see(o, 1, 4, 4); /* it goes on from there */
    assert_int_equal(gaps(), before + 1);
    order_check_free(o);
}

static void test_another_event(void **state)
{
    struct order_check *o = order_check_new();
    int64_t before = differences();
    (void)state;
    see(o, 1, 1, 1);
    see(o, 1, 2, 1);
    assert_int_equal(differences(), before + 1);
    order_check_free(o);
}

/* Anyone may write to the topic: any bytes are passed over, and read no further than they go (the sanitizer sees to that). */
static void test_garbage(void **state)
{
    static const char key[] = "01900000-0000-7000-8000-000000000001";
    static const char *const values[] = {
        "",
        "}",
        "7}",
        "\"version\":7}",
        "{\"id\":\"01900000-0000-7000-9000-000000000001\"}",
        "{\"id\":\"01900000-0000-7000-9000-000000000001\",\"version\":}",
        "{\"id\":\"01900000-0000-7000-9000-000000000001\",\"version\":99999999999999999999}",
        "{\"id\":\"01900000-0000-7000-9000-000000000001\",\"version\":-7}"};
    struct order_check *o = order_check_new();
    int64_t before = gaps() + differences();
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char *copy = strdup(values[i]); /* of its own size */
        see_bytes(o, key, copy, strlen(copy));
        free(copy);
    }
    order_check_see(o, &(struct source_record){.key = NULL, .value = NULL});
    order_check_see(o, &(struct source_record){.key = key, .key_len = 36, .value = NULL});
    assert_int_equal(gaps() + differences(), before);
    order_check_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_too_early),
        cmocka_unit_test(test_another_event),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
