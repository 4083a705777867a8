/* Problem details: valid JSON whatever is in them, with the members that RFC 9457 and the API promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/members.h"
#include "http/answer.h"
#include "http/problem.h"

static json_t *render(const struct problem *p, const char *request_id)
{
    struct buf out = {0};
    problem_render(&out, p, request_id);
    json_t *json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    buf_free(&out);
    assert_non_null(json);
    return json;
}

static const char *member(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

static void test_every_error(void **state)
{
    (void)state;
    for (int e = ERR_MALFORMED; e < ERR_COUNT; e++) {
        json_t *json = render(&(struct problem){.err = (enum err)e}, "id");
        char type[80];
        snprintf(type, sizeof type, "urn:tidings:problem:%s", err_slug((enum err)e));
        assert_string_equal(member(json, "type"), type);
        assert_string_equal(member(json, "title"), err_title((enum err)e));
        assert_int_equal(json_integer_value(json_object_get(json, "status")), err_http_status((enum err)e));
        assert_string_equal(member(json, "request_id"), "id");
        assert_null(json_object_get(json, "field"));
        assert_int_equal(problem_retry_after((enum err)e) > 0, err_http_status((enum err)e) == 503);
        assert_string_not_equal(answer_reason(err_http_status((enum err)e)), "Unknown");
        json_decref(json);
    }
}

static void test_members(void **state)
{
    (void)state;
    json_t *json = render(
        &(struct problem){.err = ERR_EMAIL_TAKEN, .field = "a\"b", .detail = "x\n\x01", .extra = "\"user_id\":\"u\""},
        "say \"hi\"\\");
    assert_string_equal(member(json, "field"), "a\"b");
    assert_string_equal(member(json, "detail"), "x\n\x01");
    assert_string_equal(member(json, "request_id"), "say \"hi\"\\");
    assert_string_equal(member(json, "user_id"), "u");
    json_decref(json);
}

static void test_object_writer(void **state)
{
    (void)state;
    struct buf out = {0};
    members_begin(&out);
    member_json(&out, "raw", "[1]");
    member_json(&out, "none", NULL);
    member_text(&out, "no_text", NULL, 0);
    member_string(&out, "text", "{");
    member_int(&out, "int", INT64_MIN);
    member_bool(&out, "bool", true);
    member_uuid(&out, "id", (struct uuid){{1, 0xab}});
    member_time(&out, "at", 1735732800123456);
    members_end(&out);
    assert_string_equal(
        buf_cstr(&out),
        "{\"raw\":[1],\"none\":null,\"no_text\":null,\"text\":\"{\",\"int\":-9223372036854775808,\"bool\":true,"
        "\"id\":\"01ab0000-0000-0000-0000-000000000000\",\"at\":\"2025-01-01T12:00:00.123456Z\"}");
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_error),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_object_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
