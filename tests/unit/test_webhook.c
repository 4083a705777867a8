/* Webhooks: the signature, and where a URL leads. What is sent and what is made of answers: tests/e2e/test_rewards_group.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "delivery/webhook.h"

/* The vector of the Standard Webhooks specification. */
static struct webhook_call vector(void)
{
    static const char body[] = "{\"test\": 2432232314}";
    return (struct webhook_call){
        .url = "https://example.com/",
        .secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        .id = "msg_p5jXN8AQM9LWM0D4loKWxJek",
        .body = body,
        .body_len = sizeof body - 1,
    };
}

static void test_signature(void **state)
{
    struct webhook_call call = vector();
    struct buf b = {0};
    (void)state;
    assert_true(webhook_sign(&call, 1614265330, &b));
    assert_string_equal(buf_cstr(&b), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    struct buf other = {0};
    assert_true(webhook_sign(&call, 1614265331, &other));
    assert_string_not_equal(buf_cstr(&b), buf_cstr(&other));
    buf_free(&b);
    buf_free(&other);
}

static void test_padded_secrets_differ(void **state)
{
    static const char *const secrets[] = {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaQ=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLQ=="};
    struct webhook_call call = vector();
    struct buf made[3] = {{0}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        call.secret = secrets[i];
        assert_true(webhook_sign(&call, 1614265330, &made[i]));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(buf_cstr(&made[i]), buf_cstr(&made[j]));
    }
    for (int i = 0; i < 3; i++)
        buf_free(&made[i]);
}

static void test_bad_secrets(void **state)
{
    static const char *const bad[] = {
        "",           "whsec_",     "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",        "whsec_MfK",  "whsec_!!!!",
        "whsec_====", "whsec_ab d", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS\n", "WHSEC_MfKQ",
    };
    struct webhook_call call = vector();
    struct buf b = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        call.secret = bad[i];
        if (webhook_sign(&call, 1, &b))
            fail_msg("the secret \"%s\" is accepted", bad[i]);
    }
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void test_origin(void **state)
{
    static const struct {
        const char *url, *origin;
    } cases[] = {
        {"http://Example.COM/a?b#c", "http://example.com:80"},
        {"https://example.com", "https://example.com:443"},
        {"HTTPS://a:b@example.com:8443/x", "https://example.com:8443"},
        {"http://[::1]:80/", "http://[::1]:80"},
        {"ftp://example.com/", NULL},
        {"file:///etc/passwd", NULL},
        {"", NULL},
        {"example.com", NULL},
        {"http://", NULL},
        {"http://exa mple.com/", NULL},
        {"http://example.com:99999/", NULL},
        {"gopher://127.0.0.1:25/", NULL},
    };
    char origin[WEBHOOK_ORIGIN_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool ok = webhook_origin(cases[i].url, origin);
        if (ok != (cases[i].origin != NULL) || (ok && strcmp(origin, cases[i].origin) != 0))
            fail_msg("%s leads to %s", cases[i].url, ok ? origin : "nowhere");
    }
    char url[2000] = "http://";
    memset(url + 7, 'a', sizeof url - 8);
    assert_false(webhook_origin(url, origin));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_padded_secrets_differ),
        cmocka_unit_test(test_bad_secrets),
        cmocka_unit_test(test_origin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
