/* Hashes: murmur2 must be Kafka's for ever, since shards and partitions hang on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

/* From Apache Kafka's UtilsTest.testMurmur2. */
static void test_murmur2_is_kafkas(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t hash;
    } known[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_int_equal((int32_t)murmur2(known[i].text, strlen(known[i].text)), known[i].hash);
}

/* Bytes are unsigned and may lie anywhere; nothing past the length is read. */
static void test_murmur2_any_bytes(void **state)
{
    (void)state;
    char *high = malloc(7);
    assert_non_null(high);
    memset(high, 0xff, 7);
    for (size_t len = 0; len <= 7; len++) {
        char *exact = malloc(len + 1);
        assert_non_null(exact);
        memset(exact, 0xff, len);
        assert_int_equal(murmur2(exact, len), murmur2(high + 7 - len, len));
        free(exact);
    }
    free(high);
}

static void test_aggregate_hash(void **state)
{
    (void)state;
    const char id[] = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_int_equal(aggregate_hash(id, 36), murmur2(id, 36) & 0x7fffffff);
    assert_int_equal(aggregate_hash("21", 2), (uint32_t)-973932308 & 0x7fffffff);
    assert_true(aggregate_hash("21", 2) <= INT32_MAX);
}

/* The low bits, by which tables choose a slot, spread short keys evenly. */
static void test_hash64_spreads(void **state)
{
    (void)state;
    enum { SLOTS = 256, KEYS = SLOTS * 200 };
    int counts[SLOTS] = {0};
    for (uint32_t key = 0; key < KEYS; key++)
        counts[hash64(&key, sizeof key) % SLOTS]++;
    for (int i = 0; i < SLOTS; i++)
        assert_in_range(counts[i], 120, 280);
    assert_true(hash64("a", 1) != hash64("b", 1));
    assert_true(hash64("", 0) != hash64("\0", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_murmur2_is_kafkas),
        cmocka_unit_test(test_murmur2_any_bytes),
        cmocka_unit_test(test_aggregate_hash),
        cmocka_unit_test(test_hash64_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
