/* Settings: defaults, every kind of wrong value and its sentence, what `tidings config` prints and what it must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"

static struct config config;
static char why[300];

static int clean_environment(void **state)
{
    (void)state;
#define UNSET(field, env, type, min, max, def, help) unsetenv(env);
    CONFIG_TABLE(UNSET)
#undef UNSET
    why[0] = '\0';
    return 0;
}

static bool load_with(const char *name, const char *value)
{
    clean_environment(NULL);
    setenv(name, value, 1);
    return config_load(&config, why, sizeof why);
}

static void accepts(const char *name, const char *value)
{
    if (!load_with(name, value))
        fail_msg("%s=%s: %s", name, value, why);
}

static void refuses(const char *name, const char *value, const char *sentence)
{
    assert_false(load_with(name, value));
    assert_string_equal(why, sentence);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_true(config_load(&config, why, sizeof why));
    assert_int_equal(config.lanes, 1);
    assert_int_equal(config.pool_size, 10);
    assert_int_equal(config.email_pool_size, 0);
    assert_string_equal(config.database_url, "postgresql://localhost/tidings");
    assert_string_equal(config.kafka_group_prefix, "");
    assert_string_equal(config.mail_transport, "maildir");
    assert_null(config.token_secret);
    assert_null(config.smtp_username);
    assert_int_equal(config.lane_queue_bytes, 33554432);
    config_free(&config);
}

/* The table itself: every default is a value that the setting takes, and names do not repeat. */
static void test_table(void **state)
{
    (void)state;
    static const char *const names[] = {
#define NAME(field, env, type, min, max, def, help) env,
        CONFIG_TABLE(NAME)
#undef NAME
    };
    static const char *const defaults[] = {
#define DEFAULT(field, env, type, min, max, def, help) def,
        CONFIG_TABLE(DEFAULT)
#undef DEFAULT
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (defaults[i])
            accepts(names[i], defaults[i]);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(names[i], names[j]);
    }
}

static void test_integers(void **state)
{
    (void)state;
    accepts("LANES", "1");
    assert_int_equal(config.lanes, 1);
    accepts("LANES", "64");
    accepts("LANES", "007");
    assert_int_equal(config.lanes, 7);
    accepts("KAFKA_LINGER_MS", "0");
    assert_int_equal(config.kafka_linger_ms, 0);
    refuses("LANES", "abc", "LANES must be an integer from 1 to 64, not \"abc\"");
    refuses("LANES", "0", "LANES must be an integer from 1 to 64, not \"0\"");
    refuses("LANES", "65", "LANES must be an integer from 1 to 64, not \"65\"");
    refuses("LANES", "-1", "LANES must be an integer from 1 to 64, not \"-1\"");
    refuses("LANES", "", "LANES must be an integer from 1 to 64, not \"\"");
    refuses("LANES", " 2", "LANES must be an integer from 1 to 64, not \" 2\"");
    refuses("LANES", "2 ", "LANES must be an integer from 1 to 64, not \"2 \"");
    refuses("LANES", "+2", "LANES must be an integer from 1 to 64, not \"+2\"");
    refuses("LANES", "-", "LANES must be an integer from 1 to 64, not \"-\"");
    refuses("LANES", "2.0", "LANES must be an integer from 1 to 64, not \"2.0\"");
    refuses("LANES", "0x2", "LANES must be an integer from 1 to 64, not \"0x2\"");
    refuses("LANES", "1e1", "LANES must be an integer from 1 to 64, not \"1e1\"");
    refuses("LANES", "2k", "LANES must be an integer from 1 to 64, not \"2k\"");
    refuses("LANES", "99999999999999999999", "LANES must be an integer from 1 to 64, not \"99999999999999999999\"");
    refuses("LANES", "1\n\x1b[2J", "LANES must be an integer from 1 to 64, not \"1??[2J\"");
    refuses("LANES", "1234567890123456789012345678901234567890x",
            "LANES must be an integer from 1 to 64, not \"1234567890123456789012345678901234567890...\"");
    refuses("HTTP_MAX_BODY_BYTES", "1023", "HTTP_MAX_BODY_BYTES must be an integer from 1024 to 1048576, not \"1023\"");
}

static void test_texts(void **state)
{
    (void)state;
    char long_topic[251];
    memset(long_topic, 't', 250);
    long_topic[250] = '\0';
    refuses("KAFKA_TOPIC", long_topic, "KAFKA_TOPIC must have at most 249 bytes, not 250");
    accepts("KAFKA_TOPIC", long_topic + 1);
    refuses("KAFKA_TOPIC", "", "KAFKA_TOPIC must not be empty");
    refuses("MAIL_FROM", "ab", "MAIL_FROM must have at least 3 bytes, not 2");
    refuses("MAIL_FROM", "a@b.example\r\nBcc: x", "MAIL_FROM must not contain control characters (byte 11)");
    refuses("DATABASE_URL", "", "DATABASE_URL must not be empty");
    accepts("KAFKA_GROUP_PREFIX", "");
    assert_string_equal(config.kafka_group_prefix, "");
    accepts("MAIL_FROM", "Zoë <z@example.com>");
    assert_string_equal(config.mail_from, "Zoë <z@example.com>");
}

