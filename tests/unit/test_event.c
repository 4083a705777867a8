/* Events: the value bytes are pinned per type, and what does not keep the contract is refused with a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "domain/event.h"
#include "garbage.h"

#define CAMPAIGN "01890a5d-ac96-774b-bcce-b302099a8057"
#define ACCOUNT "01890a5d-0000-7000-8000-00000000acc0"
#define ID "01890a5d-1111-7111-8111-111111111110"
#define USER "01890a5d-2222-7222-8222-000000000005"
#define REFERRER "01890a5d-3333-7333-8333-000000000001"
#define REFERRAL "01890a5d-4444-7444-8444-000000000005"
#define REWARD "01890a5d-5555-7555-8555-555555555555"
#define USER_REWARD "01890a5d-6666-7666-8666-666666666666"

static struct uuid uuid(const char *text)
{
    struct uuid id;
    assert_true(uuid_parse(text, strlen(text), &id));
    return id;
}

/* The bytes that readers of the topic have seen: a change needs a new EVENT_FORMAT, and these stay. */
static const struct golden {
    enum event_type type;
    const char *data, *value;
} goldens[] = {
#define VALUE(type, data)                                                                                              \
    "{\"id\":\"" ID "\",\"type\":\"" type "\",\"account_id\":\"" ACCOUNT "\",\"campaign_id\":\"" CAMPAIGN              \
    "\",\"data\":" data ",\"timestamp\":\"2025-01-01T12:00:00.000120Z\",\"version\":42}"
#define GOLDEN(type, name, data)                                                                                       \
    {                                                                                                                  \
        type, data, VALUE(name, data)                                                                                  \
    }
    GOLDEN(EVENT_USER_SIGNED_UP, "user.signed_up",
           "{\"user_id\":\"" USER "\",\"campaign_id\":\"" CAMPAIGN "\",\"email\":\"Zoë \\\"x\\\"@example.com\"}"),
    GOLDEN(EVENT_USER_VERIFIED, "user.verified",
           "{\"user_id\":\"" USER "\",\"campaign_id\":\"" CAMPAIGN "\",\"email\":\"user@example.com\"}"),
    GOLDEN(EVENT_REFERRAL_CREATED, "referral.created",
           "{\"referral_id\":\"" REFERRAL "\",\"referrer_id\":\"" REFERRER "\",\"referred_id\":\"" USER
           "\",\"campaign_id\":\"" CAMPAIGN "\"}"),
    GOLDEN(EVENT_REFERRAL_VERIFIED, "referral.verified",
           "{\"referral_id\":\"" REFERRAL "\",\"referrer_id\":\"" REFERRER "\",\"referred_id\":\"" USER
           "\",\"campaign_id\":\"" CAMPAIGN "\",\"points_per_referral\":1}"),
    GOLDEN(EVENT_REWARD_EARNED, "reward.earned",
           "{\"user_reward_id\":\"" USER_REWARD "\",\"user_id\":\"" USER "\",\"campaign_id\":\"" CAMPAIGN
           "\",\"reward_id\":\"" REWARD "\"}"),
    GOLDEN(EVENT_MILESTONE_REACHED, "campaign.milestone_reached",
           "{\"campaign_id\":\"" CAMPAIGN "\",\"milestone\":\"1000_participants\",\"participant_count\":1000}"),
    GOLDEN(EVENT_CAMPAIGN_CREATED, "campaign.created",
           "{\"campaign_id\":\"" CAMPAIGN "\",\"name\":\"Launch\",\"points_per_referral\":1}"),
    GOLDEN(EVENT_CAMPAIGN_UPDATED, "campaign.updated",
           "{\"campaign_id\":\"" CAMPAIGN "\",\"name\":\"Launch\",\"points_per_referral\":2}"),
    GOLDEN(EVENT_CAMPAIGN_CLOSED, "campaign.closed", "{\"campaign_id\":\"" CAMPAIGN "\"}"),
    GOLDEN(EVENT_CAMPAIGN_DELETED, "campaign.deleted", "{\"campaign_id\":\"" CAMPAIGN "\"}"),
    GOLDEN(EVENT_VERIFICATION_REQUESTED, "user.verification_requested",
           "{\"user_id\":\"" USER "\",\"campaign_id\":\"" CAMPAIGN "\",\"email\":\"user@example.com\"}"),
    GOLDEN(EVENT_REWARD_CREATED, "reward.created",
           "{\"reward_id\":\"" REWARD "\",\"campaign_id\":\"" CAMPAIGN "\",\"name\":\"Stickers\"}"),
    GOLDEN(EVENT_REWARD_RELEASED, "reward.released",
           "{\"user_reward_id\":\"" USER_REWARD "\",\"user_id\":\"" USER "\",\"campaign_id\":\"" CAMPAIGN
           "\",\"reward_id\":\"" REWARD "\",\"reason\":\"the target answers 410\"}"),
    GOLDEN(EVENT_REWARD_EXHAUSTED, "reward.exhausted",
           "{\"reward_id\":\"" REWARD "\",\"campaign_id\":\"" CAMPAIGN "\",\"stock\":100}"),
    GOLDEN(EVENT_REWARD_DELIVERED, "reward.delivered",
           "{\"user_reward_id\":\"" USER_REWARD "\",\"user_id\":\"" USER "\",\"campaign_id\":\"" CAMPAIGN
           "\",\"reward_id\":\"" REWARD "\"}"),
    GOLDEN(EVENT_API_KEY_REVOKED, "api_key.revoked", "{\"key_id\":\"" REWARD "\"}"),
};
#define GOLDENS (sizeof goldens / sizeof goldens[0])

