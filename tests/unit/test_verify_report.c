/* What was found, as JSON and for people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "verify/report.h"

static struct report *new_report(void)
{
    struct report *r = xcalloc(1, sizeof *r);
    *r = (struct report){.topic = "a \"topic\"", .shards = 10, .partitions = 20, .groups = 2};
    r->group[0].name = "email-workers";
    r->group[1].name = "position-workers";
    return r;
}

static char *shown(const struct report *r, void (*show)(const struct report *, FILE *))
{
    char *text = NULL;
    size_t len;
    FILE *file = open_memstream(&text, &len);
    show(r, file);
    fclose(file);
    return text;
}

static json_t *as_json(const struct report *r)
{
    char *text = shown(r, report_json);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

static void test_nothing_is_wrong(void **state)
{
    struct report *r = new_report();
    (void)state;
    for (int i = 0; i < 1234567; i++)
        report_add(r, R_COMMITTED, NULL);
    report_add(r, R_REPEATS, NULL);
    r->group[0].dead = 3;
    assert_true(report_ok(r));
    json_t *json = as_json(r);
    assert_true(json_is_true(json_object_get(json, "ok")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "events"), "committed")), 1234567);
    assert_string_equal(json_string_value(json_object_get(json, "topic")), "a \"topic\"");
    assert_true(json_is_null(json_object_get(json, "campaign")));
    assert_int_equal(json_array_size(json_object_get(json, "culprits")), 0);
    json_decref(json);
    char *text = shown(r, report_print);
    assert_non_null(strstr(text, "1,234,567"));
    assert_non_null(strstr(text, "All is right"));
    free(text);
    free(r);
}

static void test_each_fault_is_one(void **state)
{
    static const enum report_count faults[] = {R_MISSING, R_WRONG_SHARD, R_SEQ_HOLES,    R_VERSION_HOLES,
                                               R_UNKNOWN, R_MISPLACED,   R_OUT_OF_ORDER, R_DIFFERING};
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct report *r = new_report();
        report_add(r, faults[i], &CULPRIT_INIT);
        assert_false(report_ok(r));
        free(r);
    }
    for (int what = GROUP_MISSING; what <= GROUP_DOUBLED; what++) {
        struct report *r = new_report();
        report_add_group(r, 1, (enum group_fault)what, &CULPRIT_INIT);
        assert_false(report_ok(r));
        free(r);
    }
}

static void test_the_first_culprits_are_named(void **state)
{
    struct report *r = new_report();
    (void)state;
    for (int i = 0; i < 100; i++) {
        struct culprit c = CULPRIT_INIT;
        c.partition = 3;
        c.offset = i;
        c.id.b[0] = 0xab;
        snprintf(c.note, sizeof c.note, "because of \"%d\"", i);
        report_add(r, R_UNKNOWN, &c);
        report_add_group(r, 1, GROUP_DOUBLED, &c);
    }
    json_t *json = as_json(r), *culprits = json_object_get(json, "culprits"), *group = json_array_get(culprits, 5);
    assert_int_equal(json_array_size(culprits), 2 * REPORT_CULPRITS);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(culprits, 4), "offset")), 4);
    assert_string_equal(json_string_value(json_object_get(json_array_get(culprits, 0), "fault")), "unknown");
    assert_null(json_object_get(json_array_get(culprits, 0), "seq"));
    assert_string_equal(json_string_value(json_object_get(group, "group")), "position-workers");
    assert_string_equal(json_string_value(json_object_get(group, "fault")), "doubled");
    assert_string_equal(json_string_value(json_object_get(group, "note")), "because of \"0\"");
    json_decref(json);
    char *text = shown(r, report_print);
    assert_non_null(strstr(text, "partition 3, offset 4"));
    assert_null(strstr(text, "offset 5"));
    assert_non_null(strstr(text, "Something is wrong"));
    free(text);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_wrong),
        cmocka_unit_test(test_each_fault_is_one),
        cmocka_unit_test(test_the_first_culprits_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
