/* E-mail addresses: what is accepted, and that addresses which are the same to people have the same key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/email_address.h"
#include "garbage.h"

#define A63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static bool valid(const char *text)
{
    return email_valid(text, strlen(text));
}

static void test_accepts(void **state)
{
    (void)state;
    static const char *const good[] = {
        "a@b.co",
        "user@example.com",
        "User.Name+tag@sub.example.co.uk",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "a@localhost",
        "a@LocalHost",
        "1@2.3",
        "a-@b.c",
        "-a@b.c",
        "a@b--c.d",
        "a@xn--bcher-kva.example",
        "bücher@example.com",
        "用户@例え.テスト",
        "δοκιμή@παράδειγμα.δοκιμή",
        "उपयोगकर्ता@उदाहरण.कॉम",
        "a²@b.c",
        A63 "a@b.c",
        "a@" A63 ".c",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!valid(good[i]))
            fail_msg("refused %s", good[i]);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "a",
        "@",
        "a@",
        "@b.c",
        "a@b",
        "a@b.",
        "a@.b",
        "a@b..c",
        "a@@b.c",
        "a@b@c.d",
        ".a@b.c",
        "a.@b.c",
        "a..b@c.d",
        "a b@c.d",
        " a@b.c",
        "a@b.c ",
        "a@b .c",
        "\"a\"@b.c",
        "a@[127.0.0.1]",
        "a(c)@b.c",
        "<a@b.c>",
        "a,b@c.d",
        "a;b@c.d",
        "a:b@c.d",
        "a\\@b.c",
        "a\n@b.c",
        "a@b.c\n",
        "a\r\nBcc: x@b.c",
        "a\t@b.c",
        "a\x7f@b.c",
        "a@-b.c",
        "a@b-.c",
        "a@b.c-",
        "a@b_c.d",
        "a@b!.c",
        "a@local",
        "a@localhostx",
        A63 "aa@b.c",
        A63 ".a@b.c",
        "a@" A63 "a.c",
        "\xff@b.c",
        "a@\xc3.c",
        "a@b.c\xc3",
        "\xed\xa0\x80@b.c",
        "a\xc2\xa0@b.c",
        "a\xc2\x85@b.c",
        "a\xe2\x80\x8b@b.c" /* zero width space */,
        "a\xe2\x80\xae@b.c" /* right-to-left override */,
        "a\xef\xbc\xa0@b.c" /* full-width @ */,
        "a@b\xe3\x80\x82z" /* ideographic full stop */,
        "a\xef\xbb\xbf@b.c",
        "a\xee\x80\x80@b.c" /* private use */,
        "a\xef\xbf\xbf@b.c",
        "a\xcd\xb8@b.c" /* unassigned */,
        "😀@b.c",
        "a@😀.c",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (valid(bad[i]))
            fail_msg("accepted %s", bad[i]);
    assert_false(email_valid("a\0@b.c", 6));
    assert_false(email_valid("a@b.c\0", 6));
    assert_true(email_valid("a@b.cXXX", 5));
}

static void test_longest(void **state)
{
    (void)state;
    char text[300];
    /* 64 + @ + 63.63.61 = 254 */
    snprintf(text, sizeof text, "%sa@%s.%s.%.61s", A63, A63, A63, A63);
    assert_int_equal(strlen(text), EMAIL_MAX);
    assert_true(valid(text));
    strcat(text, "a");
    assert_false(valid(text));
}

/* The key as a string. */
static const char *key_of(const char *text)
{
    static char keys[2][1024];
    static int next;
    char *key = keys[next++ % 2];
    size_t len = email_key(text, strlen(text), key, sizeof keys[0] - 1);
    assert_true(len > 0);
    key[len] = '\0';
    return key;
}

static void test_keys(void **state)
{
    static const struct {
        const char *text, *key;
    } cases[] = {
        {"user@example.com", "user@example.com"},
        {"User.Name+Tag@EXAMPLE.com", "user.name+tag@example.com"},
        {"[]^_`{}~AZ@Z.Z", "[]^_`{}~az@z.z"},
        {"BÜCHER@example.com", "bücher@example.com"},
        {"bu\xcc\x88"
         "cher@example.com",
         "bücher@example.com"}, /* u and a combining diaeresis */
        {"Straße@example.com", "strasse@example.com"},
        {"ΣΊΣΥΦΟΣ@example.com", "σίσυφοσ@example.com"},
        {"σίσυφος@example.com", "σίσυφοσ@example.com"},
        {"\xe2\x84\xaa@example.com", "k@example.com"}, /* the Kelvin sign */
        {"Å@example.com", "å@example.com"},
        {"\xe2\x84\xab@example.com", "å@example.com"}, /* the Ångström sign */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(key_of(cases[i].text), cases[i].key);
}

static void assert_idempotent(const char *text, size_t len)
{
    char once[1024], twice[1024];
    size_t once_len = email_key(text, len, once, sizeof once),
           twice_len = email_key(once, once_len, twice, sizeof twice);
    assert_true(once_len > 0);
    assert_int_equal(once_len, twice_len);
    assert_memory_equal(once, twice, once_len);
}

/* Every letter, mark and number there is: before a letter, after one, twice, and before marks that compose with it. */
static void test_key_is_idempotent(void **state)
{
    (void)state;
    static const char *const forms[] = {"%s@b.co", "a%sA%s@b.co", "%s\xcd\x85@b.co", "%s\xcc\x87\xcc\xa3@b.co"};
    for (gunichar c = 0x80; c < 0x30000; c++) {
        char one[8] = "", text[64];
        if (!g_unichar_validate(c) || !(g_unichar_isalnum(c) || g_unichar_ismark(c)))
            continue;
        if (c > 0x3400 && c < 0xa000 && c % 64)
            continue; /* ideographs are all alike */
        if ((c > 0xac00 && c < 0xd7a0 && c % 16) || (c > 0x17000 && c % 64 && (c < 0x1d000 || c > 0x1f000)))
            continue;
        g_unichar_to_utf8(c, one);
        for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
            size_t len = (size_t)snprintf(text, sizeof text, forms[i], one, one);
            assert_true(email_valid(text, len));
            assert_idempotent(text, len);
        }
    }
}

static void test_key_fits_or_is_none(void **state)
{
    (void)state;
    char key[6] = "......";
    assert_int_equal(email_key("A@b.co", 6, key, 6), 6);
    assert_memory_equal(key, "a@b.co", 6);
    memset(key, '.', 6);
    assert_int_equal(email_key("A@b.co", 6, key, 5), 0);
    assert_int_equal(email_key("ß@b.c", 6, key, 6), 6);
    assert_memory_equal(key, "ss@b.c", 6);
    assert_int_equal(email_key("ß@b.c", 6, key, 5), 0);
    assert_int_equal(email_key("ΐ@b.c", 6, key, 6), 6); /* folds to three characters, which compose again */
}

static void check_valid(const char *text, size_t len)
{
    if (!email_valid(text, len))
        return;
    assert_true(len <= EMAIL_MAX && memchr(text, '@', len) && !memchr(text, '\0', len) &&
                g_utf8_validate(text, (gssize)len, NULL));
    assert_idempotent(text, len);
}

static void test_garbage(void **state)
{
    (void)state;
    garbage_try("User.Name+tag@sub.example.co.uk", 100000, check_valid);
    garbage_try("δοκιμή@παράδειγμα.δοκιμή", 100000, check_valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),           cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_longest),           cmocka_unit_test(test_keys),
        cmocka_unit_test(test_key_is_idempotent), cmocka_unit_test(test_key_fits_or_is_none),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
