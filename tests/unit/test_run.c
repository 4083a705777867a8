/* Runs through a handler, with the transactions played by this file: halving, order within a key, what is called and
 * settled, and what becomes of each record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/retry.h"
#include "consumers/run.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/log.h"

enum { MAX = 64 };

/* What the records are to suffer, by their offset. */
static struct script {
    bool bad_data[MAX];   /* apply's SQL fails */
    bool bad_settle[MAX]; /* settle's SQL fails */
    int away;             /* so many transactions find Postgres away; -1: all */
    enum outcome in_apply[MAX], in_call[MAX];
    int applied[MAX], called[MAX], settled[MAX], buried[MAX], rows[MAX], held[MAX];
    int transactions;
    int64_t later_ms;
    bool later_held;
    int quick; /* RETRY_QUICK_ATTEMPTS; 0: more than are made */
} script;

static _Atomic int64_t stop_at;

static enum tx_end begin(char *why, size_t why_size)
{
    script.transactions++;
    if (script.away == 0)
        return TX_COMMITTED;
    script.away -= script.away > 0;
    snprintf(why, why_size, "no connection");
    return TX_AWAY;
}

enum tx_end run_tx_apply(const struct run_env *env, void *worker, struct item *const *items, size_t count, char *why,
                         size_t why_size)
{
    (void)worker;
    enum tx_end end = begin(why, why_size);
    if (end != TX_COMMITTED)
        return end;
    bool bad = false, behind = false, blocked = false;
    for (size_t i = 0; i < count; i++) {
        struct record *r = &items[i]->record;
        if (items[i]->bury)
            continue;
        assert_int_equal(r->outcome, OUTCOME_DONE);
        assert_null(r->state);
        bad = bad || script.bad_data[r->offset];
        r->state = xmalloc(1);
        script.held[r->offset]++;
        r->call = true;
        if (script.in_apply[r->offset] != OUTCOME_DONE)
            record_fail(r, script.in_apply[r->offset], "scripted");
        r->later_ms = script.later_ms;
        r->later_held = script.later_held;
        retry_decide(env->config, items[i], clock_mono_us());
        blocked = (i > 0 && items[i]->key == items[i - 1]->key && blocked) || r->outcome == OUTCOME_RETRY;
        if (blocked && r->outcome != OUTCOME_RETRY) {
            items[i]->result = ITEM_BEHIND;
            behind = true;
        }
    }
    if (bad)
        return TX_DATA;
    if (behind)
        return TX_BEHIND;
    for (size_t i = 0; i < count; i++) {
        script.applied[items[i]->record.offset] += items[i]->record.outcome == OUTCOME_DONE;
        script.buried[items[i]->record.offset] += items[i]->record.outcome == OUTCOME_REJECT;
        script.rows[items[i]->record.offset] += items[i]->hold;
    }
    return TX_COMMITTED;
}

enum tx_end run_tx_settle(const struct run_env *env, void *worker, struct item *const *items, size_t count, char *why,
                          size_t why_size)
{
    (void)worker;
    enum tx_end end = begin(why, why_size);
    if (end != TX_COMMITTED)
        return end;
    for (size_t i = 0; i < count; i++) {
        retry_decide(env->config, items[i], clock_mono_us());
        assert_int_not_equal(items[i]->record.outcome, OUTCOME_UNAVAILABLE);
        if (script.bad_settle[items[i]->record.offset])
            return TX_DATA;
    }
    for (size_t i = 0; i < count; i++) {
        script.settled[items[i]->record.offset]++;
        script.rows[items[i]->record.offset] += items[i]->hold;
    }
    return TX_COMMITTED;
}

enum tx_end run_tx_put_aside(const struct run_env *env, struct item *const *items, size_t count, char *why,
                             size_t why_size)
{
    (void)env;
    enum tx_end end = begin(why, why_size);
    for (size_t i = 0; end == TX_COMMITTED && i < count; i++) {
        script.buried[items[i]->record.offset] += items[i]->record.outcome == OUTCOME_REJECT;
        script.rows[items[i]->record.offset] += items[i]->hold;
    }
    return end;
}

static void call(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        assert_int_equal(r->outcome, OUTCOME_DONE);
        script.called[r->offset]++;
        r->later_ms = script.later_ms;
        if (script.in_call[r->offset] != OUTCOME_DONE)
            record_fail(r, script.in_call[r->offset], "scripted");
    }
}

