/* `tidings serve`: wires the rooms together, from the first handle on the loop to the clean stop.
 *
 * Start: HTTP listens at once (/readyz says what is missing); a pool thread reads the installation from Postgres, then the
 * lanes, the relay and the consumer groups start, each trying until its part is there.
 * Stop:  HTTP answers what is in flight → lanes and reader end → groups and relay drain → the loop runs dry. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "app/commands.h"
#include "bus/broadcast.h"
#include "bus/kafka.h"
#include "consumers/consumers.h"
#include "core/clock.h"
#include "core/inbox.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/pg.h"
#include "http/http.h"
#include "relay/relay.h"
#include "store/barrier.h"
#include "store/hosts.h"
#include "store/lanes.h"
#include "store/reader.h"
#include "store/sagas.h"
#include "store/schema.h"
#include "store/upkeep.h"

enum { LAG_MS = 20 };

struct app {
    const struct config *config;
    uv_loop_t loop;
    struct inbox inbox;
    uv_signal_t sigterm, sigint;
    uv_timer_t lag, boot_retry;
    uint64_t lag_due_ns;

    struct http *http;
    struct lanes *lanes;
    struct reader *reader;
    struct upkeep *upkeep;
    struct hosts *hosts;
    struct sagas *sagas;
    struct broadcast *broadcast; /* what caches must drop */
    struct relay *relay;         /* NULL until the installation is known */
    struct consumers *consumers; /* likewise */

    struct installation installation; /* zero until known, then constant */
    struct installation booting;      /* the pool thread's */
    uv_work_t boot;
    bool boot_running, booted;
    int boot_attempt;
    char booting_why[256]; /* likewise */
    char boot_why[256];

    struct metric_series *events[EVENT_TYPE_MAX], *invalidations;
    bool stopping;
    int stop_parts;
    int64_t stop_us, exit_us; /* when the stop was asked for; when the process ends whatever happens */
    int exit_code;
};

/* --- what flows between the rooms ------------------------------------------------------------------------------- */

static void on_commit(void *arg, const struct event_row *rows, size_t count)
{
    struct app *a = arg;
    for (size_t i = 0; i < count; i++)
        if (rows[i].type > EVENT_NONE && rows[i].type < EVENT_TYPE_MAX && a->events[rows[i].type])
            metric_add(a->events[rows[i].type], 1);
    if (a->relay)
        relay_feed(a->relay, rows, count);
}

static void on_past_lost(void *arg)
{
    struct app *a = arg;
    if (a->relay)
        relay_alarm(a->relay, "the database has fewer events than were answered for: it went back in time");
}

/* Campaigns that lanes know need none of it: the database compares versions before it believes them. */
static void on_invalidation(void *arg, const struct event *e)
{
    struct app *a = arg;
    metric_add(a->invalidations, 1);
    if (a->http)
        http_key_revoked(a->http, event_data_uuid(e, "key_id"));
}

static void on_invalidations_live(void *arg, bool live)
{
    struct app *a = arg;
    metric_gauge(M_INVALIDATIONS_LIVE, live);
    if (a->http)
        http_set_live(a->http, live);
}

/* Pool thread. The topic's partitions are fixed by the first process that sees it; they must spread over whole shards. */
static uint32_t fix_partitions(void *arg, uint32_t topic_partitions, char *why, size_t why_size)
{
    struct app *a = arg;
    struct installation now;
    PGconn *conn =
        pg_open(a->config->database_url, "tidings-partitions", (int)a->config->db_connect_timeout_s, why, why_size);
    if (!conn)
        return 0;
    bool ok = installation_load(conn, &now, why, why_size);
    if (ok && now.partitions == 0) {
        if (topic_partitions % now.shards != 0) {
            snprintf(why, why_size,
                     "topic %s has %" PRIu32 " partitions, which must be a multiple of the %" PRIu32 " shards",
                     a->config->kafka_topic, topic_partitions, now.shards);
            ok = false;
        } else {
            ok = barrier_pass(conn, why, why_size) &&
                 installation_set_partitions(conn, topic_partitions, &now, why, why_size);
        }
    }
    PQfinish(conn);
    if (ok && topic_partitions < now.partitions) {
        snprintf(why, why_size, "topic %s has %" PRIu32 " partitions, but %" PRIu32 " are in use",
                 a->config->kafka_topic, topic_partitions, now.partitions);
        ok = false;
    }
    return ok ? now.partitions : 0;
}

