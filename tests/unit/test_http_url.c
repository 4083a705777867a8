/* Request targets, form fields and web addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "http/url.h"

static void check_split(const char *target, const char *path, const char *query)
{
    const char *p, *q;
    size_t p_len, q_len;
    url_split(target, strlen(target), &p, &p_len, &q, &q_len);
    assert_int_equal(p_len, strlen(path));
    assert_memory_equal(p, path, p_len);
    assert_int_equal(q_len, strlen(query));
    assert_memory_equal(q, query, q_len);
}

static void test_split(void **state)
{
    (void)state;
    check_split("/a/b", "/a/b", "");
    check_split("/a?b=c?d", "/a", "b=c?d");
    check_split("/a?", "/a", "");
    check_split("?x", "", "x");
    check_split("HTTP://host:1/a?x", "/a", "x");
    check_split("https://host", "", "");
    check_split("http://host?x", "", "x");
    check_split("/http://host/a", "/http://host/a", "");
    check_split("", "", "");
}

static void check_field(const char *fields, const char *value)
{
    struct buf out = {0};
    bool there = url_field(fields, strlen(fields), "token", &out);
    assert_int_equal(there, value != NULL);
    if (value)
        assert_string_equal(buf_cstr(&out), value);
    buf_free(&out);
}

static void test_fields(void **state)
{
    (void)state;
    check_field("token=abc", "abc");
    check_field("a=1&token=a%2Bb+c&token=2", "a+b c");
    check_field("token=", "");
    check_field("&&token=x&", "x");
    check_field("", NULL);
    check_field("token", NULL);
    check_field("xtoken=1&tokenx=2&Token=3", NULL);
    check_field("token=%", NULL);
    check_field("token=%4", NULL);
    check_field("token=%4g", NULL);
}

static void test_web_addresses(void **state)
{
    (void)state;
    static const char *const good[] = {"http://[::1]:8080/x",
                                       "https://[2001:db8::1]",
                                       "http://h:65535",
                                       "http://a.b.",
                                       "http://a",
                                       "HTTPS://example.com:8443/x?y=%20#z",
                                       "https://[::1]:1/",
                                       "http://xn--bcher-kva.example"};
    static const char *const bad[] = {"http://h:abc/",
                                      "http://[",
                                      "http://]",
                                      "http://[]",
                                      "http://a:b:c",
                                      "http://1.2.3.4:80:80/",
                                      "http://[::1]:99999/",
                                      "http://h:0/",
                                      "http://h:",
                                      "http://...",
                                      "http://a..b",
                                      "http://.a",
                                      "http://[::1]x",
                                      "http://[::1",
                                      "http://u@h/",
                                      "",
                                      "http://",
                                      "http:///x",
                                      "http://:80",
                                      "ftp://a",
                                      "//a",
                                      "a.example",
                                      "http://a b",
                                      "http://a\x01",
                                      "http://user@a",
                                      "http://a/<b>",
                                      "javascript:alert(1)",
                                      "http://b\xc3\xbc.example",
                                      "http://a\\b"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(url_is_web(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(url_is_web(bad[i], strlen(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_web_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
