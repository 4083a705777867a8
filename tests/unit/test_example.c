/* A handler without Kafka: records in, effects out. docs/adding-a-consumer.md's example, on the database that
 * TIDINGS_EXAMPLE_DATABASE_URL names (tests/e2e/test_example.py gives it one); without, there is nothing to test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../docs/examples/fraud.c"
#include "core/pg.h"

#define REFERRER "01900000-0000-7000-8000-000000000022"

static struct record *referral(int number, bool known)
{
    char value[1024], why[256];
    int len = snprintf(value, sizeof value,
                       "{\"id\":\"01900000-0000-7000-9000-%012d\",\"type\":\"referral.created\","
                       "\"account_id\":\"01900000-0000-7000-8000-0000000000aa\","
                       "\"campaign_id\":\"01900000-0000-7000-8000-0000000000cc\","
                       "\"data\":{\"referral_id\":\"01900000-0000-7000-8000-%012d\",\"referrer_id\":\"" REFERRER "\","
                       "\"referred_id\":\"01900000-0000-7000-8000-%012d\","
                       "\"campaign_id\":\"01900000-0000-7000-8000-0000000000cc\"},"
                       "\"timestamp\":\"2026-01-01T12:%02d:00.000000Z\",\"version\":%d}",
                       number, number, number, number, number);
    struct record *r = xcalloc(1, sizeof *r);
    assert_true(event_parse(value, (size_t)len, &r->event, why, sizeof why));
    r->known = known;
    return r;
}

static void test_counts(void **state)
{
    char why[256];
    const char *url = getenv("TIDINGS_EXAMPLE_DATABASE_URL");
    (void)state;
    if (!url)
        return;
    PGconn *conn = pg_open(url, "test_example", 5, why, sizeof why);
    assert_non_null(conn);
    _Atomic int64_t stop_at = 0;
    struct record *records[] = {referral(1, false), referral(2, false), referral(3, true)};
    struct run run = {
        .conn = conn, .records = records, .count = 3, .deadline_us = clock_mono_us() + 5000000, .stop_at = &stop_at};
    PGresult *failed = NULL;
    assert_true(fraud_handler.apply(&run, &failed));
    assert_int_equal(records[0]->outcome, OUTCOME_DONE);

    PGresult *rows = PQexec(conn, "select referrals from fraud_counts where referrer_id = '" REFERRER "'");
    assert_int_equal(PQntuples(rows), 1);             /* one hour */
    assert_string_equal(PQgetvalue(rows, 0, 0), "2"); /* the third was known */
    PQclear(rows);
    for (int i = 0; i < 3; i++) {
        event_clear(&records[i]->event);
        free(records[i]);
    }
    PQfinish(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