static void health(void *arg, void (*report)(void *to, const char *part, const char *reason), void *to)
{
    struct app *a = arg;
    if (a->stopping)
        report(to, "service", "shutting down");
    if (!a->booted)
        report(to, "postgres", a->boot_why[0] ? a->boot_why : "not yet connected");
    else if (!lanes_ready(a->lanes))
        report(to, "postgres", lanes_trouble(a->lanes));
    else if (!reader_ready(a->reader))
        report(to, "postgres", reader_trouble(a->reader));
    if (!a->relay)
        report(to, "kafka", "waits for postgres");
    else if (relay_trouble(a->relay)[0])
        report(to, "kafka", relay_trouble(a->relay));
    if (a->consumers && consumers_trouble(a->consumers)[0])
        report(to, "consumers", consumers_trouble(a->consumers));
}

/* --- start ------------------------------------------------------------------------------------------------------ */

static void request_stop(struct app *a, int exit_code);

/* Pool thread. */
static void boot_work(uv_work_t *work)
{
    struct app *a = work->data;
    a->booting_why[0] = '\0';
    PGconn *conn = pg_open(a->config->database_url, "tidings-boot", (int)a->config->db_connect_timeout_s,
                           a->booting_why, sizeof a->booting_why);
    if (conn && (!pg_require_primary(conn, a->booting_why, sizeof a->booting_why) ||
                 !schema_check(conn, a->booting_why, sizeof a->booting_why) ||
                 !installation_load(conn, &a->booting, a->booting_why, sizeof a->booting_why)))
        a->booting.shards = 0;
    PQfinish(conn);
}

static void on_boot_retry(uv_timer_t *timer);

static void boot_done(uv_work_t *work, int status)
{
    struct app *a = work->data;
    char why[256];
    (void)status;
    a->boot_running = false;
    memcpy(a->boot_why, a->booting_why, sizeof a->boot_why);
    if (a->stopping)
        return;
    if (a->booting.shards == 0) {
        if (a->boot_attempt % 10 == 0)
            log_warn("waiting for Postgres", "reason", a->boot_why);
        uv_timer_start(&a->boot_retry, on_boot_retry, (uint64_t)backoff_ms(a->boot_attempt++, 100, 3000), 0);
        return;
    }
    a->installation = a->booting;
    a->booted = true;
    lanes_connect(a->lanes, &a->installation);
    a->relay = relay_start(&a->loop, a->config, a->installation.shards, fix_partitions, a);
    a->consumers = consumers_start(&a->loop, &a->inbox, a->config, why, sizeof why);
    if (!a->consumers) {
        log_error("cannot start the consumer groups", "reason", why);
        request_stop(a, EXIT_FAILED);
    }
}

static void boot_start(struct app *a)
{
    a->boot.data = a;
    a->boot_running = uv_queue_work(&a->loop, &a->boot, boot_work, boot_done) == 0;
}

static void on_boot_retry(uv_timer_t *timer)
{
    boot_start(timer->data);
}

/* How late this timer comes is how long something held the loop. */
static void on_lag_timer(uv_timer_t *timer)
{
    struct app *a = timer->data;
    uint64_t now = uv_hrtime();
    metric_seen(M_LOOP_LAG, now > a->lag_due_ns ? (int64_t)((now - a->lag_due_ns) / 1000) : 0);
    a->lag_due_ns = now + LAG_MS * 1000000ull;
    uv_timer_start(timer, on_lag_timer, LAG_MS, 0);
}

static void print_group(void *arg, const char *group, int64_t workers, const char *processes)
{
    (void)arg;
    printf("    * %s (%" PRId64 " worker%s; processes: %s)\n", group, workers, workers == 1 ? "" : "s", processes);
}

