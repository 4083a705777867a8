/* When a group's outage begins and ends, by what becomes of its runs. The source, what workers do and the retrier are
 * stand-ins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

#include "consumers/group_impl.h"
#include "core/clock.h"

#define WAIT_US 60000000 /* much longer than anything takes */

static uv_loop_t loop;
static struct inbox inbox;
static struct config config;
static struct group *group;
static const _Atomic int64_t stop_at;
static char why[256];

/* --- stand-ins --- */

struct source {
    const struct source_events *events;
    void *arg;
    int64_t offset;
    bool waits; /* a record */
};

/* What workers make of every run from now on. */
enum script {
    BLOCK,       /* what all need is away */
    WAIT_CALLED, /* apply was committed; its own target is away */
    WAIT_EARLY,  /* apply had it wait */
    WAIT_SUSPECT /* it was blocked, and counts as failed since others went through */
};

static struct source source;
static _Atomic enum script script;
static _Atomic int runs;
static int looks; /* of the retrier */

struct source *source_open(uv_loop_t *on, struct inbox *to, const struct config *c, const char *name,
                           const struct source_events *events, void *arg, char *reason, size_t reason_size)
{
    (void)on, (void)to, (void)c, (void)name, (void)reason, (void)reason_size;
    source = (struct source){.events = events, .arg = arg};
    return &source;
}

size_t source_take(struct source *s, int32_t partition, size_t max)
{
    static const char value[] =
        "{\"id\":\"01a1fd5a-c833-79a0-acd1-3f5c80bc1030\",\"type\":\"user.signed_up\",\"account_id\":"
        "\"01a1fd5a-c6b2-7bb5-ae0c-eed7938b940b\",\"campaign_id\":\"01a1fd5a-c6b2-7bb5-ae0c-eed7938b940a\",\"data\":"
        "{\"user_id\":\"01a1fd5a-c779-7eca-8d2d-f24d00000001\",\"campaign_id\":\"01a1fd5a-c6b2-7bb5-ae0c-"
        "eed7938b940a\","
        "\"email\":\"x@example.com\"},\"timestamp\":\"2026-11-21T09:05:47.386089Z\",\"version\":1}";
    if (!s->waits || max == 0)
        return 0;
    s->waits = false;
    s->events->on_record(s->arg, &(struct source_record){.partition = partition,
                                                         .offset = s->offset++,
                                                         .key = "01a1fd5a-c6b2-7bb5-ae0c-eed7938b940a",
                                                         .key_len = 36,
                                                         .value = value,
                                                         .value_len = sizeof value - 1});
    return 1;
}

void source_wake_again(struct source *s)
{
    (void)s;
}

bool source_commit(struct source *s, const struct source_offset *offsets, size_t count)
{
    (void)s, (void)offsets, (void)count;
    return false;
}

struct membership *source_membership(struct source *s)
{
    (void)s;
    return NULL;
}

void source_release(struct source *s)
{
    (void)s;
}

int64_t source_end(struct source *s, int32_t partition)
{
    (void)partition;
    return s->offset;
}

size_t source_missing(const struct source *s)
{
    (void)s;
    return 0;
}

const char *source_trouble(const struct source *s)
{
    (void)s;
    return "";
}

void source_close(struct source *s, int64_t deadline_us)
{
    (void)deadline_us;
    s->events->on_closed(s->arg);
}

/* Worker thread. */
void run_items(const struct run_env *env, void *worker, struct item *const *items, size_t count)
{
    (void)env, (void)worker;
    enum script now = script;
    for (size_t i = 0; i < count; i++) {
        struct item *it = items[i];
        it->result = now == BLOCK ? ITEM_BLOCKED : ITEM_AGAIN;
        it->due_us = clock_mono_us();
        it->record.outcome = now == BLOCK ? OUTCOME_UNAVAILABLE : now == WAIT_SUSPECT ? OUTCOME_RETRY : OUTCOME_LATER;
        it->record.call = now == WAIT_CALLED || now == WAIT_SUSPECT;
        if (now == WAIT_SUSPECT)
            it->suspect = true;
    }
    runs++;
}

