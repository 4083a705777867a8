/* The dispatch: a key's records in order and on one run at a time, different keys in parallel, windows, retries,
 * partitions that are revoked with work in flight. The random test is the one that matters: workers, failures and
 * rebalances against a model that knows what must hold. */
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

#include "consumers/dispatch.h"
#include "core/buf.h"

enum { RUN_MAX = 16, WINDOW = 64 };

static const struct dispatch_options many_per_key = {.window = WINDOW, .window_bytes = 1 << 20, .run_max = RUN_MAX};
static const struct dispatch_options one_per_key = {
    .window = WINDOW, .window_bytes = 1 << 20, .run_max = RUN_MAX, .one_per_key = true};

static struct item *make_item(int32_t partition, int64_t offset)
{
    const struct source_record r = {.partition = partition, .offset = offset, .value = "x", .value_len = 1};
    return item_new(&r);
}

static struct item *add(struct dispatch *d, struct partition *p, int64_t offset, const char *key)
{
    struct item *it = make_item(p->id, offset);
    dispatch_add(d, p, it, key, strlen(key));
    return it;
}

static void give_back(struct dispatch *d, struct item **items, size_t count, enum item_result result, int64_t due_us)
{
    for (size_t i = 0; i < count; i++) {
        items[i]->result = result;
        items[i]->due_us = due_us;
    }
    dispatch_return(d, items, count);
}

static void test_key_is_held(void **state)
{
    (void)state;
    struct dispatch *d = dispatch_new(&one_per_key);
    struct partition *p = dispatch_assign(d, 0);
    struct item *run1[RUN_MAX], *run2[RUN_MAX];
    struct item *a1 = add(d, p, 0, "a"), *a2 = add(d, p, 1, "a"), *b = add(d, p, 2, "b");
    assert_int_equal(dispatch_take(d, 2, run1), 1);
    assert_ptr_equal(run1[0], a1);
    assert_int_equal(dispatch_take(d, 1, run2), 1);
    assert_ptr_equal(run2[0], b); /* a is held */
    assert_int_equal(dispatch_take(d, 1, run2 + 1), 0);
    give_back(d, run2, 1, ITEM_FINISHED, 0);
    assert_int_equal(p->watermark.next, 0);
    give_back(d, run1, 1, ITEM_FINISHED, 0);
    assert_int_equal(p->watermark.next, 1);
    assert_int_equal(dispatch_take(d, 1, run1), 1);
    assert_ptr_equal(run1[0], a2);
    give_back(d, run1, 1, ITEM_FINISHED, 0);
    assert_int_equal(p->watermark.next, 3);
    assert_int_equal(dispatch_items(d), 0);
    dispatch_forget(d, p);
    dispatch_free(d);
}

static void test_free_workers_share(void **state)
{
    (void)state;
    struct dispatch *d = dispatch_new(&many_per_key);
    struct partition *p = dispatch_assign(d, 0);
    struct item *runs[4][RUN_MAX];
    char key[16];
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(d, p, i, key);
    }
    for (size_t w = 0; w < 4; w++)
        assert_int_equal(dispatch_take(d, 4 - w, runs[w]), 3);
    assert_int_equal(dispatch_take(d, 1, runs[0]), 0);
    for (size_t w = 0; w < 4; w++)
        give_back(d, runs[w], 3, ITEM_FINISHED, 0);
    for (int i = 0; i < 40; i++)
        add(d, p, 12 + i, "burst"); /* one key: one run, up to the most */
    assert_int_equal(dispatch_take(d, 1, runs[0]), RUN_MAX);
    for (int i = 0; i < RUN_MAX; i++)
        assert_int_equal(runs[0][i]->record.offset, 12 + i);
    assert_int_equal(dispatch_take(d, 1, runs[1]), 0);
    give_back(d, runs[0], RUN_MAX, ITEM_FINISHED, 0);
    dispatch_forget(d, p);
    dispatch_free(d);
}

static void test_retry_holds_its_key_only(void **state)
{
    (void)state;
    struct dispatch *d = dispatch_new(&one_per_key);
    struct partition *p = dispatch_assign(d, 0);
    struct item *run[RUN_MAX];
    struct item *slow = add(d, p, 0, "slow");
    assert_int_equal(dispatch_take(d, 1, run), 1);
    give_back(d, run, 1, ITEM_AGAIN, 500);
    for (int i = 1; i < WINDOW; i++) {
        add(d, p, i, i % 2 ? "other" : "slow");
        if (i % 2 == 0)
            continue;
        assert_int_equal(dispatch_take(d, 1, run), 1);
        give_back(d, run, 1, ITEM_FINISHED, 0);
    }
    assert_int_equal(p->watermark.next, 0);
    assert_int_equal(dispatch_room(d, p), 0); /* a bounded window */
    assert_int_equal(dispatch_due(d, 499), 500);
    assert_int_equal(dispatch_take(d, 1, run), 0);
    assert_true(dispatch_due(d, 500) == INT64_MAX);
    assert_int_equal(dispatch_take(d, 1, run), 1);
    assert_ptr_equal(run[0], slow);
    give_back(d, run, 1, ITEM_FINISHED, 0);
    assert_int_equal(p->watermark.next, 2);
    dispatch_forget(d, p);
    dispatch_free(d);
}