static bool settle(struct run *run, PGresult **failed)
{
    (void)run, (void)failed;
    return true;
}

static void release(struct record *r)
{
    script.held[r->offset]--;
    free(r->state);
}

static const struct handler calling = {
    .group = "test", .apply = settle, .call = call, .settle = settle, .release = release};
static const struct handler strict = {
    .group = "test", .apply = settle, .release = release, .ordered = true, .strict = true};
static const struct handler plain = {.group = "test", .apply = settle, .release = release};
static const struct handler call_alone = {.group = "test", .call = call};

/* Makes count items, keys[i] the key of each (a letter), runs them, returns them. */
static struct item **run_all(const struct handler *h, const char *keys)
{
    static struct group_metrics metrics;
    const struct config config = {.retry_base_ms = 1,
                                  .retry_max_ms = 10,
                                  .retry_quick_attempts = script.quick ? script.quick : 3,
                                  .retry_max_attempts = 3,
                                  .retry_max_age_s = 1000};
    const struct run_env env = {.config = &config, .handler = h, .metrics = &metrics, .stop_at = &stop_at};
    size_t count = strlen(keys);
    struct item **items = xcalloc(count + 1, sizeof(struct item *));
    group_metrics_init(&metrics, "test");
    for (size_t i = 0; i < count; i++) {
        const struct source_record r = {.offset = (int64_t)i};
        items[i] = item_new(&r);
        items[i]->key = (struct key_queue *)(uintptr_t)keys[i];
        items[i]->record.event.type = EVENT_USER_SIGNED_UP;
    }
    run_items(&env, NULL, items, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(script.held[i], 0);
    return items;
}

static void free_all(struct item **items)
{
    for (size_t i = 0; items[i]; i++)
        item_free(items[i]);
    free(items);
}

static int setup(void **state)
{
    (void)state;
    memset(&script, 0, sizeof script);
    return 0;
}

static void test_all_well(void **state)
{
    (void)state;
    struct item **items = run_all(&calling, "abcd");
    for (int i = 0; i < 4; i++) {
        assert_int_equal(items[i]->result, ITEM_FINISHED);
        assert_int_equal(script.applied[i] + script.called[i] + script.settled[i], 3);
    }
    assert_int_equal(script.transactions, 2);
    free_all(items);
}

static void test_culprits_are_found(void **state)
{
    (void)state;
    script.bad_data[5] = script.bad_data[11] = true;
    struct item **items = run_all(&plain, "abcdefghijklmnop");
    for (int i = 0; i < 16; i++) {
        bool bad = script.bad_data[i];
        assert_int_equal(items[i]->result, ITEM_FINISHED);
        assert_int_equal(items[i]->record.outcome, bad ? OUTCOME_REJECT : OUTCOME_DONE);
        assert_int_equal(script.applied[i], !bad);
        assert_int_equal(script.buried[i], bad);
    }
    free_all(items);
}

/* Halving may cut a key in two: the second half must not overtake. */
static void test_order_while_halving(void **state)
{
    (void)state;
    script.bad_data[3] = true;
    script.in_apply[1] = OUTCOME_RETRY;
    struct item **items = run_all(&plain, "aaaa");
    assert_int_equal(items[0]->result, ITEM_FINISHED);
    assert_int_equal(items[1]->result, ITEM_AGAIN);
    assert_int_equal(items[1]->record.attempt, 1);
    assert_true(items[1]->due_us > 0);
    assert_int_equal(items[2]->result, ITEM_BEHIND);
    assert_int_equal(items[3]->result, ITEM_BEHIND);
    assert_int_equal(script.applied[2] + script.buried[3], 0);
    free_all(items);
}

/* A dead letter of a strict group holds its key: what comes after it finds its row, in a later run. */
static void test_strict_while_halving(void **state)
{
    (void)state;
    script.bad_data[1] = true;
    struct item **items = run_all(&strict, "aaab");
    assert_int_equal(items[0]->record.outcome, OUTCOME_DONE);
    assert_int_equal(script.buried[1], 1);
    assert_int_equal(items[2]->result, ITEM_BEHIND);
    assert_int_equal(items[3]->result, ITEM_FINISHED);
    free_all(items);
    setup(NULL);
    script.bad_data[1] = true;
    items = run_all(&plain, "aaab");
    assert_int_equal(items[2]->result, ITEM_FINISHED);
    free_all(items);
}

static void test_behind_a_retry(void **state)
{
    (void)state;
    script.in_apply[1] = OUTCOME_RETRY;
    struct item **items = run_all(&plain, "aaab");
    assert_int_equal(items[0]->result, ITEM_FINISHED);
    assert_int_equal(items[1]->result, ITEM_AGAIN);
    assert_int_equal(items[2]->result, ITEM_BEHIND);
    assert_int_equal(items[3]->result, ITEM_FINISHED);
    assert_int_equal(script.applied[0], 1);
    assert_int_equal(script.applied[2], 0);
    assert_int_equal(script.applied[3], 1);
    free_all(items);
}

static void test_postgres_away(void **state)
{
    (void)state;
    script.away = -1;
    struct item **items = run_all(&calling, "abc");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(items[i]->result, ITEM_BLOCKED);
        assert_int_equal(items[i]->record.attempt, 0);
        assert_int_equal(script.called[i], 0);
        assert_string_equal(items[i]->record.reason, "no connection");
    }
    free_all(items);
}

