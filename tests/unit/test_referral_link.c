/* Referral links: the code goes into the query of whatever URL the campaign has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include "domain/referral_link.h"
#include <cmocka.h>

static void check(const char *public_url, const char *landing_url, const char *expected)
{
    struct buf b = {0};
    referral_link(public_url, landing_url, "ABCD2345", &b);
    assert_string_equal(buf_cstr(&b), expected);
    buf_free(&b);
}

static void test_links(void **state)
{
    (void)state;
    check("http://h:1", NULL, "http://h:1/?ref=ABCD2345");
    check("http://h:1/", NULL, "http://h:1/?ref=ABCD2345");
    check("http://h/base", NULL, "http://h/base/?ref=ABCD2345");
    check("http://h", "https://x.example", "https://x.example?ref=ABCD2345");
    check("http://h", "https://x.example/a", "https://x.example/a?ref=ABCD2345");
    check("http://h", "https://x.example/a?b=c", "https://x.example/a?b=c&ref=ABCD2345");
    check("http://h", "https://x.example/?", "https://x.example/?ref=ABCD2345");
    check("http://h", "https://x.example/?b=c&", "https://x.example/?b=c&ref=ABCD2345");
    check("http://h", "https://x.example/a?b#top", "https://x.example/a?b&ref=ABCD2345#top");
    check("http://h", "https://x.example/#/page?x", "https://x.example/?ref=ABCD2345#/page?x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_links)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
