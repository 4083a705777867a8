/* Sign-ups straight into the lanes: what the store takes with no HTTP before it and no relay behind it. Settings are those
 * of Tidings, from the environment.
 *
 * lanes CAMPAIGNS OUTSTANDING SECONDS TAG   CAMPAIGNS: a file with lines of campaign id, account number, account id;
 *                                           OUTSTANDING sign-ups are under way at any time. Prints "counting" after a warm-up,
 *                                           "counted" after SECONDS more, and at the end lines of NAME VALUE. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/log.h"
#include "core/pg.h"
#include "store/lanes.h"
#include "store/schema.h"

enum { READY_S = 20, WARM_UP_US = 500000, CHECK_MS = 5, LINGER_US = 500000, STOP_S = 10, ADDRESS_MAX = 128 };

struct campaign {
    struct uuid id, account_id;
    unsigned account_no;
};

static struct bench {
    uv_loop_t loop;
    uv_timer_t timer;
    struct config config;
    struct installation installation;
    struct lanes *lanes;
    struct campaign *campaigns;
    size_t campaign_count;
    const char *tag;
    int outstanding, under_way;
    int64_t for_us, begun_us, counted_us, ended_us; /* begun: submitting; counted: after the warm-up */
    double cpu_s;                                   /* these three: of what is counted */
    unsigned long long counted, counted_batches;
    unsigned long long number, done, refused, events, batches;
    bool stopping;
} bench;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "lanes: %s: %s\n", what, why);
    exit(1);
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void on_commit(void *arg, const struct event_row *rows, size_t count)
{
    (void)arg;
    (void)rows;
    bench.events += count;
    bench.batches++;
}

static void on_past_lost(void *arg)
{
    (void)arg;
    fail("the database", "went back in time");
}

/* --- sign-ups --------------------------------------------------------------------------------------------------- */

static void submit_one(void);

static void on_done(struct action *a, const struct action_result *result)
{
    (void)a;
    bench.under_way--;
    if (result->err == ERR_NONE)
        bench.done++;
    else
        bench.refused++;
    if (!bench.stopping)
        submit_one();
}

/* As src/http/routes_users.c makes them. */
static void submit_one(void)
{
    char address[ADDRESS_MAX];
    const struct campaign *c = &bench.campaigns[(bench.number * 2654435761u >> 7) % bench.campaign_count];
    size_t len = (size_t)snprintf(address, sizeof address, "%s-%llu@example.com", bench.tag, bench.number++);
    struct action *a = action_new(ACTION_SIGN_UP, 2 * len);
    a->account_no = c->account_no;
    a->account_id = c->account_id;
    a->campaign_id = c->id;
    a->email = action_text(a, address, len);
    a->email_key = action_text(a, address, len);
    a->on_done = on_done;
    enum err err = lanes_submit(bench.lanes, a);
    if (err != ERR_NONE)
        fail("a sign-up was refused", err_name(err));
    bench.under_way++;
}

/* --- the clock -------------------------------------------------------------------------------------------------- */

static void on_stopped(void *arg)
{
    (void)arg;
    uv_close((uv_handle_t *)&bench.timer, NULL);
}

/* Reads the counters when it is told to begin, and again to end. */
static void count(const char *what)
{
    puts(what);
    fflush(stdout);
    bench.cpu_s = cpu_s() - bench.cpu_s;
    bench.counted = bench.done - bench.counted;
    bench.counted_batches = bench.batches - bench.counted_batches;
}

static void on_tick(uv_timer_t *timer)
{
    int64_t now = clock_mono_us();
    (void)timer;
    if (bench.begun_us == 0) {
        if (now > bench.ended_us)
            fail("Postgres", lanes_trouble(bench.lanes));
        if (!lanes_ready(bench.lanes))
            return;
        bench.begun_us = now;
        for (int i = 0; i < bench.outstanding; i++)
            submit_one();
    } else if (bench.counted_us == 0 && now - bench.begun_us >= WARM_UP_US) {
        bench.counted_us = now;
        count("counting");
    } else if (bench.counted_us != 0 && !bench.stopping && now - bench.counted_us >= bench.for_us) {
        bench.stopping = true;
        bench.ended_us = now;
        count("counted");
    } else if (bench.stopping && now - bench.ended_us >= LINGER_US) { /* its sessions can be looked at until here */
        uv_timer_stop(&bench.timer);
        lanes_stop(bench.lanes, now + STOP_S * 1000000ll, on_stopped, NULL);
    }
}

/* --- start ------------------------------------------------------------------------------------------------------ */

static void read_campaigns(const char *name)
{
    FILE *file = fopen(name, "r");
    char id[UUID_TEXT_SIZE], account[UUID_TEXT_SIZE];
    unsigned no;
    if (!file)
        fail(name, "cannot be read");
    while (fscanf(file, "%36s %u %36s", id, &no, account) == 3) {
        bench.campaigns = xrealloc(bench.campaigns, (bench.campaign_count + 1) * sizeof *bench.campaigns);
        struct campaign *c = &bench.campaigns[bench.campaign_count++];
        c->account_no = no;
        if (!uuid_parse(id, strlen(id), &c->id) || !uuid_parse(account, strlen(account), &c->account_id))
            fail(name, "has something else than ids");
    }
    fclose(file);
    if (bench.campaign_count == 0)
        fail(name, "has no campaigns");
}

static void read_installation(void)
{
    char why[256];
    PGconn *conn =
        pg_open(bench.config.database_url, "tidings-bench", (int)bench.config.db_connect_timeout_s, why, sizeof why);
    if (!conn || !installation_load(conn, &bench.installation, why, sizeof why))
        fail("Postgres", why);
    PQfinish(conn);
}

static void report(void)
{
    double seconds = (double)(bench.ended_us - bench.counted_us) / 1e6,
           done = (double)(bench.counted ? bench.counted : 1);
    printf("per_s %.1f\ncpu_us %.3f\nbatch_mean %.1f\nsign_ups %llu\nevents %llu\nrefused %llu\n", done / seconds,
           bench.cpu_s * 1e6 / done, done / (double)(bench.counted_batches ? bench.counted_batches : 1), bench.counted,
           bench.events, bench.refused);
}

int main(int argc, char **argv)
{
    char why[256];
    if (argc != 5 || atoi(argv[2]) < 1 || atoi(argv[3]) < 1 || strlen(argv[4]) > ADDRESS_MAX / 2)
        fail("usage", "lanes CAMPAIGNS OUTSTANDING SECONDS TAG");
    if (!config_load(&bench.config, why, sizeof why))
        fail("settings", why);
    signal(SIGPIPE, SIG_IGN);
    log_start("warn", bench.config.log_format);
    read_campaigns(argv[1]);
    read_installation();
    bench.outstanding = atoi(argv[2]);
    bench.for_us = atoi(argv[3]) * 1000000ll;
    bench.tag = argv[4];
    bench.ended_us = clock_mono_us() + READY_S * 1000000ll;
    uv_loop_init(&bench.loop);
    uv_timer_init(&bench.loop, &bench.timer);
    bench.lanes = lanes_start(&bench.loop, &bench.config, on_commit, on_past_lost, NULL);
    lanes_connect(bench.lanes, &bench.installation);
    uv_timer_start(&bench.timer, on_tick, CHECK_MS, CHECK_MS);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    report();
    log_stop();
    return 0;
}
