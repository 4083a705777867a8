/* Binary arrays as Postgres reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/pgarray.h"

static void assert_bytes(const struct pgarray *a, const char *bytes, size_t len)
{
    assert_int_equal(a->buf.len, len);
    assert_memory_equal(a->buf.data, bytes, len);
}

static void test_empty(void **state)
{
    (void)state;
    struct pgarray a = {0};
    pgarray_begin(&a, PG_OID_INT4);
    pgarray_end(&a);
    static const char empty[] = "\0\0\0\0" /* no dimension */
                                "\0\0\0\0"
                                "\0\0\0\27";
    assert_bytes(&a, empty, 12);
    pgarray_free(&a);
}

static void test_ints(void **state)
{
    (void)state;
    struct pgarray a = {0};
    for (int round = 0; round < 2; round++) { /* the second use starts afresh */
        pgarray_begin(&a, PG_OID_INT4);
        pgarray_int(&a, 1);
        pgarray_int(&a, -2);
        pgarray_end(&a);
        static const char two[] = "\0\0\0\1\0\0\0\0\0\0\0\27\0\0\0\2\0\0\0\1"
                                  "\0\0\0\4\0\0\0\1\0\0\0\4\377\377\377\376";
        assert_bytes(&a, two, sizeof two - 1);
    }
    pgarray_free(&a);
}

static void test_texts_with_null(void **state)
{
    (void)state;
    struct pgarray a = {0};
    pgarray_begin(&a, PG_OID_TEXT);
    pgarray_text(&a, (struct text){"ab", 2});
    pgarray_text(&a, (struct text){NULL, 0});
    pgarray_text(&a, (struct text){"", 0});
    pgarray_end(&a);
    static const char bytes[] = "\0\0\0\1\0\0\0\1\0\0\0\31\0\0\0\3\0\0\0\1"
                                "\0\0\0\2ab\377\377\377\377\0\0\0\0";
    assert_bytes(&a, bytes, sizeof bytes - 1);
    pgarray_free(&a);
}

static void test_uuids(void **state)
{
    (void)state;
    struct pgarray a = {0};
    struct uuid id;
    assert_true(uuid_parse("00112233-4455-6677-8899-aabbccddeeff", 36, &id));
    pgarray_begin(&a, PG_OID_UUID);
    pgarray_uuid(&a, id);
    pgarray_end(&a);
    assert_int_equal(a.buf.len, 20 + 4 + 16);
    assert_memory_equal(a.buf.data + 20, "\0\0\0\20", 4);
    assert_memory_equal(a.buf.data + 24, id.b, 16);
    pgarray_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_ints),
        cmocka_unit_test(test_texts_with_null),
        cmocka_unit_test(test_uuids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