static struct event_row row_of(enum event_type type, const char *data)
{
    return (struct event_row){
        .shard = 3,
        .seq = 1000,
        .version = 42,
        .type = type,
        .format = EVENT_FORMAT,
        .at_us = 1735732800000120,
        .id = uuid(ID),
        .account_id = uuid(ACCOUNT),
        .campaign_id = uuid(CAMPAIGN),
        .data = data,
        .data_len = strlen(data),
    };
}

static void test_golden_values(void **state)
{
    (void)state;
    size_t types = 0;
    for (int t = EVENT_NONE + 1; t < EVENT_TYPE_MAX; t++)
        types += event_type_name((enum event_type)t) != NULL; /* numbers may have gaps */
    assert_int_equal(GOLDENS, types);                         /* a new type brings its golden value */
    for (size_t i = 0; i < GOLDENS; i++) {
        struct buf out = {0};
        struct event_row row = row_of(goldens[i].type, goldens[i].data);
        buf_adds(&out, "before");
        event_value(&row, &out);
        assert_string_equal(buf_cstr(&out) + 6, goldens[i].value);
        assert_memory_equal(out.data, "before", 6);
        buf_free(&out);
    }
    /* Written out once in full, so that the macros above prove nothing by themselves. */
    assert_string_equal(
        goldens[1].value,
        "{\"id\":\"01890a5d-1111-7111-8111-111111111110\",\"type\":\"user.verified\",\"account_id\":"
        "\"01890a5d-0000-7000-8000-00000000acc0\",\"campaign_id\":\"01890a5d-ac96-774b-bcce-b302099a8057\","
        "\"data\":{\"user_id\":\"01890a5d-2222-7222-8222-000000000005\",\"campaign_id\":"
        "\"01890a5d-ac96-774b-bcce-b302099a8057\",\"email\":\"user@example.com\"},"
        "\"timestamp\":\"2025-01-01T12:00:00.000120Z\",\"version\":42}");
}

/* The data's bytes go out as they are stored, exactly data_len of them. */
static void test_data_is_not_touched(void **state)
{
    (void)state;
    struct buf out = {0};
    struct event_row row = row_of(EVENT_USER_VERIFIED, "{ \"b\" : 1.0 , \"a\":\"\\u0041\" }XXXX");
    row.data_len -= 4;
    row.version = INT64_MAX;
    event_value(&row, &out);
    assert_non_null(strstr(buf_cstr(&out), "\"data\":{ \"b\" : 1.0 , \"a\":\"\\u0041\" },\"timestamp\":"));
    assert_non_null(strstr(out.data, ",\"version\":9223372036854775807}"));
    buf_free(&out);
}

static void test_event_of_the_account(void **state)
{
    (void)state;
    struct buf out = {0};
    char key[UUID_TEXT_SIZE];
    struct event_row row = row_of(EVENT_USER_VERIFIED, "{}");
    assert_int_equal(event_key(&row, key), 36);
    assert_string_equal(key, CAMPAIGN);
    row.campaign_id = (struct uuid){{0}};
    assert_int_equal(event_key(&row, key), 36);
    assert_string_equal(key, ACCOUNT);
    event_value(&row, &out);
    assert_non_null(strstr(buf_cstr(&out), "\"account_id\":\"" ACCOUNT "\",\"campaign_id\":null,\"data\":{}"));
    buf_free(&out);
}

