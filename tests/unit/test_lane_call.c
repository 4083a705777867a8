/* Rows of lane_apply as results and events; rows that the function never returns are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/lane_call.h"

enum { COLUMNS = 14 };

static PGresult *make_result(int columns)
{
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc attributes[COLUMNS + 1];
    memset(attributes, 0, sizeof attributes);
    for (int i = 0; i < columns; i++) {
        attributes[i].name = (char *)"c";
        attributes[i].format = 1;
    }
    assert_true(PQsetResultAttrs(r, columns, attributes));
    return r;
}

static void set_int(PGresult *r, int row, int column, uint64_t value, int bytes)
{
    char be[8];
    for (int i = 0; i < bytes; i++)
        be[i] = (char)(value >> (8 * (bytes - 1 - i)));
    assert_true(PQsetvalue(r, row, column, be, bytes));
}

static void set_uuid(PGresult *r, int row, int column, struct uuid id)
{
    assert_true(PQsetvalue(r, row, column, (char *)id.b, sizeof id.b));
}

static void add_row(PGresult *r, int row, uint32_t of, uint32_t err, struct uuid object, int64_t seq, int64_t version)
{
    for (int i = 0; i < COLUMNS; i++)
        assert_true(PQsetvalue(r, row, i, NULL, -1));
    set_int(r, row, 0, of, 4);
    set_int(r, row, 1, err, 4);
    set_uuid(r, row, 2, object);
    if (seq == 0)
        return;
    set_int(r, row, 3, 9, 4);
    set_uuid(r, row, 5, object);
    set_int(r, row, 6, 2, 4);
    set_int(r, row, 7, (uint64_t)seq, 8);
    set_int(r, row, 8, (uint64_t)version, 8);
    set_int(r, row, 9, EVENT_USER_SIGNED_UP, 2);
    set_int(r, row, 10, 1000000, 8);
    set_uuid(r, row, 11, object);
    assert_true(PQsetvalue(r, row, 12, (char *)"{}", 2));
}

static void test_results(void **state)
{
    (void)state;
    struct lane_result result = {0};
    struct action *batch[4];
    for (int i = 0; i < 4; i++) {
        batch[i] = action_new(ACTION_SIGN_UP, 0);
        batch[i]->campaign_id = uuid_v7();
    }
    struct uuid user = uuid_v7();
    PGresult *r = make_result(COLUMNS);
    add_row(r, 0, 1, 0, user, 6, 12); /* two events, given out of order */
    add_row(r, 1, 1, 0, user, 5, 11);
    add_row(r, 2, 2, 2, user, 0, 0); /* address taken */
    add_row(r, 3, 3, 9, user, 0, 0); /* again */
    assert_true(lane_call_decode(&result, r, batch, 4));
    assert_int_equal(result.results[0].err, ERR_NONE);
    assert_int_equal(result.results[0].events, 2);
    assert_int_equal(result.results[0].version, 12);
    assert_int_equal(result.results[0].place, 9);
    assert_int_equal(result.results[0].at_us, 946684801000000);
    assert_true(uuid_equal(result.results[0].id, user));
    assert_int_equal(result.results[1].err, ERR_EMAIL_TAKEN);
    assert_true(uuid_equal(result.results[1].id, user));
    assert_true(result.again[2]);
    assert_int_equal(result.results[3].err, ERR_INTERNAL); /* no row came for it */
    assert_false(result.again[3]);
    assert_int_equal(result.row_count, 2);
    assert_int_equal(result.rows[0].seq, 5); /* the relay wants them in order */
    assert_int_equal(result.rows[1].seq, 6);
    assert_true(uuid_equal(result.rows[0].campaign_id, batch[0]->campaign_id));
    PQclear(r);
    for (int i = 0; i < 4; i++)
        action_free(batch[i]);
    lane_result_free(&result);
}

static void test_refuses_nonsense(void **state)
{
    (void)state;
    struct lane_result result = {0};
    struct action *batch[1] = {action_new(ACTION_VERIFY, 0)};
    PGresult *wide = make_result(COLUMNS - 1);
    assert_false(lane_call_decode(&result, wide, batch, 1));
    PQclear(wide);
    for (uint32_t of = 0; of < 4; of++) {
        PGresult *r = make_result(COLUMNS);
        add_row(r, 0, of, 0, uuid_v7(), 1, 1);
        assert_int_equal(lane_call_decode(&result, r, batch, 1), of == 1);
        PQclear(r);
    }
    action_free(batch[0]);
    lane_result_free(&result);
}

static void test_action_text(void **state)
{
    (void)state;
    struct action *a = action_new(ACTION_SIGN_UP, 5);
    struct text x = action_text(a, "abc", 3), y = action_text(a, "de", 2), none = action_text(a, NULL, 0);
    assert_memory_equal(x.data, "abc", 3);
    assert_memory_equal(y.data, "de", 2);
    assert_null(none.data);
    assert_int_equal(a->event_id.b[15] & 0x0f, 0);
    action_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_refuses_nonsense),
        cmocka_unit_test(test_action_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
