/* A group's output: of each key the newest goes out, with a transaction or after one that failed; what comes from partitions
 * that were given up does not. The transactions are this file's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "consumers/publisher.h"
#include "consumers/transaction.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/config.h"

#define WAITING_MAX ((size_t)8 << 20)

/* --- transactions that do what they are told to --------------------------------------------------------------------- */

static struct {
    atomic_bool fails, held;
    atomic_int begun;
    char last[4096]; /* "key=value " of the last one, sorted; a tombstone: "key ". At most 64 of them */
    /* What was committed since the start. */
    int good; /* so many more are committed although it fails */
    size_t records, bytes_max;
    int transactions;
    int64_t next[100]; /* the first offset of each; -1: it had none */
} kafka;

struct transactor *transactor_open(const struct config *config, const char *group, const char *topic)
{
    (void)config;
    assert_string_equal(group, "group");
    assert_string_equal(topic, "topic");
    return (struct transactor *)&kafka;
}

void transactor_close(struct transactor *t)
{
    assert_ptr_equal(t, &kafka);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void note_committed(const struct transaction *x)
{
    size_t bytes = 0;
    for (const struct output *o = x->first; o; o = o->next) {
        bytes += o->key_len + o->value_len;
        kafka.records++;
    }
    kafka.bytes_max = bytes > kafka.bytes_max ? bytes : kafka.bytes_max;
    kafka.next[kafka.transactions++ % 100] = x->offset_count ? x->offsets[0].next : -1;
}

bool transactor_commit(struct transactor *t, const struct transaction *x, const _Atomic int64_t *stop_at, char *why,
                       size_t why_size)
{
    char *parts[64];
    size_t count = 0;
    (void)stop_at;
    assert_ptr_equal(t, &kafka);
    atomic_fetch_add(&kafka.begun, 1);
    while (atomic_load(&kafka.held))
        usleep(1000);
    for (const struct output *o = x->first; o && count < 64; o = o->next) {
        struct buf b = {0};
        buf_printf(&b, "%.*s%s%.*s ", (int)o->key_len, o->bytes, o->tombstone ? "" : "=", (int)o->value_len,
                   o->bytes + o->key_len);
        parts[count++] = xstrdup(buf_cstr(&b));
        buf_free(&b);
    }
    qsort(parts, count, sizeof parts[0], by_text);
    kafka.last[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        strncat(kafka.last, parts[i], sizeof kafka.last - strlen(kafka.last) - 1);
        free(parts[i]);
    }
    snprintf(why, why_size, "told to");
    if (atomic_load(&kafka.fails) && kafka.good-- <= 0)
        return false;
    note_committed(x);
    return true;
}

/* --- the group ---------------------------------------------------------------------------------------------------- */

static uv_loop_t loop;
static struct inbox inbox;
static struct publisher *p;
static int committed, failed, stopped;
static const struct source_offset offsets[] = {{.partition = 1, .next = 5}, {.partition = 2, .next = 7}},
                                  standing[] = {{.partition = 1, .next = 3}, {.partition = 2, .next = 2}};

static void on_committed(void *arg, bool ok)
{
    assert_ptr_equal(arg, &loop);
    committed += ok;
    failed += !ok;
}

static void on_inbox_closed(uv_handle_t *handle)
{
    (void)handle;
}

static void on_stopped(void *arg, bool left_behind)
{
    assert_ptr_equal(arg, &loop);
    assert_false(left_behind);
    stopped++;
    inbox_close(&inbox, on_inbox_closed);
}

static int start(void **state)
{
    static struct config config;
    (void)state;
    atomic_store(&kafka.fails, false);
    atomic_store(&kafka.held, false);
    kafka.records = kafka.bytes_max = 0;
    kafka.good = kafka.transactions = 0;
    committed = failed = stopped = 0;
    uv_loop_init(&loop);
    inbox_open(&inbox, &loop);
    p = publisher_start(&loop, &inbox, &config, "group", "topic", on_committed, &loop);
    return p ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    publisher_stop(p, false, INT64_MAX / 2, on_stopped, &loop);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(stopped, 1);
    return uv_loop_close(&loop);
}

static void add(uint64_t assignment, const char *key, const char *value)
{
    struct outputs o = {.first = NULL};
    outputs_add(&o, key, strlen(key), value, value ? strlen(value) : 0);
    publisher_add(p, assignment, &o);
    assert_null(o.first);
}

/* The next transaction: it may have to wait for the one before, and for the back-off after a failure. */
static void commit_with(size_t count)
{
    int before = committed + failed;
    while (!publisher_commit(p, NULL, offsets, standing, count)) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    while (committed + failed == before)
        uv_run(&loop, UV_RUN_ONCE);
}

static void commit_now(void)
{
    commit_with(0);
}

static void test_the_newest_of_each_key(void **state)
{
    (void)state;
    uint64_t now = publisher_assignment(p);
    assert_false(publisher_waits(p));
    add(now, "a", "1");
    add(now, "b", "1");
    add(now, "a", "2");
    add(now, "c", "1");
    add(now, "c", NULL);
    assert_true(publisher_waits(p));
    commit_now();
    assert_string_equal(kafka.last, "a=2 b=1 c ");
    assert_false(publisher_waits(p));
    assert_int_equal(committed, 1);
}

static void test_a_failure_loses_nothing(void **state)
{
    (void)state;
    uint64_t now = publisher_assignment(p);
    add(now, "a", "1");
    add(now, "b", "1");
    int begun = atomic_load(&kafka.begun);
    atomic_store(&kafka.fails, true);
    atomic_store(&kafka.held, true);
    assert_true(publisher_commit(p, NULL, offsets, standing, 0));
    assert_false(publisher_commit(p, NULL, offsets, standing, 0)); /* one at a time */
    while (atomic_load(&kafka.begun) == begun)
        usleep(1000);
    add(now, "a", "2"); /* newer than what is under way */
    atomic_store(&kafka.held, false);
    while (failed == 0)
        uv_run(&loop, UV_RUN_ONCE);
    atomic_store(&kafka.fails, false);
    commit_now();
    assert_string_equal(kafka.last, "a=2 b=1 ");
    assert_int_equal(committed, 1);
}

static void test_partitions_that_are_given_up(void **state)
{
    (void)state;
    uint64_t first = publisher_assignment(p);
    add(first, "a", "1");
    add(PUBLISHER_ANY, "z", "1");
    int begun = atomic_load(&kafka.begun);
    atomic_store(&kafka.fails, true);
    atomic_store(&kafka.held, true);
    assert_true(publisher_commit(p, NULL, offsets, standing, 0));
    while (atomic_load(&kafka.begun) == begun)
        usleep(1000);
    add(first, "b", "1");
    publisher_forget(p);
    assert_int_not_equal(publisher_assignment(p), first);
    add(first, "c", "1"); /* of a run that ends late */
    atomic_store(&kafka.held, false);
    while (failed == 0)
        uv_run(&loop, UV_RUN_ONCE);
    atomic_store(&kafka.fails, false);
    add(publisher_assignment(p), "d", "1");
    commit_now();
    assert_string_equal(kafka.last, "d=1 z=1 ");
}

static void test_it_gets_full(void **state)
{
    (void)state;
    size_t size = WAITING_MAX / 4;
    char *large = xcalloc(1, size + 1);
    memset(large, 'x', size);
    for (int i = 0; i < 3; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        add(publisher_assignment(p), key, large);
        add(publisher_assignment(p), key, large); /* in its place */
    }
    assert_false(publisher_full(p));
    add(publisher_assignment(p), "3", large);
    assert_true(publisher_full(p));
    commit_now();
    assert_false(publisher_full(p));
    free(large);
}

enum { MANY = 50000 };

/* Tombstones, as a deleted campaign has them, from one run. */
static void add_many(int from, int to)
{
    struct outputs o = {.first = NULL};
    for (int i = from; i < to; i++) {
        char key[80];
        int len = snprintf(key, sizeof key, "01900000-0000-7000-8000-000000000000/2026-01-31T%08dZ", i);
        outputs_add(&o, key, (size_t)len, NULL, 0);
    }
    publisher_add(p, publisher_assignment(p), &o);
}

/* Much goes in several transactions, of which only the last has the new offsets; the others have the old ones. */
static void test_much_goes_in_parts(void **state)
{
    (void)state;
    add_many(0, MANY);
    add_many(0, MANY); /* in their places */
    commit_with(2);
    assert_int_equal(committed, 1);
    assert_int_equal(kafka.records, MANY);
    assert_true(kafka.transactions > 3 && kafka.transactions < 20);
    assert_true(kafka.bytes_max <= 1 << 20);
    for (int i = 0; i < kafka.transactions - 1; i++)
        assert_int_equal(kafka.next[i], standing[0].next);
    assert_int_equal(kafka.next[kafka.transactions - 1], offsets[0].next);
    assert_false(publisher_waits(p));
}

/* What is larger than a transaction should be goes alone. */
static void test_one_that_is_large(void **state)
{
    (void)state;
    size_t size = 3 << 20;
    char *large = xcalloc(1, size + 1);
    memset(large, 'x', size);
    add(publisher_assignment(p), "a", large);
    add(publisher_assignment(p), "b", "1");
    commit_with(2);
    assert_int_equal(kafka.records, 2);
    assert_int_equal(kafka.transactions, 2);
    free(large);
}

/* The parts that are committed do not come again when a later one fails. */
static void test_a_part_fails(void **state)
{
    (void)state;
    add_many(0, MANY);
    kafka.good = 2;
    atomic_store(&kafka.fails, true);
    commit_with(2);
    assert_int_equal(failed, 1);
    assert_int_equal(kafka.transactions, 2);
    assert_true(kafka.records > 0 && kafka.records < MANY);
    for (int i = 0; i < 2; i++)
        assert_int_equal(kafka.next[i], standing[0].next);
    assert_true(publisher_waits(p));
    atomic_store(&kafka.fails, false);
    add_many(MANY, MANY + 10);
    commit_with(2);
    assert_int_equal(committed, 1);
    assert_int_equal(kafka.records, MANY + 10);
    assert_int_equal(kafka.next[kafka.transactions - 1], offsets[0].next);
}

/* What was forgotten comes to nothing, though it is still in memory: it neither goes out nor hides what is not. */
static void test_forgotten_output_hides_nothing(void **state)
{
    (void)state;
    add(PUBLISHER_ANY, "a", "1");
    int begun = atomic_load(&kafka.begun);
    atomic_store(&kafka.fails, true);
    atomic_store(&kafka.held, true);
    assert_true(publisher_commit(p, NULL, offsets, standing, 0));
    while (atomic_load(&kafka.begun) == begun)
        usleep(1000);
    add(publisher_assignment(p), "a", "2");
    publisher_forget(p);
    atomic_store(&kafka.held, false);
    while (failed == 0)
        uv_run(&loop, UV_RUN_ONCE);
    atomic_store(&kafka.fails, false);
    commit_now();
    assert_string_equal(kafka.last, "a=1 ");
}

static atomic_bool added;

static void *keep_adding(void *arg)
{
    (void)arg;
    for (int round = 0; round < 3; round++)
        add_many(round * MANY * 4, (round + 1) * MANY * 4);
    atomic_store(&added, true);
    return NULL;
}

/* However many come at once, what the loop asks at every turn is answered at once. */
static void test_the_loop_does_not_wait(void **state)
{
    pthread_t thread;
    (void)state;
    int slow = 0;
    assert_int_equal(pthread_create(&thread, NULL, keep_adding, NULL), 0);
    while (!atomic_load(&added)) {
        int64_t start = clock_mono_us();
        publisher_full(p);
        publisher_waits(p);
        slow += clock_mono_us() - start > 200000;
        usleep(500);
    }
    pthread_join(thread, NULL);
    assert_true(slow <= 1); /* one may be the machine's */
    commit_with(2);
    assert_int_equal(kafka.records, 3 * MANY * 4);
}

static void test_opening(void **state)
{
    (void)state;
    int begun = atomic_load(&kafka.begun);
    publisher_open(p);
    while (atomic_load(&kafka.begun) == begun)
        uv_run(&loop, UV_RUN_NOWAIT);
    commit_now(); /* comes after it */
    publisher_open(p);
    assert_int_equal(atomic_load(&kafka.begun), begun + 2);
    assert_int_equal(committed, 1); /* the opening is nobody's business */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_newest_of_each_key, start, stop),
        cmocka_unit_test_setup_teardown(test_a_failure_loses_nothing, start, stop),
        cmocka_unit_test_setup_teardown(test_partitions_that_are_given_up, start, stop),
        cmocka_unit_test_setup_teardown(test_it_gets_full, start, stop),
        cmocka_unit_test_setup_teardown(test_much_goes_in_parts, start, stop),
        cmocka_unit_test_setup_teardown(test_one_that_is_large, start, stop),
        cmocka_unit_test_setup_teardown(test_a_part_fails, start, stop),
        cmocka_unit_test_setup_teardown(test_forgotten_output_hides_nothing, start, stop),
        cmocka_unit_test_setup_teardown(test_the_loop_does_not_wait, start, stop),
        cmocka_unit_test_setup_teardown(test_opening, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