static void test_call_outcomes(void **state)
{
    (void)state;
    script.in_call[1] = OUTCOME_RETRY;
    script.in_call[2] = OUTCOME_REJECT;
    script.in_call[3] = OUTCOME_UNAVAILABLE;
    struct item **items = run_all(&calling, "abcde");
    assert_int_equal(items[0]->result, ITEM_FINISHED);
    assert_int_equal(items[1]->result, ITEM_AGAIN);
    assert_int_equal(items[2]->result, ITEM_FINISHED);
    assert_int_equal(items[2]->record.outcome, OUTCOME_REJECT);
    assert_int_equal(items[3]->result, ITEM_BLOCKED);
    assert_int_equal(items[4]->result, ITEM_FINISHED);
    assert_int_equal(script.settled[3], 0);
    assert_int_equal(script.settled[1] + script.settled[2] + script.settled[4], 3);
    free_all(items);
}

/* Not its turn: nothing is recorded, no attempt counts, and it comes back when it was told to. */
static void test_later(void **state)
{
    (void)state;
    script.in_call[0] = OUTCOME_LATER;
    script.later_ms = 60000;
    int64_t before = clock_mono_us();
    struct item **items = run_all(&calling, "ab");
    assert_int_equal(items[0]->result, ITEM_AGAIN);
    assert_int_equal(items[0]->record.attempt, 0);
    assert_true(items[0]->due_us >= before + 60000000);
    assert_int_equal(script.settled[0], 0);
    assert_int_equal(items[1]->result, ITEM_FINISHED);
    free_all(items);
}

/* Not its turn for long: it goes on from a row, which is no attempt either. */
static void test_later_in_postgres(void **state)
{
    (void)state;
    script.in_apply[0] = OUTCOME_LATER;
    script.later_ms = 60000;
    script.later_held = true;
    struct item **items = run_all(&calling, "ab");
    assert_int_equal(items[0]->result, ITEM_FINISHED);
    assert_int_equal(items[0]->record.outcome, OUTCOME_LATER);
    assert_true(items[0]->record.waited);
    assert_int_equal(items[0]->record.attempt, 0);
    assert_int_equal(script.rows[0], 1);
    assert_int_equal(script.called[0], 0);
    assert_int_equal(script.rows[1], 0);
    free_all(items);
}

/* What call did cannot be undone: that its outcome is none is told, and does not pass for success. */
static void test_an_outcome_that_is_none(void **state)
{
    (void)state;
    script.in_call[0] = (enum outcome)99;
    script.in_call[2] = (enum outcome) - 1;
    struct item **items = run_all(&calling, "abc");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(items[i]->result, ITEM_FINISHED);
        assert_int_equal(items[i]->record.outcome, i == 1 ? OUTCOME_DONE : OUTCOME_REJECT);
        assert_int_equal(script.settled[i], 1);
    }
    assert_string_equal(items[0]->record.reason, "the handler gave an outcome that is none: 99");
    assert_string_equal(items[2]->record.reason, "the handler gave an outcome that is none: -1");
    free_all(items);
}

/* The mail is out: settling tries again before the call would be repeated. */
static void test_settle_tries_again(void **state)
{
    (void)state;
    struct item **items = run_all(&calling, "a");
    free_all(items);
    setup(NULL);
    script.bad_settle[1] = true;
    items = run_all(&calling, "abc");
    assert_int_equal(items[0]->record.outcome, OUTCOME_DONE);
    assert_int_equal(items[1]->record.outcome, OUTCOME_REJECT);
    assert_int_equal(script.buried[1], 1);
    assert_int_equal(items[2]->record.outcome, OUTCOME_DONE);
    assert_int_equal(script.called[0] + script.called[1] + script.called[2], 3);
    free_all(items);
}

