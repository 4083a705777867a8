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

static void test_two_secrets_sign(void **state)
{
    struct webhook_call call = vector();
    struct buf both = {0}, one = {0};
    (void)state;
    call.old_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaQ=";
    assert_true(webhook_sign(&call, 1614265330, &both));
    assert_true(webhook_sign(
        &(struct webhook_call){.secret = call.old_secret, .id = call.id, .body = call.body, .body_len = call.body_len},
        1614265330, &one));
    char *blank = strchr(buf_cstr(&both), ' ');
    assert_non_null(blank);
    assert_string_equal(blank + 1, buf_cstr(&one));
    *blank = '\0';
    assert_string_equal(buf_cstr(&both), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    call.old_secret = "nonsense";
    buf_clear(&both);
    assert_false(webhook_sign(&call, 1614265330, &both));
    assert_int_equal(both.len, 0);
    buf_free(&both);
    buf_free(&one);
}

static void test_special_hosts(void **state)
{
    static const struct {
        const char *url, *what;
    } cases[] = {
        {"http://127.0.0.1:8080/x", "a loopback address"},
        {"http://127.1/", "a loopback address"},
        {"http://0x7f000001/", "a loopback address"},
        {"http://2130706433/", "a loopback address"},
        {"http://LocalHost/", "a loopback address"},
        {"http://x.localhost./", "a loopback address"},
        {"http://10.0.0.1/", "a private address"},
        {"https://[::1]:443/", "a loopback address"},
        {"https://[::ffff:192.168.0.1]/", "a private address"},
        {"https://[fe80::1%25eth0]/", "a link-local address"},
        {"https://1.1.1.1/", NULL},
        {"https://[2606:4700::1111]/", NULL},
        {"https://localhost.example/", NULL},
        {"https://notlocalhost/", NULL},
        {"https://10.example/", NULL},
        {"nonsense", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *what = webhook_special(cases[i].url);
        if ((what == NULL) != (cases[i].what == NULL) || (what && strcmp(what, cases[i].what) != 0))
            fail_msg("%s is %s", cases[i].url, what ? what : "nothing special");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_secrets_sign), cmocka_unit_test(test_special_hosts),
        cmocka_unit_test(test_signature),        cmocka_unit_test(test_padded_secrets_differ),
        cmocka_unit_test(test_bad_secrets),      cmocka_unit_test(test_origin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
