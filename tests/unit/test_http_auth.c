/* API keys: what is refused unread, the cache and its bounds, and loads that are shared. The reader is this file's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"
#include "http/auth.h"

#define SECRET "Bearer tk_sec_0123456789abcdefghij"
#define PUBLIC "Bearer tk_pub_0123456789abcdefghij"
#define NOBODY "Bearer tk_sec_nobodynobodynobody12"

/* --- a reader that answers when it is told to ------------------------------------------------------------------- */

struct pending {
    read_done done;
    void *arg;
};

static struct pending pending[AUTH_MAX_LOADS + 1];
static size_t waiting, submitted;
static enum err submit_error;
static char last_hash[80];

enum err reader_submit(struct reader *r, enum read_query query, int count, const char *const params[],
                       read_done on_done, void *arg)
{
    (void)r;
    assert_int_equal(query, READ_API_KEY);
    assert_int_equal(count, 1);
    if (submit_error != ERR_NONE)
        return submit_error;
    snprintf(last_hash, sizeof last_hash, "%s", params[0]);
    submitted++;
    pending[waiting++] = (struct pending){on_done, arg};
    return ERR_NONE;
}

/* Answers all that wait: with an error, without a row, or with a key of this kind. */
static void deliver(enum err err, const char *kind)
{
    PGresult *rows = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[4] = {
        {.name = (char *)"a"}, {.name = (char *)"b"}, {.name = (char *)"c"}, {.name = (char *)"d"}};
    const char *row[4] = {"01234567-89ab-7def-8123-456789abcdef", "42", "11234567-89ab-7def-8123-456789abcdef", kind};
    assert_true(PQsetResultAttrs(rows, 4, columns));
    for (int i = 0; kind && i < 4; i++)
        assert_true(PQsetvalue(rows, 0, i, (char *)(uintptr_t)row[i], (int)strlen(row[i])));
    size_t count = waiting;
    waiting = 0;
    for (size_t i = 0; i < count; i++)
        pending[i].done(pending[i].arg, err, err == ERR_NONE ? rows : NULL);
    PQclear(rows);
}

/* --- who asks --------------------------------------------------------------------------------------------------- */

static int told;
static enum err told_err;
static struct api_key told_key;

static void on_auth(void *arg, enum err err, const struct api_key *key)
{
    assert_ptr_equal(arg, &told);
    assert_int_equal(key != NULL, err == ERR_NONE);
    told++;
    told_err = err;
    if (key)
        told_key = *key;
}

static enum err now_err;
static struct api_key now_key;

static bool check(struct auth *a, const char *header)
{
    return auth_check(a, header, header ? strlen(header) : 0, &now_err, &now_key, on_auth, &told);
}

static int reset(void **state)
{
    (void)state;
    waiting = submitted = 0;
    submit_error = ERR_NONE;
    told = 0;
    return 0;
}

static void test_what_cannot_be_a_key(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 1000, 1000);
    static const char *const bad[] = {
        NULL,
        "",
        "Bearer",
        "Bearer ",
        "Basic tk_sec_0123456789abcdefghij",
        "tk_sec_0123456789abcdefghij",
        "Bearer tk_sec_",
        "Bearer tk_sec_short",
        "Bearer tk_xxx_0123456789abcdefghij",
        "Bearer TK_SEC_0123456789abcdefghij",
        "Bearer tk_sec_0123456789abcdef hij",
        "Bearer tk_sec_0123456789abcdef\x80ij",
        "Bearer tk_sec_0123456789abcdefghij,",
        "Bearer "
        "tk_sec_0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789x",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_true(check(a, bad[i]));
        assert_int_equal(now_err, ERR_UNAUTHORIZED);
    }
    assert_int_equal(submitted, 0);
    size_t len;
    assert_non_null(auth_bearer("bEARER   tk_pub_0123456789abcdefghij \t", 38, &len));
    assert_int_equal(len, 27);
    auth_free(a);
}