static void test_suspect_runs_alone(void **state)
{
    (void)state;
    struct dispatch *d = dispatch_new(&one_per_key);
    struct partition *p = dispatch_assign(d, 0);
    struct item *run[RUN_MAX];
    add(d, p, 0, "a");
    add(d, p, 1, "b")->alone = true;
    add(d, p, 2, "c");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dispatch_take(d, 1, run), 1);
        assert_int_equal(run[0]->record.offset, i);
        give_back(d, run, 1, ITEM_FINISHED, 0);
    }
    dispatch_forget(d, p);
    dispatch_free(d);
}

static void test_bytes_are_bounded(void **state)
{
    (void)state;
    struct dispatch_options small = many_per_key;
    small.window_bytes = 1;
    struct dispatch *d = dispatch_new(&small);
    struct partition *p = dispatch_assign(d, 0), *q = dispatch_assign(d, 1);
    assert_int_equal(dispatch_room(d, p), WINDOW);
    add(d, p, 0, "a");
    assert_int_equal(dispatch_room(d, p), 0);
    assert_int_equal(dispatch_room(d, q), 1); /* but each partition gets on */
    dispatch_forget(d, p);
    assert_int_equal(dispatch_room(d, q), WINDOW);
    dispatch_forget(d, q);
    dispatch_free(d);
}

static void test_revoked_in_flight(void **state)
{
    (void)state;
    struct dispatch *d = dispatch_new(&many_per_key);
    struct partition *p = dispatch_assign(d, 0);
    struct item *run[RUN_MAX];
    add(d, p, 0, "a");
    add(d, p, 1, "b");
    assert_int_equal(dispatch_take(d, 2, run), 1);
    dispatch_revoke(d, p); /* b goes, a runs on */
    assert_int_equal(dispatch_items(d), 1);
    struct partition *again = dispatch_assign(d, 0);
    add(d, again, 0, "a"); /* the same record, and its key still runs */
    assert_int_equal(dispatch_take(d, 1, run + 1), 0);
    give_back(d, run, 1, ITEM_FINISHED, 0);
    assert_int_equal(p->watermark.next, 1); /* it may still be committed */
    assert_int_equal(again->watermark.next, 0);
    dispatch_forget(d, p);
    assert_int_equal(dispatch_take(d, 1, run), 1);
    dispatch_forget(d, again); /* lost: what comes back later is dropped */
    give_back(d, run, 1, ITEM_AGAIN, 77);
    assert_int_equal(dispatch_items(d), 0);
    assert_true(dispatch_due(d, 0) == INT64_MAX);
    dispatch_free(d);
}

/* --- random --- */

enum { PARTITIONS = 4, KEYS = 23, RUNS = 6, STEPS = 60000, BACK_OFF = 40 };

struct model {
    struct dispatch *d;
    bool one;
    struct partition *p[PARTITIONS];
    int64_t next_offset[PARTITIONS];
    int64_t committed[PARTITIONS]; /* where a new assignment starts */
    struct item *run[RUNS][RUN_MAX];
    size_t run_count[RUNS];
    bool key_runs[KEYS];
    int64_t key_done[PARTITIONS][KEYS]; /* offset finished last under this assignment */
    long finished;
    int64_t now;
};

static int key_of(int64_t offset)
{
    return (int)(((uint64_t)offset * 2654435761u >> 7) % KEYS);
}

static void check_watermark(const struct model *m, int i)
{
    const struct partition *p = m->p[i];
    int64_t first_open = m->next_offset[i];
    for (const struct item *it = p->first; it; it = it->partition_next)
        if (it->record.offset < first_open)
            first_open = it->record.offset;
    if (p->watermark.next >= 0)
        assert_int_equal(p->watermark.next, first_open);
    assert_true(p->watermark.next == -1 || p->watermark.next >= m->committed[i]);
    assert_true(watermark_open(&p->watermark) <= WINDOW);
}