static void test_words(void **state)
{
    (void)state;
    accepts("MAIL_TRANSPORT", "smtp");
    accepts("MAIL_TRANSPORT", "discard");
    assert_string_equal(config.mail_transport, "discard");
    refuses("MAIL_TRANSPORT", "pigeon", "MAIL_TRANSPORT must be one of smtp|maildir|discard, not \"pigeon\"");
    refuses("MAIL_TRANSPORT", "", "MAIL_TRANSPORT must be one of smtp|maildir|discard, not \"\"");
    refuses("MAIL_TRANSPORT", "SMTP", "MAIL_TRANSPORT must be one of smtp|maildir|discard, not \"SMTP\"");
    refuses("MAIL_TRANSPORT", "smt", "MAIL_TRANSPORT must be one of smtp|maildir|discard, not \"smt\"");
    refuses("MAIL_TRANSPORT", "smtp|maildir",
            "MAIL_TRANSPORT must be one of smtp|maildir|discard, not \"smtp|maildir\"");
    refuses("LOG_LEVEL", "least level", "LOG_LEVEL must be one of debug|info|warn|error, not \"least level\"");
}

static void test_token_secret(void **state)
{
    (void)state;
    accepts("TOKEN_SECRET", "0123456789abcdef");
    assert_string_equal(config.token_secret, "0123456789abcdef");
    accepts("TOKEN_SECRET", "0123456789abcdef,fedcba9876543210");
    refuses("TOKEN_SECRET", "0123456789abcde", "TOKEN_SECRET must have at least 16 bytes, not 15");
    refuses("TOKEN_SECRET", "0123456789abcdef,short",
            "TOKEN_SECRET must have at least 16 bytes in each comma-separated part, not 5 (part 2)");
    refuses("TOKEN_SECRET", "0123456789abcde,0123456789abcdef",
            "TOKEN_SECRET must have at least 16 bytes in each comma-separated part, not 15 (part 1)");
    refuses("TOKEN_SECRET", "short,0123456789abcdef",
            "TOKEN_SECRET must have at least 16 bytes in each comma-separated part, not 5 (part 1)");
    refuses("TOKEN_SECRET", "0123456789abcdef,",
            "TOKEN_SECRET must have at least 16 bytes in each comma-separated part, not 0 (part 2)");
    refuses("TOKEN_SECRET", ",0123456789abcdef",
            "TOKEN_SECRET must have at least 16 bytes in each comma-separated part, not 0 (part 1)");
    assert_null(strstr(why, "0123")); /* a secret is not shown, not even a refused one */
}

static void test_empty_is_unset_where_unset_is_the_default(void **state)
{
    (void)state;
    accepts("EMAIL_WORKER_POOL_SIZE", "");
    assert_int_equal(config.email_pool_size, 0);
    accepts("TOKEN_SECRET", "");
    assert_null(config.token_secret);
    accepts("SMTP_USERNAME", "");
    assert_null(config.smtp_username);
}

static void test_pool_size(void **state)
{
    (void)state;
    accepts("KAFKA_WORKER_POOL_SIZE", "25");
    assert_int_equal(config_pool_size(&config, config.email_pool_size), 25);
    setenv("EMAIL_WORKER_POOL_SIZE", "3", 1);
    assert_true(config_load(&config, why, sizeof why));
    assert_int_equal(config_pool_size(&config, config.email_pool_size), 3);
    refuses("EMAIL_WORKER_POOL_SIZE", "0", "EMAIL_WORKER_POOL_SIZE must be an integer from 1 to 512, not \"0\"");
}

/* The first wrong one is named; the rest is loaded all the same, with defaults for the wrong ones. */
static void test_several_wrong(void **state)
{
    (void)state;
    setenv("LANES", "x", 1);
    setenv("KAFKA_TOPIC", "", 1);
    setenv("LOG_LEVEL", "loud", 1);
    setenv("SHARDS", "20", 1);
    assert_false(config_load(&config, why, sizeof why));
    assert_string_equal(why, "KAFKA_TOPIC must not be empty");
    assert_int_equal(config.lanes, 1);
    assert_string_equal(config.kafka_topic, "domain-events");
    assert_string_equal(config.log_level, "info");
    assert_int_equal(config.shards, 20);
}

