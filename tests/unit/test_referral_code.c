/* Referral codes: a permutation per campaign, readable for ever, lenient in spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <ctype.h>
#include <string.h>

#include "core/uuid.h"
#include "domain/referral_code.h"
#include "garbage.h"

static const uint8_t key[16] = "0123456789abcdef";
static const struct uuid campaign = {
    {0x01, 0x89, 0x0a, 0x5d, 0xac, 0x96, 0x77, 0x4b, 0xbc, 0xce, 0xb3, 0x02, 0x09, 0x9a, 0x80, 0x57}};

static void assert_round_trip(struct uuid of, uint32_t place, char code[REFERRAL_CODE_SIZE])
{
    uint32_t read = 0;
    referral_code_make(key, of, place, code);
    assert_int_equal(strlen(code), REFERRAL_CODE_SIZE - 1);
    if (!referral_code_read(key, of, code, REFERRAL_CODE_SIZE - 1, &read) || read != place)
        fail_msg("place %u, code %s, read %u", place, code, read);
}

/* These codes stand in mails and on posters: if this test fails the code is wrong, not the test. */
static void test_pinned(void **state)
{
    (void)state;
    static const struct {
        uint32_t place;
        const char *code;
    } known[] = {{1, "WTAGJ1MF"}, {2, "KJBB3SHP"}, {1000, "NT5HP0HB"}, {1048576, "AEXKG952"}, {2147483647, "P0HKM07D"}};
    char code[REFERRAL_CODE_SIZE];
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        referral_code_make(key, campaign, known[i].place, code);
        assert_string_equal(code, known[i].code);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    char code[REFERRAL_CODE_SIZE];
    for (int c = 0; c < 20; c++) {
        struct uuid of = uuid_v7();
        for (uint32_t place = 1; place <= 5000; place++)
            assert_round_trip(of, place, code);
        for (int i = 0; i < 2000; i++)
            assert_round_trip(of, (uint32_t)(random_u64() % 0x7fffffff) + 1, code);
        for (int bit = 0; bit < 31; bit++)
            assert_round_trip(of, 1u << bit, code);
        assert_round_trip(of, 0x7fffffff, code);
    }
}

/* Reading finds the place again, so no two places share a code; nor do neighbours look alike. */
static void test_looks_random(void **state)
{
    (void)state;
    char code[REFERRAL_CODE_SIZE], before[REFERRAL_CODE_SIZE] = "";
    int seen[8][256] = {{0}}, same = 0;
    enum { PLACES = 32000 };
    for (uint32_t place = 1; place <= PLACES; place++) {
        assert_round_trip(campaign, place, code);
        for (int i = 0; i < 8; i++) {
            seen[i][(unsigned char)code[i]]++;
            same += code[i] == before[i];
        }
        memcpy(before, code, sizeof code);
    }
    assert_in_range(same, PLACES / 5, PLACES / 3); /* 8 characters, each the same as before by chance of 1/32 */
    for (int i = 0; i < 8; i++)
        for (const char *c = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; *c; c++)
            assert_in_range(seen[i][(unsigned char)*c], PLACES / 32 * 3 / 4, PLACES / 32 * 5 / 4);
}

static void test_differs_by_campaign_and_key(void **state)
{
    (void)state;
    const uint8_t other_key[16] = "0123456789abcdeg";
    struct uuid other = campaign;
    other.b[15] ^= 1;
    char code[REFERRAL_CODE_SIZE], by_campaign[REFERRAL_CODE_SIZE], by_key[REFERRAL_CODE_SIZE];
    int same = 0;
    for (uint32_t place = 1; place <= 1000; place++) {
        referral_code_make(key, campaign, place, code);
        referral_code_make(key, other, place, by_campaign);
        referral_code_make(other_key, campaign, place, by_key);
        same += strcmp(code, by_campaign) == 0 || strcmp(code, by_key) == 0;
    }
    assert_int_equal(same, 0);
}

