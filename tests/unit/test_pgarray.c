/* Binary arrays as Postgres reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
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

static void test_reading(void **state)
{
    (void)state;
    struct pgarray a = {0};
    struct pgarray_elements e;
    const uint8_t *value;
    size_t len;
    pgarray_begin(&a, PG_OID_INT8);
    pgarray_bigint(&a, 1);
    pgarray_text(&a, (struct text){NULL, 0});
    pgarray_bigint(&a, -5000000000);
    pgarray_end(&a);
    assert_true(pgarray_read(&e, a.buf.data, a.buf.len));
    assert_int_equal(e.left, 3);
    assert_true(pgarray_next(&e, &value, &len) && value && pgarray_int_of(value, len) == 1);
    assert_true(pgarray_next(&e, &value, &len) && !value);
    assert_true(pgarray_next(&e, &value, &len) && pgarray_int_of(value, len) == -5000000000);
    assert_false(pgarray_next(&e, &value, &len));

    pgarray_begin(&a, PG_OID_INT8); /* empty, and none */
    pgarray_end(&a);
    assert_true(pgarray_read(&e, a.buf.data, a.buf.len) && e.left == 0);
    assert_true(pgarray_read(&e, NULL, 0) && e.left == 0);
    assert_false(pgarray_next(&e, &value, &len));
    pgarray_free(&a);
}

/* Whatever the bytes are, nothing past them is read. */
static void test_reading_garbage(void **state)
{
    (void)state;
    struct pgarray a = {0};
    const uint8_t *value;
    size_t len;
    pgarray_begin(&a, PG_OID_TEXT);
    for (int i = 0; i < 3; i++)
        pgarray_text(&a, (struct text){"abcdef", 6});
    pgarray_end(&a);
    for (size_t cut = 0; cut <= a.buf.len; cut++) {
        char *copy = memcpy(xmalloc(cut + 1), a.buf.data, cut);
        struct pgarray_elements e;
        int read = 0;
        if (pgarray_read(&e, copy, cut))
            while (pgarray_next(&e, &value, &len))
                read += len == 6;
        assert_true(read <= 3 && (read == 3) == (cut == a.buf.len));
        free(copy);
    }
    pgarray_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty), cmocka_unit_test(test_ints),    cmocka_unit_test(test_texts_with_null),
        cmocka_unit_test(test_uuids), cmocka_unit_test(test_reading), cmocka_unit_test(test_reading_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
