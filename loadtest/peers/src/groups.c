/* A consumer group as Tidings runs its own, with a handler that does nothing, or sleeps: what the dispatch to workers costs.
 * Settings are those of Tidings, from the environment.
 *
 * groups GROUP WORKERS SLEEP_US   Prints "assigned MONO_S", "first MONO_S" when a record is handled, and every 20 ms while records
 *                                 come "handled N MONO_S"; until SIGTERM. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "consumers/group.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/inbox.h"
#include "core/log.h"
#include "core/metrics.h"

enum { TICK_MS = 20, STOP_S = 10 };

static atomic_llong handled;
static long sleep_us;

static struct bench {
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t signal;
    struct inbox inbox;
    struct config config;
    struct group *group;
    _Atomic int64_t stop_at;
    long long said;
    bool assigned;
} bench;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "groups: %s: %s\n", what, why);
    exit(1);
}

/* --- the handler ------------------------------------------------------------------------------------------------ */

static void key(const struct event *e, struct buf *out)
{
    buf_add(out, e->campaign_id.b, sizeof e->campaign_id.b);
}

static void call(struct run *run)
{
    for (size_t i = 0; i < run->count && sleep_us > 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = sleep_us * 1000}, NULL);
    atomic_fetch_add_explicit(&handled, (long long)run->count, memory_order_relaxed);
}

static bool gathers(const struct config *c)
{
    (void)c;
    return sleep_us == 0; /* a handler that waits for nobody */
}

static struct handler handler = {
    .processes = "all",
    .types = UINT32_MAX,
    .gathers = gathers,
    .key = key,
    .call = call,
};

/* --- the loop --------------------------------------------------------------------------------------------------- */

static double mono_s(void)
{
    return (double)clock_mono_us() / 1e6;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    long long now = atomic_load_explicit(&handled, memory_order_relaxed);
    if (!bench.assigned && metric_value(metric_get(M_GROUP_PARTITIONS, handler.group, NULL)) > 0) {
        bench.assigned = true;
        printf("assigned %.6f\n", mono_s());
    }
    if (now != bench.said && bench.said == 0)
        printf("first %.6f\n", mono_s());
    if (now != bench.said)
        printf("handled %lld %.6f\n", now, mono_s());
    bench.said = now;
}

static void on_closed(uv_handle_t *handle)
{
    (void)handle;
}

static void on_stopped(void *arg, bool left_behind)
{
    (void)arg, (void)left_behind;
    uv_close((uv_handle_t *)&bench.timer, NULL);
    uv_close((uv_handle_t *)&bench.signal, NULL);
    inbox_close(&bench.inbox, on_closed);
}

static void on_signal(uv_signal_t *signal, int number)
{
    int64_t now = clock_mono_us();
    (void)number;
    uv_signal_stop(signal);
    uv_timer_stop(&bench.timer);
    group_stop(bench.group, now + STOP_S * 500000ll, now + STOP_S * 1000000ll, on_stopped, NULL);
}

int main(int argc, char **argv)
{
    char why[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 4 || atoi(argv[2]) < 1 || atol(argv[3]) < 0)
        fail("usage", "groups GROUP WORKERS SLEEP_US");
    if (!config_load(&bench.config, why, sizeof why))
        fail("settings", why);
    signal(SIGPIPE, SIG_IGN);
    log_start("warn", bench.config.log_format);
    handler.group = argv[1];
    handler.fixed_pool = atoi(argv[2]);
    sleep_us = atol(argv[3]);
    uv_loop_init(&bench.loop);
    inbox_open(&bench.inbox, &bench.loop);
    uv_timer_init(&bench.loop, &bench.timer);
    uv_signal_init(&bench.loop, &bench.signal);
    uv_timer_start(&bench.timer, on_tick, TICK_MS, TICK_MS);
    uv_signal_start(&bench.signal, on_signal, SIGTERM);
    bench.group = group_start(&(struct group_options){.loop = &bench.loop,
                                                      .inbox = &bench.inbox,
                                                      .config = &bench.config,
                                                      .handler = &handler,
                                                      .db = db_pool_new(&bench.config),
                                                      .stop_at = &bench.stop_at},
                              why, sizeof why);
    if (!bench.group)
        fail("the group", why);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    log_stop();
    return 0;
}