/* Its quick attempts are over: it is finished for Kafka, and its row goes into the same commit as what was learned. */
static void test_hold(void **state)
{
    (void)state;
    script.quick = 1;
    script.in_call[1] = OUTCOME_RETRY;
    struct item **items = run_all(&calling, "abc");
    assert_int_equal(items[1]->result, ITEM_FINISHED);
    assert_int_equal(items[1]->record.outcome, OUTCOME_RETRY);
    assert_int_equal(script.settled[1], 1);
    assert_int_equal(script.rows[1], 1);
    assert_int_equal(script.rows[0] + script.rows[2] + script.buried[1], 0);
    free_all(items);
    setup(NULL);
    script.quick = 1;
    script.in_apply[0] = OUTCOME_RETRY;
    items = run_all(&plain, "aab");
    assert_int_equal(items[0]->result, ITEM_FINISHED);
    assert_int_equal(script.rows[0], 1);
    assert_int_equal(items[1]->result, ITEM_BEHIND); /* then it finds the row and is parked */
    assert_int_equal(items[2]->result, ITEM_FINISHED);
    free_all(items);
}

/* Postgres cannot write the row either: the record stays where it is. */
static void test_hold_without_postgres(void **state)
{
    (void)state;
    const struct source_record r = {.offset = 0};
    struct item *it = item_new(&r);
    struct item *const items[] = {it};
    struct group_metrics metrics;
    const struct config config = {.retry_base_ms = 1,
                                  .retry_max_ms = 10,
                                  .retry_quick_attempts = 1,
                                  .retry_max_attempts = 9,
                                  .retry_max_age_s = 1000};
    const struct run_env env = {.config = &config, .handler = &plain, .metrics = &metrics, .stop_at = &stop_at};
    group_metrics_init(&metrics, "test");
    it->record.event.type = EVENT_USER_SIGNED_UP;
    it->suspect = true;
    script.away = 2;
    run_items(&env, NULL, items, 1);
    assert_int_equal(it->result, ITEM_BLOCKED);
    assert_int_equal(it->record.attempt, 0);
    script.away = 1; /* apply finds it away, and then the row can be written */
    run_items(&env, NULL, items, 1);
    assert_int_equal(it->result, ITEM_FINISHED);
    assert_int_equal(script.rows[0], 1);
    item_free(it);
}

static void test_malformed_is_buried(void **state)
{
    (void)state;
    const struct source_record r = {.offset = 0};
    struct item *it = item_new(&r);
    struct item *const items[] = {it};
    struct group_metrics metrics;
    const struct config config = {
        .retry_base_ms = 1, .retry_max_ms = 10, .retry_max_attempts = 3, .retry_max_age_s = 1000};
    const struct run_env env = {.config = &config, .handler = &plain, .metrics = &metrics, .stop_at = &stop_at};
    group_metrics_init(&metrics, "test");
    it->bury = true;
    record_reason(&it->record, "malformed: scripted");
    script.away = 1;
    run_items(&env, NULL, items, 1);
    assert_int_equal(it->result, ITEM_BLOCKED);
    run_items(&env, NULL, items, 1);
    assert_int_equal(it->result, ITEM_FINISHED);
    assert_int_equal(script.buried[0], 1);
    assert_string_equal(it->record.reason, "malformed: scripted");
    item_free(it);
}

/* A record that makes its own runs fail looks like an outage: once others got through, its attempts count. */
static void test_suspect_counts(void **state)
{
    (void)state;
    const struct source_record r = {.offset = 0};
    struct item *it = item_new(&r);
    struct item *const items[] = {it};
    struct group_metrics metrics;
    const struct config config = {.retry_base_ms = 1,
                                  .retry_max_ms = 10,
                                  .retry_quick_attempts = 2,
                                  .retry_max_attempts = 2,
                                  .retry_max_age_s = 1000};
    const struct run_env env = {.config = &config, .handler = &calling, .metrics = &metrics, .stop_at = &stop_at};
    group_metrics_init(&metrics, "test");
    it->record.event.type = EVENT_USER_SIGNED_UP;
    script.in_call[0] = OUTCOME_UNAVAILABLE;
    run_items(&env, NULL, items, 1);
    assert_int_equal(it->result, ITEM_BLOCKED);
    it->suspect = true;
    run_items(&env, NULL, items, 1);
    assert_int_equal(it->result, ITEM_AGAIN);
    assert_int_equal(it->record.attempt, 1);
    stop_at = 1;
    run_items(&env, NULL, items, 1); /* while the process stops nobody is to blame */
    assert_int_equal(it->result, ITEM_BLOCKED);
    stop_at = 0;
    script.away = 1;
    run_items(&env, NULL, items, 1);
    assert_int_equal(it->result, ITEM_FINISHED);
    assert_int_equal(script.buried[0], 1);
    item_free(it);
}