static void print_listing(const struct app *a)
{
    const struct config *c = a->config;
    printf("Tidings %s\n"
           "  - Listening on: %s\n"
           "  - Domain events topic: %s\n"
           "  - Kafka brokers: [%s]\n"
           "  - Worker pool size: %" PRId64 " per consumer group\n"
           "  - Lanes: %" PRId64 "\n"
           "  - Mail: %s%s%s\n"
           "  - Consumer groups:\n",
           TIDINGS_VERSION, http_url(a->http), c->kafka_topic, c->kafka_brokers, c->pool_size, c->lanes,
           c->mail_transport, strcmp(c->mail_transport, "discard") == 0 ? "" : " → ",
           strcmp(c->mail_transport, "smtp") == 0      ? c->smtp_url
           : strcmp(c->mail_transport, "maildir") == 0 ? c->maildir
                                                       : "");
    consumers_describe(c, print_group, NULL);
    fflush(stdout);
}

/* --- stop ------------------------------------------------------------------------------------------------------- */

/* Each step may use the time up to a share of SHUTDOWN_TIMEOUT_MS, so that none takes it all. */
static int64_t stop_deadline(const struct app *a, int64_t percent)
{
    return a->stop_us + a->config->shutdown_timeout_ms * 10 * percent;
}

static void on_inbox_closed(uv_handle_t *handle)
{
    (void)handle;
}

static void last_stopped(struct app *a)
{
    inbox_close(&a->inbox, on_inbox_closed);
    uv_close((uv_handle_t *)&a->lag, NULL);
    uv_close((uv_handle_t *)&a->boot_retry, NULL);
    uv_close((uv_handle_t *)&a->sigterm, NULL);
    uv_close((uv_handle_t *)&a->sigint, NULL);
}

static void on_part_stopped(void *arg)
{
    struct app *a = arg;
    if (--a->stop_parts == 0)
        last_stopped(a);
}

static void on_writers_stopped(void *arg)
{
    struct app *a = arg;
    if (--a->stop_parts > 0)
        return;
    a->stop_parts = 2 + (a->relay != NULL) + (a->consumers != NULL);
    broadcast_stop(a->broadcast, stop_deadline(a, 80), on_part_stopped, a);
    if (a->relay)
        relay_stop(a->relay, stop_deadline(a, 80), on_part_stopped, a);
    if (a->consumers)
        consumers_stop(a->consumers, stop_deadline(a, 80), on_part_stopped, a);
    on_part_stopped(a);
}

static void on_http_stopped(void *arg)
{
    struct app *a = arg;
    a->http = NULL;
    a->stop_parts = 5;
    upkeep_stop(a->upkeep, on_writers_stopped, a);
    sagas_stop(a->sagas, on_writers_stopped, a);
    hosts_stop(a->hosts, on_writers_stopped, a);
    lanes_stop(a->lanes, stop_deadline(a, 60), on_writers_stopped, a);
    reader_stop(a->reader, stop_deadline(a, 60), on_writers_stopped, a);
}

/* The last resort: something did not keep the deadline. Nothing acknowledged is lost by it. */
static void *watchdog(void *arg)
{
    const struct app *a = arg;
    while (clock_mono_us() < a->exit_us)
        usleep(20000);
    static const char text[] = "tidings: the clean stop took too long; exiting now\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(EXIT_FAILED);
    _exit(EXIT_FAILED);
    return NULL;
}

static void request_stop(struct app *a, int exit_code)
{
    if (a->stopping)
        return;
    a->stopping = true;
    a->exit_code = exit_code;
    a->stop_us = clock_mono_us();
    a->exit_us = stop_deadline(a, 100);
    log_info("stopping");
    pthread_t thread;
    if (pthread_create(&thread, NULL, watchdog, a) == 0)
        pthread_detach(thread);
    uv_timer_stop(&a->boot_retry);
    http_stop(a->http, stop_deadline(a, 50), on_http_stopped, a);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    (void)signum;
    request_stop(handle->data, EXIT_OK);
}