static void test_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < GOLDENS; i++) {
        const char *name = event_type_name(goldens[i].type);
        assert_non_null(name);
        assert_int_equal(event_type_parse(name, strlen(name)), goldens[i].type);
        assert_int_equal(event_type_parse(name, strlen(name) - 1), EVENT_NONE);
    }
    assert_int_equal(EVENT_USER_SIGNED_UP, 1); /* numbers stand in the database */
    assert_int_equal(EVENT_CAMPAIGN_CREATED, 7);
    assert_null(event_type_name(EVENT_NONE));
    assert_null(event_type_name(EVENT_TYPE_MAX));
    assert_null(event_type_name((enum event_type)1000));
    assert_int_equal(event_type_parse("", 0), EVENT_NONE);
    assert_int_equal(event_type_parse("User.verified", 13), EVENT_NONE);
    assert_int_equal(event_type_parse("user.verified\0", 14), EVENT_NONE);
    assert_string_equal(event_email_key(EVENT_USER_SIGNED_UP), "user_id");
    assert_string_equal(event_email_key(EVENT_REFERRAL_VERIFIED), "referrer_id");
    assert_string_equal(event_email_key(EVENT_MILESTONE_REACHED), "account");
    assert_null(event_email_key(EVENT_REFERRAL_CREATED));
    assert_null(event_email_key(EVENT_NONE));
}

static void test_parse(void **state)
{
    (void)state;
    char why[200] = "";
    for (size_t i = 0; i < GOLDENS; i++) {
        struct event e;
        if (!event_parse(goldens[i].value, strlen(goldens[i].value), &e, why, sizeof why))
            fail_msg("%s: %s", goldens[i].value, why);
        assert_int_equal(e.type, goldens[i].type);
        assert_true(uuid_equal(e.id, uuid(ID)) && uuid_equal(e.account_id, uuid(ACCOUNT)));
        assert_true(uuid_equal(e.campaign_id, uuid(CAMPAIGN)));
        assert_true(e.version == 42 && e.at_us == 1735732800000120);
        if (e.type != EVENT_API_KEY_REVOKED) /* the account's own */
            assert_true(uuid_equal(event_data_uuid(&e, "campaign_id"), uuid(CAMPAIGN)));
        if (e.type == EVENT_REFERRAL_VERIFIED) {
            assert_true(uuid_equal(event_data_uuid(&e, "referrer_id"), uuid(REFERRER)));
            assert_int_equal(event_data_int(&e, "points_per_referral"), 1);
        }
        if (e.type == EVENT_USER_SIGNED_UP)
            assert_string_equal(event_data_text(&e, "email"), "Zoë \"x\"@example.com");
        event_clear(&e);
        assert_null(e.data);
        event_clear(&e);
    }
}

/* The golden value of a type with one member replaced (NULL: removed), dumped anew. in_data: a member of data. */
static bool parse_with(const struct golden *g, bool in_data, const char *member, json_t *value, char why[200])
{
    struct event e;
    json_t *json = json_loads(g->value, 0, NULL), *object = in_data ? json_object_get(json, "data") : json;
    assert_non_null(json);
    if (value)
        json_object_set_new(object, member, value);
    else
        assert_int_equal(json_object_del(object, member), 0);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    why[0] = '\0';
    bool ok = event_parse(text, strlen(text), &e, why, 200);
    assert_true(ok || !e.data);
    event_clear(&e);
    free(text);
    return ok;
}

static void assert_refused(const struct golden *g, bool in_data, const char *member, json_t *value,
                           const char *sentence)
{
    char why[200], expected[200];
    snprintf(expected, sizeof expected, "%s%s %s", in_data ? "data." : "", member, sentence);
    assert_false(parse_with(g, in_data, member, value, why));
    assert_string_equal(why, expected);
}

