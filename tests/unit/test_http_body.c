/* JSON bodies: what is wrong is named, once, and nothing is taken that nobody asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "http/body.h"
#include "http/compact.h"

#define JSON_TYPE "application/json"

static struct body body;

static void open_text(const char *json)
{
    body_open(&body, JSON_TYPE, strlen(JSON_TYPE), json, strlen(json));
}

/* What a handler with one member of each kind makes of a body: "ok", or error and field. */
static const char *read_all(const char *json)
{
    static char outcome[128];
    struct text name;
    int64_t count = 7;
    json_t *object = NULL, *list = NULL;
    open_text(json);
    body_text(&body, "name", BODY_REQUIRED, 2, 5, &name);
    body_int(&body, "count", BODY_OPTIONAL, 0, 10, &count);
    body_object(&body, "object", BODY_OPTIONAL, &object);
    body_array(&body, "list", BODY_OPTIONAL, 2, &list);
    if (body_end(&body))
        snprintf(outcome, sizeof outcome, "ok");
    else
        snprintf(outcome, sizeof outcome, "%s %s", err_slug(body.err), body.field);
    body_clear(&body);
    return outcome;
}

static void test_members(void **state)
{
    (void)state;
    static const struct {
        const char *json, *outcome;
    } cases[] = {
        {"{\"name\":\"ab\"}", "ok"},
        {"{\"name\":\"ab\",\"count\":0,\"object\":{},\"list\":[1,2]}", "ok"},
        {"{\"name\":\"ab\",\"count\":null,\"object\":null,\"list\":null}", "ok"},
        {"{\"name\":\"\u00e9\u2603\U0001f600ab\"}", "ok"}, /* five characters, twelve bytes */
        {"{\"name\":\"abcdef\"}", "invalid name"},
        {"{\"name\":\"a\"}", "invalid name"},
        {"{\"name\":null}", "invalid name"},
        {"{\"name\":1}", "invalid name"},
        {"{}", "invalid name"},
        {"{\"name\":\"a\\nb\"}", "invalid name"},
        {"{\"name\":\"a\\u007fb\"}", "invalid name"},
        {"{\"name\":\"a\\u0085b\"}", "invalid name"},
        {"{\"name\":\"ab\",\"count\":-1}", "invalid count"},
        {"{\"name\":\"ab\",\"count\":11}", "invalid count"},
        {"{\"name\":\"ab\",\"count\":1.0}", "invalid count"},
        {"{\"name\":\"ab\",\"count\":\"1\"}", "invalid count"},
        {"{\"name\":\"ab\",\"count\":true}", "invalid count"},
        {"{\"name\":\"ab\",\"object\":[]}", "invalid object"},
        {"{\"name\":\"ab\",\"list\":{}}", "invalid list"},
        {"{\"name\":\"ab\",\"list\":[1,2,3]}", "invalid list"},
        {"{\"name\":\"ab\",\"Name\":1}", "invalid Name"},
        {"{\"name\":1,\"count\":-1,\"x\":1}", "invalid name"}, /* the first fault stays */
        {"[]", "invalid "},
        {"{\"name\":\"ab\",\"name\":\"ab\"}", "malformed "},
        {"{\"name\":\"ab\"} x", "malformed "},
        {"{\"name\":\"a\\u0000\"}", "malformed "},
        {"", "malformed "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *outcome = read_all(cases[i].json);
        if (strcmp(outcome, cases[i].outcome) != 0)
            fail_msg("%s: %s, not %s", cases[i].json, outcome, cases[i].outcome);
    }
}

static void test_values(void **state)
{
    (void)state;
    struct text name, missing = {"x", 1};
    int64_t count = 7, other = 8;
    open_text("{\"name\":\"a\\\"b\",\"count\":3}");
    assert_true(body_text(&body, "name", BODY_REQUIRED, 1, 9, &name));
    assert_int_equal(name.len, 3);
    assert_memory_equal(name.data, "a\"b", 3);
    assert_false(body_text(&body, "missing", BODY_OPTIONAL, 1, 9, &missing));
    assert_null(missing.data);
    assert_true(body_int(&body, "count", BODY_OPTIONAL, 0, 9, &count));
    assert_int_equal(count, 3);
    assert_false(body_int(&body, "other", BODY_OPTIONAL, 0, 9, &other));
    assert_int_equal(other, 8);
    assert_true(body_end(&body));
    body_fault(&body, ERR_NO_REFERRER, "code", "no");
    assert_false(body_end(&body));
    assert_int_equal(body.err, ERR_NO_REFERRER);
    body_clear(&body);
}

/* A long unknown name is cut for the answer, at a character's border. */
static void test_long_unknown_name(void **state)
{
    (void)state;
    char json[400] = "{\"x";
    for (int i = 0; i < 90; i++)
        strcat(json, "\u2603");
    strcat(json, "\":1}");
    open_text(json);
    assert_false(body_end(&body));
    assert_int_equal(strlen(body.field), 64);
    assert_memory_equal(body.field + 61, "\u2603", 3);
    body_clear(&body);
}

static void test_content_type(void **state)
{
    (void)state;
    static const char *const good[] = {"application/json", "APPLICATION/JSON", "application/json;charset=utf-8",
                                       "application/json ; Charset=\"UTF-8\" ", "application/json; a=b; charset=utf8"};
    static const char *const bad[] = {"",
                                      "text/json",
                                      "application/jsonp",
                                      "application/json charset=utf-8",
                                      "application/json;charset=latin1",
                                      "application/json;charset=",
                                      "application"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(content_type_is(good[i], strlen(good[i]), JSON_TYPE));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(content_type_is(bad[i], strlen(bad[i]), JSON_TYPE));
    body_open(&body, NULL, 0, "{}", 2);
    assert_int_equal(body.err, ERR_MEDIA_TYPE);
    assert_false(body_end(&body));
    body_clear(&body);
}

static void test_compact(void **state)
{
    (void)state;
    static const char *const same[] = {
        "{\"b\":1,\"a\":{\"x\":[],\"y\":{}},\"c\":[null,true,false,-1,\"q\\\"\\n\u2603\"]}",
        "[0.1,1.0,-2.5,1e+100,0.30000000000000004,9007199254740993]",
        "{\"\":\"\"}",
    };
    struct buf out = {0};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        json_t *value = json_loads(same[i], 0, NULL);
        buf_clear(&out);
        compact_json(&out, value);
        assert_string_equal(buf_cstr(&out), same[i]);
        json_decref(value);
    }
    json_t *value = json_loads("{ \"a\" : [ 1 , 10e1, 1e5 ] }", 0, NULL);
    buf_clear(&out);
    compact_json(&out, value);
    assert_string_equal(buf_cstr(&out), "{\"a\":[1,100.0,100000.0]}");
    json_decref(value);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),      cmocka_unit_test(test_values),  cmocka_unit_test(test_long_unknown_name),
        cmocka_unit_test(test_content_type), cmocka_unit_test(test_compact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