static void test_loads_are_shared_and_remembered(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 60000, 60000);
    assert_false(check(a, SECRET));
    assert_false(check(a, SECRET));
    assert_false(check(a, PUBLIC));
    assert_int_equal(submitted, 2);
    deliver(ERR_NONE, "secret");
    assert_int_equal(told, 3);
    assert_int_equal(told_err, ERR_NONE);
    assert_int_equal(told_key.account_no, 42);
    assert_true(told_key.secret);
    assert_true(check(a, SECRET));
    assert_int_equal(now_err, ERR_NONE);
    assert_int_equal(now_key.account_id.b[0], 0x11);
    assert_int_equal(submitted, 2);
    auth_free(a);
}

/* The hash is that of the key alone, in hex: what `tidings keys` stored. */
static void test_hash(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 0, 0);
    assert_false(check(a, SECRET));
    assert_string_equal(last_hash, "64f20434577e8fc7ef28fefd2b22f34fab65a7499baa4509bf9bfab0ae36a9eb");
    deliver(ERR_NONE, "publishable");
    assert_false(told_key.secret);
    auth_free(a);
}

static void test_unknown_keys_are_remembered_too(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 60000, 60000);
    assert_false(check(a, NOBODY));
    deliver(ERR_NONE, NULL);
    assert_int_equal(told_err, ERR_UNAUTHORIZED);
    assert_true(check(a, NOBODY));
    assert_int_equal(now_err, ERR_UNAUTHORIZED);
    assert_int_equal(submitted, 1);
    auth_free(a);
}

static void test_failures_are_not_remembered(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 60000, 60000);
    assert_false(check(a, SECRET));
    assert_false(check(a, SECRET));
    deliver(ERR_DB_UNAVAILABLE, NULL);
    assert_int_equal(told, 2);
    assert_int_equal(told_err, ERR_DB_UNAVAILABLE);
    submit_error = ERR_OVERLOADED;
    assert_true(check(a, SECRET));
    assert_int_equal(now_err, ERR_OVERLOADED);
    submit_error = ERR_NONE;
    assert_false(check(a, SECRET));
    deliver(ERR_NONE, "neither");
    assert_int_equal(told_err, ERR_INTERNAL);
    assert_false(check(a, SECRET));
    deliver(ERR_NONE, "secret");
    assert_int_equal(told_err, ERR_NONE);
    auth_free(a);
}

static void test_life_ends(void **state)
{
    (void)state;
    struct auth *brief = auth_new(NULL, 20, 20), *none = auth_new(NULL, 0, 0);
    assert_false(check(brief, SECRET));
    deliver(ERR_NONE, "secret");
    assert_true(check(brief, SECRET));
    usleep(30000);
    assert_false(check(brief, SECRET));
    deliver(ERR_NONE, NULL); /* revoked meanwhile */
    assert_int_equal(told_err, ERR_UNAUTHORIZED);
    assert_false(check(none, SECRET));
    deliver(ERR_NONE, "secret");
    assert_false(check(none, SECRET));
    deliver(ERR_NONE, "secret");
    auth_free(brief);
    auth_free(none);
}

/* Guessing neither pushes known keys out nor makes reads without bound. */
static void test_bounds(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 60000, 60000);
    char header[64];
    assert_false(check(a, SECRET));
    deliver(ERR_NONE, "secret");
    for (int i = 0; i < 3 * AUTH_MAX_LOADS; i++) {
        snprintf(header, sizeof header, "Bearer tk_sec_guess%020d", i);
        if (!check(a, header))
            continue;
        assert_int_equal(now_err, ERR_OVERLOADED);
        assert_int_equal(waiting, AUTH_MAX_LOADS);
        deliver(ERR_NONE, NULL);
    }
    deliver(ERR_NONE, NULL);
    assert_true(check(a, SECRET));
    assert_int_equal(now_err, ERR_NONE);
    snprintf(header, sizeof header, "Bearer tk_sec_guess%020d", 0);
    assert_false(check(a, header)); /* the oldest guesses were dropped */
    deliver(ERR_NONE, NULL);
    auth_free(a);
}

static void test_closed_while_loading(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 60000, 60000);
    assert_false(check(a, SECRET));
    assert_false(check(a, SECRET));
    assert_false(check(a, PUBLIC));
    auth_free(a);
    assert_int_equal(told, 3);
    assert_int_equal(told_err, ERR_SHUTTING_DOWN);
    deliver(ERR_NONE, "secret");
    assert_int_equal(told, 3);
}

