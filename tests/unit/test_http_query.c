/* Query parameters: what is wrong is named, once, and nothing is taken that nobody asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "garbage.h"
#include "http/query.h"

static struct query query;

static const char *const statuses[] = {"open", "closed", NULL};

/* What a handler with one parameter of each kind makes of a query: "ok", or the field. */
static const char *outcome_of(const char *text, size_t len)
{
    static char outcome[128];
    int64_t limit = 50, cursor[2];
    const char *status = NULL, *word;
    struct uuid id;
    query_open(&query, text, len);
    query_int(&query, "limit", 1, 200, &limit);
    query_cursor(&query, 2, cursor);
    query_choice(&query, "status", statuses, &status);
    query_uuid(&query, "id", &id);
    query_text(&query, "word", 5, &word);
    snprintf(outcome, sizeof outcome, "%s%s", query_end(&query) ? "ok" : "bad ", query.field);
    query_clear(&query);
    return outcome;
}

static void test_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *query, *outcome;
    } cases[] = {
        {"", "ok"},
        {"limit=1&cursor=1.2147483647&status=closed&id=0190A0C0-0000-7000-8000-000000000001&word=%C3%A9+%E2%98%83ab",
         "ok"},
        {"%6cimit=5&status=%6fpen", "ok"},
        {"limit=0", "bad limit"},
        {"limit=201", "bad limit"},
        {"limit=05", "bad limit"},
        {"limit=+5", "bad limit"},
        {"limit=-5", "bad limit"},
        {"limit=5x", "bad limit"},
        {"limit=5%00", "bad limit"},
        {"limit=99999999999999999999999999", "bad limit"},
        {"limit=", "bad limit"},
        {"limit", "bad limit"},
        {"limit=5&limit=5", "bad limit"},
        {"limit=%", "bad limit"},
        {"limit=%4", "bad limit"},
        {"limit=%zz", "bad limit"},
        {"cursor=1", "bad cursor"},
        {"cursor=1.", "bad cursor"},
        {"cursor=.1", "bad cursor"},
        {"cursor=1.2.3", "bad cursor"},
        {"cursor=1.2.", "bad cursor"},
        {"cursor=0.1", "bad cursor"},
        {"cursor=1.2147483648", "bad cursor"},
        {"cursor=1,2", "bad cursor"},
        {"status=Open", "bad status"},
        {"status=open,closed", "bad status"},
        {"id=0190a0c0", "bad id"},
        {"word=abcdef", "bad word"},
        {"word=a%0ab", "bad word"},
        {"word=a%c2%85b", "bad word"},
        {"word=%ff", "bad word"},
        {"word=\xff", "bad word"},
        {"word=%ed%a0%80", "bad word"},
        {"words=a", "bad words"},
        {"Word=a", "bad Word"},
        {"word=a&x=1", "bad x"},
        {"limit=0&x=1", "bad limit"}, /* the first fault stays */
        {"x=1&x=1&limit=0", "bad x"},
        {"=1", "bad query"},
        {"&", "bad query"},
        {"word=a&&limit=1", "bad query"},
        {"%ff=1", "bad query"},
        {"a%00b=1", "bad query"},
        {"a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1&j=1&k=1&l=1&m=1&n=1&o=1&p=1&q=1", "bad query"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *outcome = outcome_of(cases[i].query, strlen(cases[i].query));
        if (strcmp(outcome, cases[i].outcome) != 0)
            fail_msg("%s: %s, not %s", cases[i].query, outcome, cases[i].outcome);
    }
}

static void test_values(void **state)
{
    (void)state;
    int64_t limit = 50, absent = 7, cursor[2];
    const char *status = NULL, *word = NULL, *none = "x";
    struct uuid id;
    static const char text[] =
        "word=a%26b+%2B&limit=200&status=open&cursor=3.70&id=0190a0c0-0000-7000-8000-0000000000ff";
    query_open(&query, text, strlen(text));
    assert_true(query_text(&query, "word", 10, &word));
    assert_string_equal(word, "a&b +");
    assert_true(query_int(&query, "limit", 1, 200, &limit));
    assert_int_equal(limit, 200);
    assert_true(query_choice(&query, "status", statuses, &status));
    assert_string_equal(status, "open");
    assert_true(query_cursor(&query, 2, cursor));
    assert_int_equal(cursor[0], 3);
    assert_int_equal(cursor[1], 70);
    assert_true(query_uuid(&query, "id", &id));
    assert_int_equal(id.b[15], 255);
    assert_false(query_int(&query, "absent", 1, 200, &absent));
    assert_int_equal(absent, 7);
    assert_false(query_text(&query, "none", 10, &none));
    assert_null(none);
    assert_true(query_end(&query));
    query_fault(&query, "word", "No.");
    assert_false(query_end(&query));
    assert_string_equal(query.field, "word");
    query_clear(&query);
}

/* A long name of the client's comes back cut, between two characters. */
static void test_long_names(void **state)
{
    (void)state;
    for (size_t pad = 0; pad < 4; pad++) {
        char text[300] = "aaa";
        text[pad] = '\0';
        for (int i = 0; i < 60; i++)
            strcat(text, "\xe2\x98\x83");
        strcat(text, "=1");
        query_open(&query, text, strlen(text));
        assert_false(query_end(&query));
        assert_true(g_utf8_validate(query.field, -1, NULL));
        assert_true(g_utf8_validate(query.detail, -1, NULL));
        assert_in_range(strlen(query.field), 60, 64);
        query_clear(&query);
    }
}

static void check_garbage(const char *text, size_t len)
{
    const char *outcome = outcome_of(text, len);
    assert_true(g_utf8_validate(outcome, -1, NULL));
    assert_true(g_utf8_validate(query.detail, -1, NULL));
    assert_true(strcmp(outcome, "ok") == 0 || query.detail[0]);
    for (const char *p = query.detail; *p; p++)
        assert_true((unsigned char)*p >= ' ');
}

static void test_garbage(void **state)
{
    (void)state;
    garbage_try("limit=10&cursor=12.345&status=open&id=0190a0c0-0000-7000-8000-000000000001&word=%C3%A9+x&y=%41",
                200000, check_garbage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