/* --- the command ------------------------------------------------------------------------------------------------ */

static bool start(struct app *a, char *why, size_t why_size)
{
    uv_signal_init(&a->loop, &a->sigterm);
    uv_signal_init(&a->loop, &a->sigint);
    uv_timer_init(&a->loop, &a->lag);
    uv_timer_init(&a->loop, &a->boot_retry);
    a->sigterm.data = a->sigint.data = a->lag.data = a->boot_retry.data = a;
    if (inbox_open(&a->inbox, &a->loop) != 0) {
        snprintf(why, why_size, "cannot open the loop's inbox");
        return false;
    }
    for (int t = EVENT_NONE + 1; t < EVENT_TYPE_MAX; t++)
        if (event_type_name((enum event_type)t))
            a->events[t] = metric_get(M_EVENTS, event_type_name((enum event_type)t), NULL);
    a->lanes = lanes_start(&a->loop, a->config, on_commit, on_past_lost, a);
    a->reader = reader_start(&a->loop, a->config);
    a->upkeep = upkeep_start(&a->loop, a->config, a->lanes, &a->installation);
    a->sagas = sagas_start(&a->loop, a->config, a->lanes, a->reader);
    a->hosts = hosts_start(&a->loop, a->config, a->reader);
    a->invalidations = metric_get(M_INVALIDATIONS, event_type_name(EVENT_API_KEY_REVOKED), NULL);
    a->http = http_start(&a->loop,
                         &(struct http_options){.config = a->config,
                                                .installation = &a->installation,
                                                .lanes = a->lanes,
                                                .reader = a->reader,
                                                .health = health,
                                                .arg = a},
                         why, why_size);
    if (!a->http)
        return false;
    a->broadcast = broadcast_start(&(struct broadcast_options){.loop = &a->loop,
                                                               .inbox = &a->inbox,
                                                               .config = a->config,
                                                               .types = 1u << EVENT_API_KEY_REVOKED,
                                                               .on_event = on_invalidation,
                                                               .on_live = on_invalidations_live,
                                                               .arg = a},
                                   why, why_size);
    if (!a->broadcast)
        return false;
    uv_signal_start(&a->sigterm, on_signal, SIGTERM);
    uv_signal_start(&a->sigint, on_signal, SIGINT);
    a->lag_due_ns = uv_hrtime() + LAG_MS * 1000000ull;
    uv_timer_start(&a->lag, on_lag_timer, LAG_MS, 0);
    boot_start(a);
    return true;
}

int command_serve(const struct config *config, int argc, char **argv)
{
    if (argc > 0) {
        bool help = strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0;
        fputs("Usage: tidings serve\nTakes requests, relays events and runs the consumer groups until SIGTERM or "
              "SIGINT.\n"
              "Settings are environment variables: see `tidings config`.\n",
              help ? stdout : stderr);
        return help ? EXIT_OK : EXIT_USAGE;
    }
    if (!config->token_secret) {
        fputs("tidings: TOKEN_SECRET must be set for serve: at least 16 random bytes, the same on all hosts"
              " (e.g. from `openssl rand -hex 32`)\n",
              stderr);
        return EXIT_USAGE;
    }
    char why[512];
    if (!kafka_check(config, why, sizeof why) || !consumers_check(config, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", why);
        return EXIT_USAGE;
    }
    signal(SIGPIPE, SIG_IGN);
    log_start(config->log_level, config->log_format);
    static struct app app; /* static, not on the stack: the watchdog may look at it to the very end */
    app.config = config;
    /* Opening connections and searching for lost batches must not wait for each other. */
    char threads[16];
    snprintf(threads, sizeof threads, "%d", (int)(2 * config->lanes + config->readers + 6));
    setenv("UV_THREADPOOL_SIZE", threads, 0);
    uv_loop_init(&app.loop);
    if (!start(&app, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", why);
        log_stop();
        _exit(EXIT_FAILED); /* half-started parts are left to the kernel */
    }
    print_listing(&app);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    uv_loop_close(&app.loop);
    log_info("stopped");
    log_stop();
    return app.exit_code;
}
