/* The router: patterns, parameters, methods, and paths that are nobody's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "http/router.h"
#include "http/routes.h"

static const struct route table[] = {
    {"GET", "/a", "get_a", ACCESS_OPEN, ANSWERS_JSON, NULL},
    {"POST", "/a", "post_a", ACCESS_OPEN, ANSWERS_JSON, NULL},
    {"POST", "/a/{x}/find", "find", ACCESS_OPEN, ANSWERS_JSON, NULL},
    {"GET", "/a/{x}/find", "get_find", ACCESS_OPEN, ANSWERS_JSON, NULL},
    {"PATCH", "/a/{x}/{y_id}", "patch_y", ACCESS_OPEN, ANSWERS_JSON, NULL},
    {"GET", "/a/{x}/b/{y_id}", "get_y", ACCESS_OPEN, ANSWERS_JSON, NULL},
};

static struct router *router;
static struct route_match match;

static int open_router(void **state)
{
    (void)state;
    router = router_new(table, sizeof table / sizeof table[0]);
    return 0;
}

static int close_router(void **state)
{
    (void)state;
    router_free(router);
    return 0;
}

static const char *found(const char *method, const char *path)
{
    router_match(router, method, strlen(method), path, strlen(path), &match);
    return match.route ? match.route->name : match.path_known ? "other method" : "nothing";
}

static void test_finds(void **state)
{
    (void)state;
    assert_string_equal(found("GET", "/a"), "get_a");
    assert_string_equal(found("HEAD", "/a"), "get_a");
    assert_string_equal(found("POST", "/a"), "post_a");
    assert_string_equal(found("GET", "/a/1/b/2"), "get_y");
    assert_int_equal(match.param_count, 2);
    assert_memory_equal(match.params[0].name, "x", match.params[0].name_len);
    assert_int_equal(match.params[0].value_len, 1);
    assert_memory_equal(match.params[0].value, "1", 1);
    assert_int_equal(match.params[1].name_len, 4);
    assert_memory_equal(match.params[1].name, "y_id", 4);
    assert_memory_equal(match.params[1].value, "2", 1);
}

static void test_first_in_the_table_wins(void **state)
{
    (void)state;
    assert_string_equal(found("POST", "/a/1/find"), "find");
    assert_string_equal(found("PATCH", "/a/1/find"), "patch_y");
    assert_string_equal(found("DELETE", "/a/1/find"), "other method");
    assert_string_equal(match.allow, "POST, GET, HEAD, PATCH, OPTIONS");
}

static void test_tells_wrong_methods_from_unknown_paths(void **state)
{
    (void)state;
    assert_string_equal(found("DELETE", "/a"), "other method");
    assert_string_equal(match.allow, "GET, HEAD, POST, OPTIONS");
    assert_string_equal(found("OPTIONS", "/a"), "other method");
    assert_string_equal(found("HEAD", "/a/1/2"), "other method");
    assert_string_equal(match.allow, "PATCH, OPTIONS");
    assert_string_equal(found("get", "/a"), "other method");
    assert_string_equal(found("", "/a"), "other method");
    static const char *const unknown[] = {"",
                                          "/",
                                          "a",
                                          "/b",
                                          "/a/",
                                          "//a",
                                          "/a//b/2",
                                          "/a/1/b/",
                                          "/a/1/b/2/",
                                          "/A",
                                          "*",
                                          "/1/2/3/4/5/6/7/8",
                                          "/1/2/3/4/5/6/7/8/9",
                                          "/a/1/b/2/3"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(found("GET", unknown[i]), "nothing");
        assert_string_equal(match.allow, "");
    }
}

/* Every route of ours is found by a path made from its own pattern, and no name is used twice. */
static void test_own_table(void **state)
{
    (void)state;
    struct router *own = router_new(routes, routes_count);
    for (size_t i = 0; i < routes_count; i++) {
        const struct route *r = &routes[i];
        router_match(own, r->method, strlen(r->method), r->pattern, strlen(r->pattern), &match);
        assert_ptr_equal(match.route, r);
        assert_non_null(r->handle);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(routes[k].name, r->name);
    }
    router_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds),
        cmocka_unit_test(test_first_in_the_table_wins),
        cmocka_unit_test(test_tells_wrong_methods_from_unknown_paths),
        cmocka_unit_test(test_own_table),
    };
    return cmocka_run_group_tests(tests, open_router, close_router);
}
