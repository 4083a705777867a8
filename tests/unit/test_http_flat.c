/* Plain JSON objects: whatever is read here jansson reads as well, and as the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "core/json.h"
#include "garbage.h"
#include "http/flat.h"

static struct flat flat;
static size_t taken;

/* What is taken must be what jansson makes of it, member by member. */
static void compare(const char *text, size_t len)
{
    char why[256];
    const char *name;
    json_t *value;
    size_t i = 0;
    if (!flat_read(&flat, text, len))
        return;
    taken++;
    json_t *json = json_read(text, len, why, sizeof why);
    assert_true(json_is_object(json));
    assert_int_equal(json_object_size(json), flat.count);
    json_object_foreach(json, name, value)
    {
        const struct flat_member *m = &flat.members[i++];
        assert_string_equal(m->name, name);
        assert_true(json_is_string(value));
        assert_int_equal(m->value_len, json_string_length(value));
        assert_string_equal(m->value, json_string_value(value));
        assert_ptr_equal(flat_find(&flat, name), m);
    }
    json_decref(json);
}

static void test_takes_plain_bodies(void **state)
{
    (void)state;
    static const char *const plain[] = {
        "{\"email\":\"a@example.com\"}",
        "{\"email\":\"a@example.com\",\"referral_code\":\"W1NMSAW3\"}",
        " \r\n{\t\"a\" : \"\" , \"b\":\"{}[],:\"\n} ",
        "{\"1\":\"\",\"2\":\"\",\"3\":\"\",\"4\":\"\",\"5\":\"\",\"6\":\"\",\"7\":\"\",\"8\":\"~ !\"}",
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        taken = 0;
        compare(plain[i], strlen(plain[i]));
        assert_int_equal(taken, 1);
    }
    assert_null(flat_find(&flat, "9"));
    assert_null(flat_find(&flat, ""));
}

static void test_leaves_the_rest(void **state)
{
    (void)state;
    static const char *const rest[] = {
        "",
        "{",
        "{}",
        "[]",
        "\"a\"",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":\"b\"",
        "{\"a\":\"b\",}",
        "{\"a\":\"b\"}}",
        "{\"a\":\"b\"} x",
        "{\"a\":\"b\" \"c\":\"d\"}",
        "{,\"a\":\"b\"}",
        "{\"a\":\"b\",\"a\":\"c\"}",
        "{\"\":\"b\"}",
        "{\"a\":1}",
        "{\"a\":null}",
        "{\"a\":{\"b\":\"c\"}}",
        "{\"a\":\"\\n\"}",
        "{\"a\\u0062\":\"\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\x7f\"}",
        "{\"a\":\"\xc3\xa9\"}",
        "\xef\xbb\xbf{\"a\":\"b\"}",
        "\v{\"a\":\"b\"}",
        "{'a':'b'}",
        "{\"1\":\"\",\"2\":\"\",\"3\":\"\",\"4\":\"\",\"5\":\"\",\"6\":\"\",\"7\":\"\",\"8\":\"\",\"9\":\"\"}",
    };
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        assert_false(flat_read(&flat, rest[i], strlen(rest[i])));
    assert_false(flat_read(&flat, "{\"a\":\"\0\"}", 9));
    assert_false(flat_read(&flat, "{\"a\":\"b\"}\0", 10));
    assert_false(flat_read(&flat, "{\"a\0b\":\"b\"}", 11));
}

static void test_bound(void **state)
{
    (void)state;
    char text[FLAT_BYTES + 1];
    memset(text, 'x', sizeof text);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + FLAT_BYTES - 2, "\"}", 2);
    assert_true(flat_read(&flat, text, FLAT_BYTES));
    memcpy(text + FLAT_BYTES - 2, "x\"}", 3);
    assert_false(flat_read(&flat, text, FLAT_BYTES + 1));
}

static void test_garbage(void **state)
{
    (void)state;
    taken = 0;
    garbage_try("{\"email\":\"ada@example.com\",\"referral_code\":\"W1NMSAW3\"}", 100000, compare);
    garbage_try("{ \"a\" : \"b\" , \"c\" : \"\\u00e9\" , \"a\" : \"d\" }", 100000, compare);
    garbage_try("{\"a\":\"b\",\"b\":\"a\"}", 100000, compare);
    assert_true(taken > 10000); /* else the comparison means nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_plain_bodies),
        cmocka_unit_test(test_leaves_the_rest),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