#define KEY_ID "01234567-89ab-7def-8123-456789abcdef"

static struct uuid key_id(const char *text)
{
    struct uuid id;
    assert_true(uuid_parse(text, 36, &id));
    return id;
}

static void load_both(struct auth *a)
{
    check(a, SECRET);
    check(a, NOBODY);
    pending[2] = pending[1]; /* NOBODY's is answered on its own */
    waiting = 1;
    deliver(ERR_NONE, "secret");
    pending[0] = pending[2];
    waiting = 1;
    deliver(ERR_NONE, NULL);
}

static void test_a_revocation_is_heard(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 60000, 60000);
    load_both(a);
    auth_revoked(a, key_id("01234567-89ab-7def-8123-000000000000")); /* another one */
    assert_true(check(a, SECRET));
    assert_int_equal(submitted, 2);
    auth_revoked(a, key_id(KEY_ID));
    assert_true(check(a, NOBODY)); /* is nobody's still */
    assert_false(check(a, SECRET));
    assert_int_equal(submitted, 3);
    deliver(ERR_NONE, NULL);
    assert_true(check(a, SECRET));
    assert_int_equal(now_err, ERR_UNAUTHORIZED);
    auth_free(a);
}

/* What was read before a revocation comes after it: who waited gets it, nobody else does. */
static void test_a_load_in_flight_revives_nothing(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 60000, 60000);
    assert_false(check(a, SECRET));
    auth_revoked(a, key_id(KEY_ID));
    assert_false(check(a, SECRET)); /* a lookup of its own */
    assert_int_equal(submitted, 2);
    struct pending newer = pending[1];
    waiting = 1;
    deliver(ERR_NONE, "secret");
    assert_int_equal(told, 1);
    assert_int_equal(told_err, ERR_NONE);
    assert_false(check(a, SECRET)); /* joins the newer one: nothing was remembered */
    assert_int_equal(submitted, 2);
    pending[0] = newer;
    waiting = 1;
    deliver(ERR_NONE, NULL);
    assert_int_equal(told, 3);
    assert_int_equal(told_err, ERR_UNAUTHORIZED);
    assert_true(check(a, SECRET));
    assert_int_equal(now_err, ERR_UNAUTHORIZED);
    /* The end comes first: who waits for one of either kind is told, once. */
    assert_false(check(a, PUBLIC));
    auth_revoked(a, key_id(KEY_ID));
    assert_false(check(a, PUBLIC));
    auth_free(a);
    assert_int_equal(told, 5);
    assert_int_equal(told_err, ERR_SHUTTING_DOWN);
    deliver(ERR_NONE, "secret");
    assert_int_equal(told, 5);
}

static void test_lives(void **state)
{
    (void)state;
    struct auth *a = auth_new(NULL, 20, 60000);
    load_both(a);
    auth_set_live(a, true); /* what was known may be out of date */
    assert_false(check(a, SECRET));
    deliver(ERR_NONE, "secret");
    usleep(25000);
    assert_true(check(a, SECRET)); /* heard of: remembered for long */
    auth_set_live(a, false);
    assert_false(check(a, SECRET)); /* its short life is over */
    deliver(ERR_NONE, "secret");
    auth_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_cannot_be_a_key, reset),
        cmocka_unit_test_setup(test_loads_are_shared_and_remembered, reset),
        cmocka_unit_test_setup(test_hash, reset),
        cmocka_unit_test_setup(test_unknown_keys_are_remembered_too, reset),
        cmocka_unit_test_setup(test_failures_are_not_remembered, reset),
        cmocka_unit_test_setup(test_life_ends, reset),
        cmocka_unit_test_setup(test_bounds, reset),
        cmocka_unit_test_setup(test_closed_while_loading, reset),
        cmocka_unit_test_setup(test_a_revocation_is_heard, reset),
        cmocka_unit_test_setup(test_a_load_in_flight_revives_nothing, reset),
        cmocka_unit_test_setup(test_lives, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
