/* From a Kafka record to an item: what is handled, what is ignored, what becomes a dead letter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "consumers/group_metrics.h"
#include "consumers/intake.h"
#include "garbage.h"

#define ENVELOPE(type, data)                                                                                           \
    "{\"id\":\"01900000-0000-7000-8000-000000000001\",\"type\":\"" type                                                \
    "\",\"account_id\":\"01900000-0000-7000-8000-0000000000aa\",\"campaign_id\":\"01900000-0000-7000-8000-"            \
    "0000000000cc\",\"data\":" data ",\"timestamp\":\"2025-01-01T12:00:00.000000Z\",\"version\":7}"
#define IN_CAMPAIGN "\"campaign_id\":\"01900000-0000-7000-8000-0000000000cc\""
#define SIGNED_UP                                                                                                      \
    ENVELOPE("user.signed_up",                                                                                         \
             "{\"user_id\":\"01900000-0000-7000-8000-000000000011\"," IN_CAMPAIGN ",\"email\":\"ann@example.org\"}")
#define VERIFIED                                                                                                       \
    ENVELOPE("referral.verified",                                                                                      \
             "{\"referral_id\":\"01900000-0000-7000-8000-000000000021\",\"referrer_id\":\"01900000-0000-7000-8000-"    \
             "000000000022\","                                                                                         \
             "\"referred_id\":\"01900000-0000-7000-8000-000000000023\"," IN_CAMPAIGN ",\"points_per_referral\":1}")

extern const struct handler email_handler, position_handler;

static struct item *read_text(const struct handler *h, const char *value, struct buf *key, int *series)
{
    const struct source_record r = {
        .partition = 3, .offset = 42, .key = "k", .key_len = 1, .value = value, .value_len = value ? strlen(value) : 0};
    *series = -1;
    return intake_read(h, &r, key, series);
}

static void test_subscribed(void **state)
{
    struct buf key = {0}, other = {0};
    int series;
    (void)state;
    struct item *it = read_text(&email_handler, SIGNED_UP, &key, &series);
    assert_non_null(it);
    assert_false(it->bury);
    assert_int_equal(series, EVENT_USER_SIGNED_UP);
    assert_int_equal(it->record.event.version, 7);
    assert_int_equal(it->record.partition, 3);
    assert_int_equal(it->record.offset, 42);
    assert_int_equal(key.len, 16); /* the user */
    assert_int_equal(key.data[15], 0x11);
    assert_memory_equal(item_raw_value(it), SIGNED_UP, it->raw_value_len);
    item_free(it);
    it = read_text(&email_handler, VERIFIED, &other, &series);
    assert_int_equal(other.data[15], 0x22); /* the referrer */
    item_free(it);
    it = read_text(&position_handler, VERIFIED, &other, &series);
    assert_int_equal((unsigned char)other.data[15], 0xcc); /* the campaign */
    item_free(it);
    buf_free(&key);
    buf_free(&other);
}

static void test_ignored(void **state)
{
    struct buf key = {0};
    int series;
    (void)state;
    assert_null(read_text(&position_handler, SIGNED_UP, &key, &series));
    assert_int_equal(series, EVENT_USER_SIGNED_UP);
    assert_null(read_text(&email_handler, ENVELOPE("invoice.paid", "{}"), &key, &series));
    assert_int_equal(series, SERIES_UNKNOWN);
    assert_null(read_text(&email_handler, "{\"type\":\"invoice.paid\"}", &key, &series));
    assert_int_equal(series, SERIES_UNKNOWN);
    buf_free(&key);
}

static void test_malformed(void **state)
{
    static const char *const values[] = {
        NULL,
        "",
        "garbage",
        "{}",
        "[]",
        "{\"id\":\"x\"}",
        ENVELOPE("user.signed_up", "{}"),
        ENVELOPE("user.signed_up", "[]"),
        "{\"id\":\"01900000-0000-7000-8000-000000000001\",\"type\":\"user.signed_up", /* cut off */
    };
    struct buf key = {0};
    int series;
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct item *it = read_text(&email_handler, values[i], &key, &series);
        assert_non_null(it);
        assert_true(it->bury);
        assert_memory_equal(it->record.reason, "malformed: ", 11);
        assert_true(strlen(it->record.reason) > 12);
        assert_int_equal(series, SERIES_MALFORMED);
        assert_int_equal(it->record.event.type, EVENT_NONE);
        assert_int_equal(it->raw_value_null, values[i] == NULL);
        item_free(it);
    }
    buf_free(&key);
}

static void test_garbage(void **state)
{
    uint64_t random = 88172645463325252u;
    struct buf key = {0};
    int series;
    (void)state;
    for (int i = 0; i < 50000; i++) {
        char text[600];
        size_t len = garbage_make(&random, i % 2 ? SIGNED_UP : VERIFIED, text, sizeof text);
        char *exact = malloc(len ? len : 1);
        assert_non_null(exact);
        memcpy(exact, text, len);
        const struct source_record r = {.value = exact, .value_len = len};
        item_free(intake_read(i % 4 < 2 ? &email_handler : &position_handler, &r, &key, &series));
        free(exact);
    }
    buf_free(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subscribed),
        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
