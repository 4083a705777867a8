/* The error table: every row is complete and consistent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "core/err.h"

static void test_rows(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        enum err e = (enum err)i;
        int status = err_http_status(e);
        assert_memory_equal(err_name(e), "ERR_", 4);
        assert_true(e == ERR_NONE ? status == 200 : status >= 400 && status <= 599);
        /* What may be tried again says so by its status, and the other way round. */
        assert_int_equal(err_retriable(e), status == 429 || status == 503 || status == 504);
        assert_true(strlen(err_slug(e)) > 0 && strlen(err_title(e)) > 0);
        assert_int_equal(strspn(err_slug(e), "abcdefghijklmnopqrstuvwxyz-"), strlen(err_slug(e)));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(err_slug(e), err_slug((enum err)j));
    }
}

static void test_known(void **state)
{
    (void)state;
    assert_string_equal(err_name(ERR_EMAIL_TAKEN), "ERR_EMAIL_TAKEN");
    assert_int_equal(err_http_status(ERR_EMAIL_TAKEN), 409);
    assert_false(err_retriable(ERR_EMAIL_TAKEN));
    assert_string_equal(err_slug(ERR_EMAIL_TAKEN), "email-taken");
    assert_true(err_retriable(ERR_OUTCOME_UNKNOWN));
    assert_string_equal(err_title(ERR_NO_CAMPAIGN), "No such campaign");
}

static void test_out_of_range_is_internal(void **state)
{
    (void)state;
    assert_string_equal(err_name(ERR_COUNT), "ERR_INTERNAL");
    assert_int_equal(err_http_status((enum err)1000), 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_out_of_range_is_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