/* What config_print writes, to be freed. */
static char *printed(void)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    config_print(&config, out);
    fclose(out);
    return text;
}

static const char *line_of(const char *text, const char *name, char line[512])
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s ", name);
    const char *at = strstr(text, wanted);
    assert_non_null(at);
    at--;
    size_t len = strcspn(at, "\n");
    assert_true(len < 512);
    memcpy(line, at, len);
    line[len] = '\0';
    return line;
}

static void test_print(void **state)
{
    (void)state;
    char line[512];
    setenv("LANES", "8", 1);
    setenv("MAIL_TRANSPORT", "smtp", 1);
    setenv("TOKEN_SECRET", "do-not-show-this-secret==", 1);
    setenv("SMTP_PASSWORD", "hunter2", 1);
    assert_true(config_load(&config, why, sizeof why));
    char *text = printed();
    assert_string_equal(
        line_of(text, "LANES", line),
        "* LANES                        integer, 1 to 64                 default 1                          "
        "      now 8");
    assert_string_equal(
        line_of(text, "LANE_BATCH", line),
        "  LANE_BATCH                   integer, 1 to 5000               default 400                        "
        "      now 400");
    assert_string_equal(
        line_of(text, "MAIL_TRANSPORT", line),
        "* MAIL_TRANSPORT               smtp|maildir|discard             default maildir                    "
        "      now smtp");
    assert_string_equal(
        line_of(text, "TOKEN_SECRET", line),
        "* TOKEN_SECRET                 secret text, 16 to 4096 bytes    default (unset)                    "
        "      now (set)");
    assert_non_null(strstr(line_of(text, "EMAIL_WORKER_POOL_SIZE", line), "now (unset)"));
    assert_non_null(strstr(text, "\n    write connections to Postgres\n"));
    assert_non_null(strstr(text, "\n    where mails go; discard writes the row alone, for load tests\n"));
    assert_null(strstr(text, "do-not-show"));
    assert_null(strstr(text, "hunter2"));
    assert_null(strstr(text, "REFUSED"));
#define IS_THERE(field, env, type, min, max, def, help) line_of(text, env, line);
    CONFIG_TABLE(IS_THERE)
#undef IS_THERE
    free(text);
}

static void test_print_names_refused_ones(void **state)
{
    (void)state;
    assert_false(load_with("LANES", "abc"));
    char *text = printed();
    assert_non_null(strstr(text, "\n    REFUSED: LANES must be an integer from 1 to 64, not \"abc\"\n"));
    free(text);
    assert_false(load_with("TOKEN_SECRET", "too-short-aaa,bb"));
    text = printed();
    assert_non_null(strstr(text, "\n    REFUSED: TOKEN_SECRET must have at least 16 bytes"));
    assert_null(strstr(text, "too-short"));
    free(text);
}

static void test_print_masks_passwords(void **state)
{
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"postgresql://user:pw@host/db", "postgresql://user:***@host/db"},
        {"postgresql://user:p@w@host:5432/db", "postgresql://user:***@host:5432/db"},
        {"postgresql://user:p/w?x@host/db", "postgresql://user:***@host/db"},
        {"postgresql://user:@host/db", "postgresql://user:***@host/db"},
        {"postgresql://user@host:5432/db", "postgresql://user@host:5432/db"},
        {"postgresql://host:5432,other:5433/db", "postgresql://host:5432,other:5433/db"},
        {"postgresql://host/db?user=u&password=pw&sslmode=require",
         "postgresql://host/db?user=u&password=***&sslmode=require"},
        {"postgresql://host/db?sslpassword=pw", "postgresql://host/db?sslpassword=***"},
        {"host=h password=pw dbname=d", "host=h password=*** dbname=d"},
        {"host=h password = 'p w\\' x' dbname=d", "host=h password=*** dbname=d"},
        {"host=h PASSWORD=p\\ w dbname=d", "host=h password=*** dbname=d"},
        {"host=h password='pw", "host=h password=***"},
        {"host=h password=", "host=h password=***"},
        {"host=h dbname=password", "host=h dbname=password"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[512];
        accepts("DATABASE_URL", cases[i].url);
        char *text = printed();
        const char *now = strstr(line_of(text, "DATABASE_URL", line), " now ");
        assert_non_null(now);
        assert_string_equal(now + 5, cases[i].shown);
        assert_null(strstr(text, "pw"));
        free(text);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, clean_environment)
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_table),
        TEST(test_integers),
        TEST(test_texts),
        TEST(test_words),
        TEST(test_token_secret),
        TEST(test_empty_is_unset_where_unset_is_the_default),
        TEST(test_pool_size),
        TEST(test_several_wrong),
        TEST(test_print),
        TEST(test_print_names_refused_ones),
        TEST(test_print_masks_passwords),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
