/* Verification tokens: what was signed is read, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "core/uuid.h"
#include "domain/token.h"
#include "garbage.h"

static const char secret[] = "an old secret of 32 bytes or so!";
static const struct uuid campaign = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct uuid user = {
    {0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8, 0xf7, 0xf6, 0xf5, 0xf4, 0xf3, 0xf2, 0xf1, 0xf0}};

static enum err read_token(const char *secrets, const char *token, int64_t now)
{
    struct uuid c, u;
    return token_read(secrets, token, strlen(token), now, &c, &u);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        struct uuid c = uuid_v7(), u = uuid_v7(), read_c, read_u;
        char token[TOKEN_SIZE];
        int64_t expires = (int64_t)(random_u64() % 10000000000) + 1;
        token_make(secret, c, u, expires, token);
        assert_int_equal(strlen(token), 75);
        assert_int_equal(strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 75);
        assert_int_equal(token_read(secret, token, 75, expires - 1, &read_c, &read_u), ERR_NONE);
        assert_true(uuid_equal(c, read_c) && uuid_equal(u, read_u));
    }
}

/* Links that were mailed stay good across versions. Made by Python's hmac and base64. */
static void test_pinned(void **state)
{
    (void)state;
    char token[TOKEN_SIZE];
    token_make(secret, campaign, user, 1735732800, token);
    assert_string_equal(token, "AQIDBAUGBwgJCgsMDQ4PEP_-_fz7-vn49_b19PPy8fAAAAAAZ3UuQLQi7cjXwgUD4_gBBeoGNFE");
}

static void test_expiry(void **state)
{
    (void)state;
    char token[TOKEN_SIZE];
    token_make(secret, campaign, user, 1000, token);
    assert_int_equal(read_token(secret, token, 0), ERR_NONE);
    assert_int_equal(read_token(secret, token, 999), ERR_NONE);
    assert_int_equal(read_token(secret, token, 1000), ERR_TOKEN_EXPIRED);
    assert_int_equal(read_token(secret, token, INT64_MAX), ERR_TOKEN_EXPIRED);
    token_make(secret, campaign, user, -1, token);
    assert_int_equal(read_token(secret, token, 0), ERR_TOKEN_EXPIRED);
}

/* Any other character in any place, the last with its two unused bits too, makes it a bad token, expired or not. */
static void test_every_change_is_noticed(void **state)
{
    (void)state;
    char token[TOKEN_SIZE];
    token_make(secret, campaign, user, 1000, token);
    for (size_t i = 0; i < 75; i++) {
        char original = token[i];
        for (int c = 0; c < 256; c++) {
            struct uuid a = {{0}}, b = {{0}};
            token[i] = (char)c;
            if (token[i] == original)
                continue;
            assert_int_equal(token_read(secret, token, 75, 0, &a, &b), ERR_BAD_TOKEN);
            assert_true(uuid_equal(a, (struct uuid){{0}}) && uuid_equal(b, (struct uuid){{0}}));
        }
        token[i] = original;
    }
    assert_int_equal(read_token(secret, token, 0), ERR_NONE);
}

static void test_lengths(void **state)
{
    (void)state;
    struct uuid a, b;
    char token[TOKEN_SIZE + 4];
    token_make(secret, campaign, user, 1000, token);
    for (size_t len = 0; len < 75; len++)
        assert_int_equal(token_read(secret, token, len, 0, &a, &b), ERR_BAD_TOKEN);
    assert_int_equal(token_read(secret, token, 76, 0, &a, &b), ERR_BAD_TOKEN);
    strcat(token, "=");
    assert_int_equal(token_read(secret, token, 76, 0, &a, &b), ERR_BAD_TOKEN);
    token[75] = 'A';
    assert_int_equal(token_read(secret, token, 76, 0, &a, &b), ERR_BAD_TOKEN);
}

static void test_rotation(void **state)
{
    (void)state;
    char old[TOKEN_SIZE], new[TOKEN_SIZE], rotated[TOKEN_SIZE];
    token_make("old secret 123456", campaign, user, 1000, old);
    token_make("new secret 123456", campaign, user, 1000, new);
    token_make("new secret 123456,old secret 123456", campaign, user, 1000, rotated);
    assert_string_equal(rotated, new); /* the first signs */
    assert_string_not_equal(old, new);
    assert_int_equal(read_token("new secret 123456,old secret 123456", old, 0), ERR_NONE);
    assert_int_equal(read_token("new secret 123456,old secret 123456", new, 0), ERR_NONE);
    assert_int_equal(read_token("third secret 1234,new secret 123456,old secret 123456", old, 0), ERR_NONE);
    assert_int_equal(read_token("new secret 123456", old, 0), ERR_BAD_TOKEN);
}

static void test_other_secrets(void **state)
{
    (void)state;
    char token[TOKEN_SIZE];
    static const char *const others[] = {
        "an old secret of 32 bytes or so?",  "an old secret of 32 bytes or so",  "x", "", ",", ",,",
        "an old secret of 32 bytes or so!!", " an old secret of 32 bytes or so!"};
    token_make(secret, campaign, user, 1000, token);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(read_token(others[i], token, 0), ERR_BAD_TOKEN);
}

static void test_unsubscribe(void **state)
{
    (void)state;
    struct uuid a, b;
    char token[TOKEN_SIZE], other[TOKEN_SIZE];
    token_make_unsubscribe("new secret 123456,old secret 123456", campaign, user, token);
    assert_int_equal(token_read_unsubscribe("other secret 12345,new secret 123456", token, 75, &a, &b), ERR_NONE);
    assert_true(uuid_equal(a, campaign) && uuid_equal(b, user));
    assert_int_equal(token_read_unsubscribe("other secret 12345", token, 75, &a, &b), ERR_BAD_TOKEN);
    assert_int_equal(token_read_unsubscribe("new secret 123456", token, 74, &a, &b), ERR_BAD_TOKEN);
    token_make_unsubscribe(secret, campaign, user, token);
    token_make(secret, campaign, user, INT64_MAX, other); /* who may do the one may not do the other */
    assert_int_equal(token_read(secret, token, 75, 0, &a, &b), ERR_BAD_TOKEN);
    assert_int_equal(token_read_unsubscribe(secret, other, 75, &a, &b), ERR_BAD_TOKEN);
    for (size_t i = 0; i < 75; i++) {
        char original = token[i];
        token[i] = original == 'A' ? 'B' : 'A';
        assert_int_equal(token_read_unsubscribe(secret, token, 75, &a, &b), ERR_BAD_TOKEN);
        token[i] = original;
    }
}

static void check_read(const char *text, size_t len)
{
    struct uuid a, b;
    char token[TOKEN_SIZE];
    token_make(secret, campaign, user, 1000, token);
    if (len == 75 && memcmp(text, token, 75) == 0)
        return;
    assert_int_equal(token_read(secret, text, len, 0, &a, &b), ERR_BAD_TOKEN);
}

static void test_garbage(void **state)
{
    (void)state;
    char token[TOKEN_SIZE];
    token_make(secret, campaign, user, 1000, token);
    garbage_try(token, 20000, check_read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_expiry),        cmocka_unit_test(test_every_change_is_noticed),
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_other_secrets), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_unsubscribe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