/* Without apply: no transaction but for those that get a row. */
static void test_call_alone(void **state)
{
    (void)state;
    struct item **items = run_all(&call_alone, "abcd");
    for (int i = 0; i < 4; i++)
        assert_true(items[i]->result == ITEM_FINISHED && script.called[i] == 1);
    assert_int_equal(script.transactions, 0);
    free_all(items);

    setup(NULL);
    script.quick = 1;
    script.in_call[0] = OUTCOME_REJECT;
    script.in_call[1] = OUTCOME_RETRY; /* held: no quick attempt is left */
    script.in_call[2] = OUTCOME_UNAVAILABLE;
    items = run_all(&call_alone, "abcd");
    assert_int_equal(script.buried[0], 1);
    assert_true(script.rows[1] == 1 && items[1]->result == ITEM_FINISHED);
    assert_int_equal(items[2]->result, ITEM_BLOCKED);
    assert_int_equal(items[3]->result, ITEM_FINISHED);
    assert_int_equal(script.transactions, 2);
    free_all(items);

    setup(NULL);
    script.in_call[0] = OUTCOME_RETRY; /* from memory */
    items = run_all(&call_alone, "a");
    assert_int_equal(items[0]->result, ITEM_AGAIN);
    assert_int_equal(script.transactions, 0);
    free_all(items);

    setup(NULL);
    script.in_call[0] = OUTCOME_REJECT;
    script.away = -1; /* its row cannot be written: it must not be lost */
    items = run_all(&call_alone, "a");
    assert_int_equal(items[0]->result, ITEM_BLOCKED);
    free_all(items);
}

/* Read from a row, which goes when it is done; what is no record at all gets its row without a call. */
static void test_call_alone_rows(void **state)
{
    (void)state;
    struct group_metrics metrics;
    const struct config config = {.retry_base_ms = 1, .retry_max_ms = 10, .retry_quick_attempts = 3};
    const struct run_env env = {.config = &config, .handler = &call_alone, .metrics = &metrics, .stop_at = &stop_at};
    struct item *it = item_new(&(struct source_record){.offset = 0});
    group_metrics_init(&metrics, "test");
    it->record.event.type = EVENT_USER_SIGNED_UP;
    it->held_id = 7;
    run_items(&env, NULL, &it, 1);
    assert_true(it->result == ITEM_FINISHED && script.called[0] == 1 && script.transactions == 1);
    it->held_id = 0;
    it->bury = true;
    run_items(&env, NULL, &it, 1);
    assert_true(it->result == ITEM_FINISHED && script.called[0] == 1 && script.buried[0] == 1);
    item_free(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_all_well, setup),
        cmocka_unit_test_setup(test_culprits_are_found, setup),
        cmocka_unit_test_setup(test_order_while_halving, setup),
        cmocka_unit_test_setup(test_strict_while_halving, setup),
        cmocka_unit_test_setup(test_behind_a_retry, setup),
        cmocka_unit_test_setup(test_postgres_away, setup),
        cmocka_unit_test_setup(test_call_outcomes, setup),
        cmocka_unit_test_setup(test_later_in_postgres, setup),
        cmocka_unit_test_setup(test_an_outcome_that_is_none, setup),
        cmocka_unit_test_setup(test_later, setup),
        cmocka_unit_test_setup(test_settle_tries_again, setup),
        cmocka_unit_test_setup(test_hold, setup),
        cmocka_unit_test_setup(test_hold_without_postgres, setup),
        cmocka_unit_test_setup(test_malformed_is_buried, setup),
        cmocka_unit_test_setup(test_suspect_counts, setup),
        cmocka_unit_test_setup(test_call_alone, setup),
        cmocka_unit_test_setup(test_call_alone_rows, setup),
    };
    log_start("error", "logfmt");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    log_stop();
    return failed;
}
