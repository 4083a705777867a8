/* What handlers share: outcomes with a reason, arrays for Postgres; and the table of handlers itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <glib.h>
#include <string.h>

#include "handlers/handler.h"
#include "handlers/sql.h"

static void test_first_failure_stays(void **state)
{
    struct record r = {.outcome = OUTCOME_DONE};
    (void)state;
    record_fail(&r, OUTCOME_RETRY, "first %d", 1);
    record_fail(&r, OUTCOME_REJECT, "second");
    assert_int_equal(r.outcome, OUTCOME_RETRY);
    assert_string_equal(r.reason, "first 1");
}

static void test_reason_is_text(void **state)
{
    struct record r = {.outcome = OUTCOME_DONE};
    char long_text[400];
    (void)state;
    record_reason(&r, "a\r\nb\xff\xc3\x28 \xed\xa0\x80 \xf0\x9f\x98\x80 \xc0\x80 é");
    assert_string_equal(r.reason, "a  b?"
                                  "?( ?"
                                  "?? \xf0\x9f\x98\x80 ?"
                                  "? é");        /* in pieces: trigraphs */
    for (size_t shift = 0; shift < 4; shift++) { /* cut within a character */
        memset(long_text, 'x', sizeof long_text);
        for (size_t i = shift; i + 4 < sizeof long_text; i += 4)
            memcpy(long_text + i, "\xf0\x9f\x98\x80", 4);
        long_text[sizeof long_text - 1] = '\0';
        record_reason(&r, "%s", long_text);
        assert_true(g_utf8_validate(r.reason, -1, NULL));
    }
}

static void test_arrays(void **state)
{
    struct buf b = {0};
    struct uuid id;
    (void)state;
    sql_array_begin(&b);
    assert_string_equal(sql_array_end(&b), "{}");
    sql_array_begin(&b);
    sql_array_text(&b, "a\"b\\c,{}");
    sql_array_text(&b, NULL);
    sql_array_text(&b, "");
    sql_array_int(&b, -5);
    assert_true(uuid_parse("01900000-0000-7000-8000-0000000000CC", 36, &id));
    sql_array_uuid(&b, id);
    assert_string_equal(sql_array_end(&b), "{\"a\\\"b\\\\c,{}\",NULL,\"\",-5,01900000-0000-7000-8000-0000000000cc}");
    buf_free(&b);
}

/* What the machinery relies on. */
static void test_table(void **state)
{
    (void)state;
    for (const struct handler *const *h = all_handlers; *h; h++) {
        assert_non_null((*h)->group);
        assert_non_null((*h)->processes);
        assert_non_null((*h)->key);
        assert_non_null((*h)->apply);
        assert_true((*h)->types != 0 && !((*h)->types & 1u << EVENT_NONE));
        assert_int_equal((*h)->call == NULL, (*h)->settle == NULL);
        assert_int_equal((*h)->call == NULL, (*h)->give_up == NULL);
        /* With both, a crash between apply and call would leave the event as handled and its call unmade. */
        assert_false((*h)->dedupe && (*h)->call);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_failure_stays),
        cmocka_unit_test(test_reason_is_text),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
