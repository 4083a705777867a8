/* The byte buffer: growth, numbers, printf across the end of its memory, JSON strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"

static void test_grows(void **state)
{
    (void)state;
    struct buf b = {0};
    char expected[5000];
    for (size_t i = 0; i < sizeof expected; i++) {
        expected[i] = (char)(i * 7);
        buf_addc(&b, expected[i]);
    }
    assert_int_equal(b.len, sizeof expected);
    assert_memory_equal(b.data, expected, sizeof expected);
    assert_true(b.cap >= b.len);
    size_t cap = b.cap;
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, cap);
    buf_free(&b);
    assert_null(b.data);
    assert_int_equal(b.cap, 0);
}

static void test_grow_leaves_len(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_adds(&b, "ab");
    char *room = buf_grow(&b, 1000);
    assert_ptr_equal(room, b.data + 2);
    assert_int_equal(b.len, 2);
    memset(room, 'x', 1000); /* ASan: the room is there */
    buf_free(&b);
}

static void test_nothing_added(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add(&b, NULL, 0);
    buf_adds(&b, "");
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_cstr(&b), "");
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void test_cstr_keeps_len(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 200; i++) {
        buf_addc(&b, 'a');
        assert_int_equal(strlen(buf_cstr(&b)), i + 1);
        assert_int_equal(b.len, i + 1);
    }
    buf_free(&b);
}

static void test_int(void **state)
{
    (void)state;
    const int64_t values[] = {0, 1, -1, 9, 10, -10, 1234567890123, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct buf b = {0};
        char expected[32];
        snprintf(expected, sizeof expected, "%" PRId64, values[i]);
        buf_add_int(&b, values[i]);
        assert_string_equal(buf_cstr(&b), expected);
        buf_free(&b);
    }
}

static void test_network_order(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add_u32be(&b, 0x01020304);
    buf_add_u64be(&b, 0xf1f2f3f4f5f6f7f8);
    assert_int_equal(b.len, 12);
    assert_memory_equal(b.data, "\x01\x02\x03\x04\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8", 12);
    buf_free(&b);
}

/* Every combination of what is there and what is added, around the sizes at which memory grows. */
static void test_printf(void **state)
{
    (void)state;
    char text[300];
    memset(text, 'p', sizeof text);
    for (int before = 0; before < 140; before++)
        for (int added = 0; added < 140; added += 1 + added / 16) {
            struct buf b = {0};
            buf_add(&b, text, (size_t)before);
            buf_printf(&b, "%.*s|%d", added, text, added);
            char expected[600];
            snprintf(expected, sizeof expected, "%.*s%.*s|%d", before, text, added, text, added);
            assert_int_equal(b.len, strlen(expected));
            assert_string_equal(buf_cstr(&b), expected);
            buf_free(&b);
        }
}

static void test_json_golden(void **state)
{
    (void)state;
    struct buf b = {0};
    const char text[] = "a\"b\\c/\b\f\n\r\t\x01\x1f\x7fé€😀";
    buf_add_json(&b, text, sizeof text - 1);
    assert_string_equal(buf_cstr(&b), "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7fé€😀\"");
    buf_clear(&b);
    buf_add_json(&b, "", 0);
    assert_string_equal(buf_cstr(&b), "\"\"");
    buf_clear(&b);
    buf_add_json(&b, "a\0b", 3);
    assert_string_equal(buf_cstr(&b), "\"a\\u0000b\"");
    buf_free(&b);
}

/* Whatever is written is read back the same by a JSON parser. */
static void test_json_round_trip(void **state)
{
    (void)state;
    char text[3];
    for (int first = 0; first < 128; first++)
        for (int second = 0; second < 128; second++) {
            struct buf b = {0};
            text[0] = (char)first;
            text[1] = (char)second;
            buf_add_json(&b, text, 2);
            json_t *read = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            assert_non_null(read);
            assert_int_equal(json_string_length(read), 2);
            assert_memory_equal(json_string_value(read), text, 2);
            json_decref(read);
            buf_free(&b);
        }
}

/* Every byte at every place of a text, since the text is looked at eight bytes at a time. */
static void test_json_every_place(void **state)
{
    (void)state;
    for (size_t len = 1; len <= 20; len++)
        for (size_t place = 0; place < len; place++)
            for (int byte = 0; byte < 256; byte++) {
                struct buf b = {0}, want = {0};
                char text[20];
                memset(text, 'a', sizeof text);
                text[place] = (char)byte;
                buf_add_json(&b, text, len);
                buf_addc(&want, '"');
                for (size_t i = 0; i < len; i++) {
                    char one[1] = {text[i]};
                    struct buf piece = {0};
                    buf_add_json(&piece, one, 1);
                    buf_add(&want, piece.data + 1, piece.len - 2);
                    buf_free(&piece);
                }
                buf_addc(&want, '"');
                assert_int_equal(b.len, want.len);
                assert_memory_equal(b.data, want.data, b.len);
                buf_free(&b);
                buf_free(&want);
            }
}

static void test_copies(void **state)
{
    (void)state;
    char *a = xstrdup("text"), *b = xstrndup("text", 2), *c = xstrndup("te\0xt", 5), *d = xcalloc(3, 3);
    assert_string_equal(a, "text");
    assert_string_equal(b, "te");
    assert_string_equal(c, "te");
    assert_memory_equal(d, "\0\0\0\0\0\0\0\0\0", 9);
    d = xrealloc(d, 100);
    free(a);
    free(b);
    free(c);
    free(d);
    free(xmalloc(0));
    free(xcalloc(0, 0));
}

static void test_html(void **state)
{
    (void)state;
    struct buf out = {0};
    buf_add_html(&out, "<a href=\"x\">'&'", 15);
    assert_string_equal(buf_cstr(&out), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;");
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_grow_leaves_len),
        cmocka_unit_test(test_nothing_added),
        cmocka_unit_test(test_cstr_keeps_len),
        cmocka_unit_test(test_int),
        cmocka_unit_test(test_network_order),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_json_golden),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_json_every_place),
        cmocka_unit_test(test_html),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