static void add_some(struct model *m, int i)
{
    size_t room = dispatch_room(m->d, m->p[i]);
    for (size_t n = (size_t)(rand() % 8); n > 0 && room > 0; n--, room--) {
        int64_t offset = m->next_offset[i]++;
        int key = key_of(offset);
        if (rand() % 5 == 0)
            dispatch_skip(m->d, m->p[i], offset);
        else
            dispatch_add(m->d, m->p[i], make_item(i, offset), &key, sizeof key);
    }
}

static void start_run(struct model *m, int r)
{
    size_t count = dispatch_take(m->d, (size_t)(1 + rand() % RUNS), m->run[r]);
    int last = -1;
    m->run_count[r] = count;
    assert_true(count <= RUN_MAX);
    for (size_t i = 0; i < count; i++) {
        int key = key_of(m->run[r][i]->record.offset);
        assert_true(m->run[r][i]->running);
        if (key == last) {
            assert_false(m->one);
        } else {
            assert_false(m->key_runs[key]); /* one run at a time */
        }
        m->key_runs[key] = true;
        last = key;
    }
}

/* Results as a worker gives them: after an unfinished record of a key, the key's later ones are behind. */
static void end_run(struct model *m, int r)
{
    int blocked = -1;
    for (size_t i = 0; i < m->run_count[r]; i++) {
        struct item *it = m->run[r][i];
        int key = key_of(it->record.offset), part = it->record.partition;
        bool live = it->partition == m->p[part] && !it->partition->closing;
        it->result = blocked == key ? ITEM_BEHIND : rand() % 8 == 0 ? ITEM_AGAIN : ITEM_FINISHED;
        it->due_us = m->now + rand() % BACK_OFF;
        m->key_runs[key] = false;
        if (it->result != ITEM_FINISHED) {
            blocked = key;
        } else if (live) {
            assert_true(it->record.offset > m->key_done[part][key]); /* in order, once */
            m->key_done[part][key] = it->record.offset;
            m->finished++;
        }
    }
    dispatch_return(m->d, m->run[r], m->run_count[r]);
    m->run_count[r] = 0;
}

static void reassign(struct model *m, int i)
{
    if (rand() % 2) { /* in good order: what finishes meanwhile is committed */
        dispatch_revoke(m->d, m->p[i]);
        for (int r = 0; r < RUNS; r++)
            if (m->run_count[r] > 0 && rand() % 2)
                end_run(m, r);
        if (m->p[i]->watermark.next > m->committed[i])
            m->committed[i] = m->p[i]->watermark.next;
    }
    dispatch_forget(m->d, m->p[i]);
    m->p[i] = dispatch_assign(m->d, i);
    m->next_offset[i] = m->committed[i];
    for (int k = 0; k < KEYS; k++)
        m->key_done[i][k] = m->committed[i] - 1;
}

static void run_random(const struct dispatch_options *options)
{
    struct model m = {.d = dispatch_new(options), .one = options->one_per_key};
    for (int i = 0; i < PARTITIONS; i++) {
        m.p[i] = dispatch_assign(m.d, i);
        for (int k = 0; k < KEYS; k++)
            m.key_done[i][k] = -1;
    }
    for (int step = 0; step < STEPS; step++) {
        int i = rand() % PARTITIONS, r = rand() % RUNS;
        m.now++;
        assert_true(dispatch_due(m.d, m.now) > m.now);
        add_some(&m, i);
        if (m.run_count[r] > 0)
            end_run(&m, r);
        else
            start_run(&m, r);
        if (rand() % 500 == 0)
            reassign(&m, i);
        for (int p = 0; p < PARTITIONS; p++)
            check_watermark(&m, p);
    }
    /* All that is left gets done. */
    for (int idle = 0; idle < 2; m.now += BACK_OFF) {
        dispatch_due(m.d, m.now);
        idle = dispatch_items(m.d) == 0 ? idle + 1 : 0;
        for (int r = 0; r < RUNS; r++)
            if (m.run_count[r] > 0)
                end_run(&m, r);
            else
                start_run(&m, r);
    }
    assert_true(m.finished > STEPS / 10);
    assert_int_equal(dispatch_running(m.d), 0);
    assert_int_equal(dispatch_ready(m.d), 0);
    for (int i = 0; i < PARTITIONS; i++) {
        assert_int_equal(m.p[i]->watermark.next, m.next_offset[i]);
        assert_int_equal(m.p[i]->items, 0);
        dispatch_forget(m.d, m.p[i]);
    }
    dispatch_free(m.d);
}

static void test_random(void **state)
{
    (void)state;
    srand(7);
    run_random(&many_per_key);
    run_random(&one_per_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_is_held),
        cmocka_unit_test(test_free_workers_share),
        cmocka_unit_test(test_retry_holds_its_key_only),
        cmocka_unit_test(test_suspect_runs_alone),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_revoked_in_flight),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