static void test_envelope_is_checked(void **state)
{
    (void)state;
    char why[200];
    const struct golden *g = &goldens[1];
    static const char *const uuids[] = {"id", "account_id", "campaign_id"};
    for (size_t i = 0; i < 3; i++) {
        assert_refused(g, false, uuids[i], NULL, "is missing");
        assert_refused(g, false, uuids[i], json_string("x"), "must be a UUID");
        assert_refused(g, false, uuids[i], json_string(""), "must be a UUID");
        assert_refused(g, false, uuids[i], json_integer(5), "must be a UUID");
    }
    assert_refused(g, false, "id", json_null(), "must be a UUID");
    assert_refused(g, false, "type", NULL, "is missing");
    assert_refused(g, false, "type", json_integer(1), "must be a string");
    assert_refused(g, false, "data", NULL, "is missing");
    assert_refused(g, false, "data", json_null(), "must be a JSON object");
    assert_refused(g, false, "data", json_array(), "must be a JSON object");
    assert_refused(g, false, "data", json_string("{}"), "must be a JSON object");
    assert_refused(g, false, "timestamp", NULL, "is missing");
    assert_refused(g, false, "timestamp", json_integer(1735732800), "must be an RFC 3339 time");
    assert_refused(g, false, "timestamp", json_string("2025-01-01"), "must be an RFC 3339 time");
    assert_refused(g, false, "version", NULL, "is missing");
    assert_refused(g, false, "version", json_integer(0), "must be an integer of at least 1");
    assert_refused(g, false, "version", json_integer(-1), "must be an integer of at least 1");
    assert_refused(g, false, "version", json_real(1.0), "must be an integer of at least 1");
    assert_refused(g, false, "version", json_string("1"), "must be an integer of at least 1");
    assert_refused(g, false, "version", json_true(), "must be an integer of at least 1");
    assert_true(parse_with(g, false, "version", json_integer(1), why));
    assert_true(parse_with(g, false, "timestamp", json_string("2025-01-01T12:00:00Z"), why)); /* without a fraction */
    assert_true(parse_with(g, false, "traceparent", json_string("00-1-2-3"), why)); /* extra members are fine */
    assert_true(parse_with(g, true, "locale", json_string("de"), why));
}

/* Each member of each type's data, by the table: missing, of another type, out of form. */
static void test_data_is_checked(void **state)
{
    static const char *const members[EVENT_TYPE_MAX][2] = {
#define MEMBERS(id, number, name, email_key, uuids, others) [id] = {uuids, others},
        EVENT_TABLE(MEMBERS)
#undef MEMBERS
    };
    int checked = 0;
    (void)state;
    for (size_t i = 0; i < GOLDENS; i++)
        for (int kind = 0; kind < 2; kind++) {
            char list[200], *rest;
            snprintf(list, sizeof list, "%s", members[goldens[i].type][kind]);
            for (char *name = strtok_r(list, " ", &rest); name; name = strtok_r(NULL, " ", &rest), checked++) {
                char *colon = strchr(name, ':');
                bool integer = colon && colon[1] == 'i';
                const char *sentence = kind == 0 ? "must be a UUID"
                                       : integer ? "must be an integer"
                                                 : "must be a string";
                if (colon)
                    *colon = '\0';
                assert_refused(&goldens[i], true, name, NULL, "is missing");
                assert_refused(&goldens[i], true, name, json_null(), sentence);
                assert_refused(&goldens[i], true, name, json_object(), sentence);
                assert_refused(&goldens[i], true, name, json_real(1.5), sentence);
                if (kind == 0 || integer)
                    assert_refused(&goldens[i], true, name, json_string("not-a-uuid-or-number"), sentence);
                if (!integer)
                    assert_refused(&goldens[i], true, name, json_integer(7), sentence);
            }
        }
    assert_int_equal(checked, 49);
    assert_refused(&goldens[0], true, "campaign_id", json_string(USER), "must be the envelope's campaign_id");
}

static void test_unknown_type_is_no_error(void **state)
{
    (void)state;
    static const char *const values[] = {"{\"type\":\"user.renamed\"}", "{\"type\":\"\",\"data\":5}",
                                         "{\"type\":\"user.signed_up2\",\"version\":0}"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct event e;
        char why[200] = "";
        memset(&e, 0xff, sizeof e);
        assert_true(event_parse(values[i], strlen(values[i]), &e, why, sizeof why));
        assert_int_equal(e.type, EVENT_NONE);
        assert_null(e.data);
        event_clear(&e);
    }
}

