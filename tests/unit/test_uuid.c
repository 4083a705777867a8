/* UUIDs: text both ways, the parts of a version 7, places, uniqueness across threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/uuid.h"
#include "garbage.h"

static void test_text(void **state)
{
    (void)state;
    struct uuid id;
    char text[UUID_TEXT_SIZE];
    assert_true(uuid_parse("01890A5D-ac96-774b-bcce-b302099a8057", 36, &id));
    assert_memory_equal(id.b, "\x01\x89\x0a\x5d\xac\x96\x77\x4b\xbc\xce\xb3\x02\x09\x9a\x80\x57", 16);
    uuid_format(id, text);
    assert_string_equal(text, "01890a5d-ac96-774b-bcce-b302099a8057");
    for (int i = 0; i < 10000; i++) {
        struct uuid made, back;
        random_bytes(made.b, sizeof made.b);
        uuid_format(made, text);
        assert_true(uuid_parse(text, 36, &back));
        assert_true(uuid_equal(made, back));
    }
}

static void test_parse_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "0",
        "01890a5d-ac96-774b-bcce-b302099a805",
        "01890a5d-ac96-774b-bcce-b302099a80577",
        "01890a5dac96774bbcceb302099a8057",
        "{01890a5d-ac96-774b-bcce-b302099a8057}",
        "01890a5d-ac96-774b-bcce_b302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a805g",
        "-1890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5-dac96-774b-bcce-b302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a80 7",
        "0x890a5d-ac96-774b-bcce-b302099a8057",
    };
    struct uuid id = {{7}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(uuid_parse(bad[i], strlen(bad[i]), &id));
    assert_int_equal(id.b[0], 7); /* untouched by a refusal */
}

static void check_parse(const char *text, size_t len)
{
    struct uuid id;
    char back[UUID_TEXT_SIZE];
    if (!uuid_parse(text, len, &id))
        return;
    assert_int_equal(len, 36);
    uuid_format(id, back);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(text[i] | 0x20, back[i] | 0x20);
}

static void test_parse_garbage(void **state)
{
    (void)state;
    garbage_try("01890a5d-ac96-774b-bcce-b302099a8057", 50000, check_parse);
}

static void test_v7(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t before = (uint64_t)(clock_wall_us() / 1000), ms = 0;
        struct uuid id = uuid_v7();
        uint64_t after = (uint64_t)(clock_wall_us() / 1000);
        for (int k = 0; k < 6; k++)
            ms = ms << 8 | id.b[k];
        assert_in_range(ms, before, after);
        assert_int_equal(id.b[6] >> 4, 7);
        assert_int_equal(id.b[8] >> 6, 2);
    }
}

/* Every bit that is to be random is seen both ways. */
static void test_v7_random_bits(void **state)
{
    (void)state;
    struct uuid ones = {{0}}, zeros = {{0}};
    for (int i = 0; i < 1000; i++) {
        struct uuid id = uuid_v7();
        for (int k = 6; k < 16; k++) {
            ones.b[k] |= id.b[k];
            zeros.b[k] |= (uint8_t)~id.b[k];
        }
    }
    assert_memory_equal(ones.b + 6, "\x7f\xff\xbf\xff\xff\xff\xff\xff\xff\xff", 10);
    assert_memory_equal(zeros.b + 6, "\x8f\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 10);
}

static void test_place(void **state)
{
    (void)state;
    const uint32_t places[] = {0, 1, 255, 256, 0x01020304, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct uuid id = uuid_v7(), with = uuid_with_place(id, places[i]);
        assert_int_equal(uuid_place(with), places[i]);
        assert_memory_equal(with.b, id.b, 12);
    }
    struct uuid known = uuid_with_place((struct uuid){{0}}, 0x01020304);
    assert_memory_equal(known.b + 12, "\x01\x02\x03\x04", 4);
}

enum { THREADS = 4, IDS = 20000 };

static void *make_ids(void *arg)
{
    struct uuid *ids = arg;
    for (int i = 0; i < IDS; i++)
        ids[i] = uuid_v7();
    return NULL;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct uuid));
}

static void test_unique_across_threads(void **state)
{
    (void)state;
    static struct uuid ids[THREADS * IDS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_ids, ids + i * IDS), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    qsort(ids, THREADS * IDS, sizeof ids[0], compare);
    for (int i = 1; i < THREADS * IDS; i++)
        assert_false(uuid_equal(ids[i - 1], ids[i]));
}

static void test_random_bytes(void **state)
{
    (void)state;
    uint8_t a[1000] = {0}, b[1000] = {0};
    random_bytes(a, 999);
    random_bytes(b, 999);
    assert_memory_not_equal(a, b, 999);
    assert_int_equal(a[999], 0);
    random_bytes(a, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_parse_garbage),
        cmocka_unit_test(test_v7),
        cmocka_unit_test(test_v7_random_bits),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_unique_across_threads),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
