/* Strict JSON: what is accepted, everything that must be refused, and with which sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "garbage.h"

static char why[200];

static bool accepted(const char *text, size_t len)
{
    why[0] = '\0';
    char *exact = malloc(len ? len : 1); /* not NUL-terminated: ASan sees a read past the end */
    assert_non_null(exact);
    memcpy(exact, text, len);
    json_t *json = json_read(exact, len, why, sizeof why);
    free(exact);
    assert_true(json ? why[0] == '\0' : why[0] != '\0');
    json_decref(json);
    return json != NULL;
}

static void test_accepts(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "[]",
        " \t\r\n{ } \n",
        "{\"a\":1,\"b\":[true,false,null,-0.5e3,\"\\u00e9\\ud83d\\ude00\"]}",
        "[\"é€😀\"]",
        "[9223372036854775807,-9223372036854775808]",
        "[\"[[[[[[[[[[[[[[[[[[[[[[\"]",
        "[\"\\\"[[[[[[[[[[[[[[[[[[[[[[\"]",
        "{\"{{{{{{{{{{{{{{{{{{{{{{\":1}",
        "{\"\":1}",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!accepted(good[i], strlen(good[i])))
            fail_msg("%s: %s", good[i], why);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "{]",
        "[}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "[,1]",
        "{a:1}",
        "{'a':1}",
        "[1] x",
        "{}{}",
        "{},",
        "[]\v",
        "1",
        "\"a\"",
        "null",
        "[01]",
        "[+1]",
        "[.5]",
        "[1.]",
        "[1e]",
        "[-]",
        "[NaN]",
        "[Infinity]",
        "[0x10]",
        "[tru]",
        "[True]",
        "[1e999]",
        "[9223372036854775808]",
        "[\"\x01\"]",
        "[\"a\nb\"]",
        "[\"\\x\"]",
        "[\"\\u12\"]",
        "[\"\\ud800\"]",
        "[\"\\udc00\"]",
        "[\"\\u0000\"]",
        "{\"\\u0000\":1}",
        "{\"a\\u0000b\":1}",
        "[\"a]",
        "[\"a\\\"]",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[1]//c",
        "[/**/1]",
        "[\"\xff\"]",
        "[\"\xc3\"]",
        "[\"\xc0\xaf\"]",
        "[\"\xed\xa0\x80\"]",
        "[\"\xf5\x80\x80\x80\"]",
        "[\"\xe2\x82\"]",
        "\xff",
        "\xef\xbb\xbf{}",
        "\xef\xbb\xbf",
        "\xfe\xff",
        "{}\xef\xbb\xbf",
        "[\xa0]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (accepted(bad[i], strlen(bad[i])))
            fail_msg("accepted %s", bad[i]);
}

static void test_refuses_raw_nul(void **state)
{
    (void)state;
    assert_false(accepted("\0", 1));
    assert_false(accepted("{}\0", 3));
    assert_false(accepted("\0{}", 3));
    assert_false(accepted("[\"a\0b\"]", 7));
    assert_false(accepted("[1\0]", 4));
    assert_false(accepted("{\"a\0\":1}", 8));
}

static void fill_nested(char *text, size_t levels, char open, char close)
{
    memset(text, open, levels);
    memset(text + levels, close, levels);
}

static void test_depth(void **state)
{
    (void)state;
    char text[2 * JSON_MAX_DEPTH + 2];
    fill_nested(text, JSON_MAX_DEPTH, '[', ']');
    assert_true(accepted(text, 2 * JSON_MAX_DEPTH));
    fill_nested(text, JSON_MAX_DEPTH + 1, '[', ']');
    assert_false(accepted(text, 2 * JSON_MAX_DEPTH + 2));
    assert_string_equal(why, "the JSON text is nested more than 16 levels deep at byte 16");
    assert_true(
        accepted("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]", 61)); /* breadth is no depth */
    size_t many = 1000000;
    char *deep = malloc(2 * many);
    assert_non_null(deep);
    fill_nested(deep, many, '{', '}');
    assert_false(accepted(deep, many));
    fill_nested(deep, many, ']', '[');
    assert_false(accepted(deep, 2 * many));
    free(deep);
}

static void test_sentences(void **state)
{
    (void)state;
    assert_false(accepted("", 0));
    assert_string_equal(why, "the JSON text is empty");
    assert_false(accepted("\xef\xbb\xbf{}", 5));
    assert_string_equal(why, "the JSON text starts with a byte order mark");
    assert_false(accepted("{\"a\":1,\n\"b\";2}", 14));
    assert_string_equal(why, "the JSON text is malformed at byte 12 (line 2, column 4): ':' expected");
    assert_false(accepted("{\"secret\":1,\"secret\":2}", 23));
    assert_string_equal(why, "the JSON text is malformed at byte 20 (line 1, column 20): duplicate object key");
}

static void check_read(const char *text, size_t len)
{
    char sentence[40]; /* too small for most: it must be cut, not overrun */
    sentence[0] = '\0';
    json_t *json = json_read(text, len, sentence, sizeof sentence);
    if (json) {
        char *dump = json_dumps(json, JSON_COMPACT); /* what was accepted is a tree that can be walked */
        assert_non_null(dump);
        free(dump);
        json_decref(json);
    } else {
        assert_true(strlen(sentence) > 0);
    }
}

static void test_garbage(void **state)
{
    (void)state;
    garbage_try("{\"a\":[1,2.5,{\"b\":\"c\\u00e9\"}],\"email\":\"someone@example.com\",\"n\":null,\"t\":[true,false]}",
                100000, check_read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts), cmocka_unit_test(test_refuses),   cmocka_unit_test(test_refuses_raw_nul),
        cmocka_unit_test(test_depth),   cmocka_unit_test(test_sentences), cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
