/* A record on its way through a consumer group, on the loop: taken → parsed → behind its key → a run, and back: done, its
 * offset free to be committed. The source is a stand-in with records of its own, and so is what workers do with a run (they
 * are not counted). */
#include <string.h>

#include "bench.h"
#include "consumers/group_impl.h"
#include "core/clock.h"

enum { RECORDS = 256, WARM_ROUNDS = 3, ROUNDS = 8 };

static uv_loop_t loop;
static struct inbox inbox;

/* --- stand-ins --------------------------------------------------------------------------------------------------- */

struct source {
    const struct source_events *events;
    void *arg;
    size_t left; /* records of this round not yet taken */
    int64_t offset;
    char values[RECORDS][600]; /* of this round */
    size_t lens[RECORDS];
};

static struct source source;
static size_t ran; /* records, by the one worker */

struct source *source_open(uv_loop_t *on, struct inbox *to, const struct config *config, const char *group,
                           const struct source_events *events, void *arg, char *why, size_t why_size)
{
    (void)on, (void)to, (void)config, (void)group, (void)why, (void)why_size;
    source.events = events;
    source.arg = arg;
    return &source;
}

static void make_records(void)
{
    for (size_t i = 0; i < RECORDS; i++)
        source.lens[i] = (size_t)snprintf(
            source.values[i], sizeof source.values[i],
            "{\"id\":\"01a1fd5a-c833-79a0-acd1-3f5c80bc1030\",\"type\":\"user.signed_up\",\"account_id\":"
            "\"01a1fd5a-c6b2-7bb5-ae0c-eed7938b940b\",\"campaign_id\":\"01a1fd5a-c6b2-7bb5-ae0c-eed7938b940a\","
            "\"data\":"
            "{\"user_id\":\"01a1fd5a-c779-7eca-8d2d-f24d%08zx\",\"campaign_id\":\"01a1fd5a-c6b2-7bb5-ae0c-"
            "eed7938b940a\","
            "\"email\":\"x12345-1-100@example.com\"},\"timestamp\":\"2026-11-21T09:05:47.386089Z\",\"version\":%zu}",
            i + 1, i + 1);
    source.left = RECORDS;
}

size_t source_take(struct source *s, int32_t partition, size_t max)
{
    size_t count = s->left < max ? s->left : max;
    for (size_t i = 0; i < count; i++, s->left--) {
        size_t at = RECORDS - s->left;
        s->events->on_record(s->arg, &(struct source_record){.partition = partition,
                                                             .offset = s->offset++,
                                                             .key = "01a1fd5a-c6b2-7bb5-ae0c-eed7938b940a",
                                                             .key_len = 36,
                                                             .value = s->values[at],
                                                             .value_len = s->lens[at]});
    }
    return count;
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

size_t source_missing(const struct source *s)
{
    (void)s;
    return 0;
}

int64_t source_end(struct source *s, int32_t partition)
{
    (void)partition;
    return s->offset;
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
    for (size_t i = 0; i < count; i++)
        items[i]->result = ITEM_FINISHED;
    ran += count; /* read by the loop once the run is back */
}

/* Nothing is held. */
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
    .group = "bench", .types = 1u << EVENT_USER_SIGNED_UP, .fixed_pool = 1, .key = key_of, .apply = apply};

/* --- rounds ------------------------------------------------------------------------------------------------------ */

static void turn(void (*before)(void *arg), bool counted)
{
    if (counted)
        bench_on();
    if (before)
        before(source.arg);
    uv_run(&loop, UV_RUN_NOWAIT);
    if (counted)
        bench_off();
}

static void run_round(bool counted)
{
    size_t goal = ran + RECORDS;
    make_records();
    turn(source.events->on_wake, counted);
    for (int turns = 0; source.left > 0 || dispatch_items(((struct group *)source.arg)->dispatch) > 0; turns++) {
        bench_check(turns < 1000);
        uv_sleep(5);
        turn(NULL, counted);
    }
    bench_check(ran == goal);
}

static void on_stopped(void *arg, bool left_behind)
{
    (void)left_behind;
    *(bool *)arg = true;
}

int main(void)
{
    static const _Atomic int64_t stop_at;
    static const int32_t partitions[] = {0};
    struct config config;
    char why[256];
    bool stopped = false;
    bench_check(config_load(&config, why, sizeof why));
    bench_check(uv_loop_init(&loop) == 0 && inbox_open(&inbox, &loop) == 0);
    struct group *group = group_start(
        &(struct group_options){
            .loop = &loop, .inbox = &inbox, .config = &config, .handler = &handler, .stop_at = &stop_at},
        why, sizeof why);
    bench_check(group != NULL);
    source.events->on_assign(source.arg, partitions, 1);
    for (int round = 0; round < WARM_ROUNDS + ROUNDS; round++)
        run_round(round >= WARM_ROUNDS);
    bench_report("consumers", ROUNDS * RECORDS);
    group_stop(group, 0, clock_mono_us() + 1000000, on_stopped, &stopped);
    while (!stopped)
        uv_run(&loop, UV_RUN_ONCE);
    inbox_close(&inbox, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    config_free(&config);
    return 0;
}