/* A code of another campaign, or a made-up one, is nearly always refused: 2^31 of 2^40 are places. */
static void test_strangers_are_refused(void **state)
{
    (void)state;
    struct uuid other = uuid_v7();
    char code[REFERRAL_CODE_SIZE];
    int read = 0;
    for (uint32_t place = 1; place <= 100000; place++) {
        uint32_t found;
        referral_code_make(key, other, place, code);
        read += referral_code_read(key, campaign, code, 8, &found);
    }
    assert_in_range(read, 100, 320); /* 195 by chance */
}

static void test_lenient_spelling(void **state)
{
    (void)state;
    uint32_t place = 0, read;
    char code[REFERRAL_CODE_SIZE], spelled[REFERRAL_CODE_SIZE];
    int with_zero = 0, with_one = 0;
    while (++place < 5000) {
        referral_code_make(key, campaign, place, code);
        for (int variant = 0; variant < 3; variant++) {
            for (int i = 0; i < REFERRAL_CODE_SIZE; i++) {
                spelled[i] = code[i] == '0' ? 'O' : code[i] == '1' ? "IlL"[variant] : code[i];
                if (variant > 0)
                    spelled[i] = (char)tolower(spelled[i]);
            }
            assert_true(referral_code_read(key, campaign, spelled, 8, &read));
            assert_int_equal(read, place);
        }
        with_zero += strchr(code, '0') != NULL;
        with_one += strchr(code, '1') != NULL;
    }
    assert_true(with_zero > 100 && with_one > 100);
}

static void test_refuses(void **state)
{
    (void)state;
    uint32_t place = 77;
    char code[REFERRAL_CODE_SIZE], changed[12];
    referral_code_make(key, campaign, 5, code);
    assert_false(referral_code_read(key, campaign, code, 7, &place));
    assert_false(referral_code_read(key, campaign, code, 9, &place)); /* with its NUL */
    changed[0] = '0';
    memcpy(changed + 1, code, sizeof code);
    assert_false(referral_code_read(key, campaign, changed, 9, &place));
    assert_false(referral_code_read(key, campaign, "", 0, &place));
    for (const char *bad = "Uu-_ .!@[`{\x80\xff"; *bad; bad++)
        for (int i = 0; i < 8; i++) {
            memcpy(changed, code, sizeof code);
            changed[i] = *bad;
            assert_false(referral_code_read(key, campaign, changed, 8, &place));
        }
    assert_int_equal(place, 77);
}

/* The permutation's values for place 0 and for what lies past the last place are no codes. */
static void test_edges_of_places(void **state)
{
    (void)state;
    const uint32_t outside[] = {0, 0x80000000, 0xffffffff};
    uint32_t place;
    char code[REFERRAL_CODE_SIZE];
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        referral_code_make(key, campaign, outside[i], code);
        assert_false(referral_code_read(key, campaign, code, 8, &place));
    }
}

static void check_read(const char *text, size_t len)
{
    uint32_t place;
    char code[REFERRAL_CODE_SIZE];
    if (!referral_code_read(key, campaign, text, len, &place))
        return;
    assert_in_range(place, 1, 0x7fffffff);
    referral_code_make(key, campaign, place, code);
    assert_int_equal(len, 8);
    for (size_t i = 0; i < len; i++) {
        char c = (char)toupper((unsigned char)text[i]);
        assert_int_equal(c == 'O' ? '0' : c == 'I' || c == 'L' ? '1' : c, code[i]);
    }
}

static void test_garbage(void **state)
{
    (void)state;
    char code[REFERRAL_CODE_SIZE];
    referral_code_make(key, campaign, 12345, code);
    garbage_try(code, 200000, check_read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_looks_random),
        cmocka_unit_test(test_differs_by_campaign_and_key),
        cmocka_unit_test(test_strangers_are_refused),
        cmocka_unit_test(test_lenient_spelling),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_edges_of_places),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