static void test_no_event_at_all(void **state)
{
    (void)state;
    static const struct {
        const char *value, *why;
    } cases[] = {
        {"", "the JSON text is empty"},
        {"[]", "the value must be a JSON object"},
        {"{}", "type is missing"},
        {"{\"type\":null}", "type must be a string"},
        {"{\"type\":\"a\",\"type\":\"a\"}",
         "the JSON text is malformed at byte 18 (line 1, column 18): duplicate object key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct event e;
        char why[200];
        assert_false(event_parse(cases[i].value, strlen(cases[i].value), &e, why, sizeof why));
        assert_string_equal(why, cases[i].why);
        event_clear(&e);
    }
}

/* null for the campaign is an event of the account; no type of today is one. */
static void test_null_campaign(void **state)
{
    (void)state;
    assert_refused(&goldens[1], true, "campaign_id", json_string(USER), "must be the envelope's campaign_id");
    char why[200];
    assert_false(parse_with(&goldens[1], false, "campaign_id", json_null(), why));
    assert_string_equal(why, "data.campaign_id must be the envelope's campaign_id");
}

static void check_parse(const char *text, size_t len)
{
    struct event e;
    char why[30]; /* cut, not overrun */
    why[0] = '\0';
    if (!event_parse(text, len, &e, why, sizeof why)) {
        assert_true(strlen(why) > 0);
        assert_null(e.data);
    } else if (e.type != EVENT_NONE) { /* a handler must be able to use it */
        event_data_uuid(&e, e.type == EVENT_API_KEY_REVOKED ? "key_id" : "campaign_id");
        if (e.type == EVENT_REFERRAL_VERIFIED) {
            event_data_uuid(&e, "referrer_id");
            event_data_int(&e, "points_per_referral");
        }
    }
    event_clear(&e);
}

static void test_garbage(void **state)
{
    (void)state;
    for (size_t i = 0; i < GOLDENS; i++)
        garbage_try(goldens[i].value, 8000, check_parse);
}

static const char text_members[][20] = {"user_id", "email", "referrer_id"};

/* What text event_data_text would give; the contract says which are there. */
static const char *text_or_null(const struct event *e, const char *member)
{
    bool has = strcmp(member, "email") == 0 || strcmp(member, "user_id") == 0 ? e->type == EVENT_USER_SIGNED_UP
                                                                              : e->type == EVENT_REFERRAL_VERIFIED;
    return has ? event_data_text(e, member) : "";
}

/* The scanner of values that we made takes nothing that the strict reader refuses, and finds the same in it: a blank in
 * front sends a value to the reader. */
static void check_both_ways(const char *text, size_t len)
{
    struct event fast, strict;
    char why[200], strict_why[200], *blank = malloc(len + 1);
    assert_non_null(blank);
    blank[0] = ' ';
    memcpy(blank + 1, text, len);
    bool ok = event_parse(text, len, &fast, why, sizeof why);
    assert_true(ok == event_parse(blank, len + 1, &strict, strict_why, sizeof strict_why));
    if (ok) {
        assert_true(fast.type == strict.type && fast.version == strict.version && fast.at_us == strict.at_us);
        assert_true(uuid_equal(fast.id, strict.id) && uuid_equal(fast.account_id, strict.account_id));
        assert_true(uuid_equal(fast.campaign_id, strict.campaign_id) && !fast.data == !strict.data);
        for (size_t i = 0; i < sizeof text_members / sizeof text_members[0]; i++)
            assert_string_equal(text_or_null(&fast, text_members[i]), text_or_null(&strict, text_members[i]));
        if (fast.type == EVENT_REFERRAL_VERIFIED)
            assert_int_equal(event_data_int(&fast, "points_per_referral"),
                             event_data_int(&strict, "points_per_referral"));
    }
    event_clear(&fast);
    event_clear(&strict);
    free(blank);
}

static void test_scanner_and_reader_agree(void **state)
{
    static const char *const data[] = {
        "{}",
        "{,}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":-1}",
        "{\"a\":1.5}",
        "{\"a\":1e3}",
        "{\"a\":999999999999999999}",
        "{\"a\":9999999999999999999}",
        "{\"a\":123456789012345678901234567890}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\\\"\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\x7f\"}",
        "{\"a\":{\"user_id\":\"x\"}}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1 }",
        "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9}",
    };
    (void)state;
    for (size_t i = 0; i < GOLDENS; i++)
        garbage_try(goldens[i].value, 8000, check_both_ways);
    /* The golden value's data with these members in front of its own, and alone. */
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++)
        for (size_t g = 0; g < GOLDENS; g++)
            for (int alone = 0; alone < 2; alone++) {
                char text[2000];
                const char *at = strstr(goldens[g].value, ",\"data\":{") + strlen(",\"data\":{");
                const char *rest = alone ? strstr(at, ",\"timestamp\"") : at;
                snprintf(text, sizeof text, "%.*s%.*s%s%s", (int)(at - 1 - goldens[g].value), goldens[g].value,
                         (int)strlen(data[i]) - !alone, data[i], alone || strlen(data[i]) == 2 ? "" : ",", rest);
                check_both_ways(text, strlen(text));
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_values),
        cmocka_unit_test(test_data_is_not_touched),
        cmocka_unit_test(test_event_of_the_account),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_envelope_is_checked),
        cmocka_unit_test(test_data_is_checked),
        cmocka_unit_test(test_unknown_type_is_no_error),
        cmocka_unit_test(test_no_event_at_all),
        cmocka_unit_test(test_null_campaign),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_scanner_and_reader_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