struct retrier *retrier_new(const struct run_env *env, struct workers *workers, size_t run_max, bool gathers,
                            void (*on_done)(void *arg), void *arg)
{
    (void)env, (void)workers, (void)run_max, (void)gathers, (void)on_done, (void)arg;
    return NULL;
}

void retrier_free(struct retrier *r)
{
    (void)r;
}

void retrier_tick(struct retrier *r, int64_t now_us)
{
    (void)r, (void)now_us;
    looks++;
}

int64_t retrier_due(const struct retrier *r)
{
    (void)r;
    return INT64_MAX;
}

void retrier_note_good(struct retrier *r)
{
    (void)r;
}

static void key_of(const struct event *e, struct buf *out)
{
    struct uuid user = event_data_uuid(e, "user_id");
    buf_add(out, &user, sizeof user);
}

static bool apply(struct run *run, PGresult **failed)
{
    (void)run, (void)failed;
    return true;
}

static const struct handler handler = {
    .group = "test", .types = 1u << EVENT_USER_SIGNED_UP, .fixed_pool = 1, .key = key_of, .apply = apply};

/* --- steps --- */

static void turn(void)
{
    source.events->on_wake(source.arg); /* as the source does some ten times a second */
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_sleep(1);
}

/* Until what became of a run with this script was noted: there is one record, so the run after it begins when that is. */
static void run_with(enum script wanted)
{
    int64_t end_us = clock_mono_us() + WAIT_US;
    script = wanted;
    for (int goal = runs + 3; runs < goal; turn()) /* the first may have begun before */
        assert_true(clock_mono_us() < end_us);
}

static void begin_outage(void)
{
    source.waits = true;
    run_with(BLOCK);
    assert_true(group->outage > 0);
    assert_int_equal(dispatch_items(group->dispatch), 1);
    looks = 0;
    turn();
    assert_int_equal(looks, 0);
}

/* --- tests --- */

static void test_what_waits_for_its_own_target_ends_it(void **state)
{
    (void)state;
    begin_outage();
    run_with(WAIT_CALLED);
    assert_int_equal(group->outage, 0);
    assert_int_equal(dispatch_items(group->dispatch), 1); /* it still waits in memory */
    looks = 0;
    turn();
    assert_true(looks > 0); /* and held ones are tried meanwhile */
}

static void test_what_was_not_called_does_not(void **state)
{
    (void)state;
    begin_outage();
    run_with(WAIT_EARLY);
    assert_true(group->outage > 0);
}

static void test_a_suspect_does_not(void **state)
{
    (void)state;
    begin_outage();
    run_with(WAIT_SUSPECT);
    assert_true(group->outage > 0);
}

/* --- fixture --- */

static int set_up(void **state)
{
    (void)state;
    static const int32_t partitions[] = {0};
    setenv("RETRY_BASE_MS", "10", 1);
    assert_true(config_load(&config, why, sizeof why));
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(inbox_open(&inbox, &loop), 0);
    const struct group_options options = {
        .loop = &loop, .inbox = &inbox, .config = &config, .handler = &handler, .stop_at = &stop_at};
    group = group_start(&options, why, sizeof why);
    assert_non_null(group);
    source.events->on_assign(source.arg, partitions, 1);
    return 0;
}

static void on_stopped(void *arg, bool left_behind)
{
    assert_false(left_behind);
    *(bool *)arg = true;
}

static int tear_down(void **state)
{
    (void)state;
    bool stopped = false;
    group_stop(group, 0, clock_mono_us() + WAIT_US, on_stopped, &stopped);
    while (!stopped)
        uv_run(&loop, UV_RUN_ONCE);
    inbox_close(&inbox, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    config_free(&config);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_waits_for_its_own_target_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_not_called_does_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_suspect_does_not, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
