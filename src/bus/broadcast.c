/* A consumer without a group, from the ends of all partitions on. */
#include "bus/broadcast.h"

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/destroyer.h"
#include "bus/kafka.h"
#include "bus/poller.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

enum {
    WAKE_MS = 100,
    TAKE_MAX = 256,   /* records per turn of the loop; to pass over one costs a fraction of a microsecond */
    GROWN_MS = 5000, /* how often it is asked whether the topic has more partitions now */
    ASK_MS = 2000,
    BACKOFF_BASE_MS = 200,
    BACKOFF_MAX_MS = 5000
};

struct broadcast {
    struct broadcast_options options;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue, *records;
    struct poller poller;
    uv_timer_t timer; /* the next look at the topic; while stopping, the deadline */
    uv_work_t work;
    bool asking, live, lost;
    int failures;
    int32_t partitions; /* that are read */
    /* The pool thread's, while asking. */
    int32_t known, found;
    int64_t *offsets; /* of found partitions: where to begin */
    char why[300];
    /* Stopping. */
    atomic_bool stopping;
    struct destroyer *destroyer;
    int handles;
    int64_t deadline_us;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
};

static void set_live(struct broadcast *b, bool live)
{
    if (live == b->live)
        return;
    b->live = live;
    if (live)
        log_info("invalidations of caches are heard of", "partitions", log_int(b->partitions));
    else if (!atomic_load(&b->stopping))
        log_warn("invalidations of caches may not be heard of; what is cached is kept for a short time only");
    b->options.on_live(b->options.arg, live);
}

/* --- where partitions end: on a pool thread ----------------------------------------------------------------------- */

static int32_t count_partitions(struct broadcast *b)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_resp_err_t error = rd_kafka_metadata(b->rk, 0, b->topic, &md, ASK_MS);
    int32_t count = 0;
    if (!error && md->topic_cnt == 1) {
        error = md->topics[0].err;
        count = md->topics[0].partition_cnt;
    }
    if (error || count == 0)
        snprintf(b->why, sizeof b->why, "%s", rd_kafka_err2str(error));
    if (md)
        rd_kafka_metadata_destroy(md);
    return error ? 0 : count;
}

/* Partitions that came later are read from their beginning: what is in them is newer than what is cached. */
static void ask(uv_work_t *work)
{
    struct broadcast *b = work->data;
    int32_t count = count_partitions(b);
    b->found = b->known;
    if (count <= b->known)
        return;
    b->offsets = xrealloc(b->offsets, (size_t)count * sizeof *b->offsets);
    for (int32_t i = b->known; i < count; i++) {
        int64_t low = 0, high = 0;
        if (atomic_load(&b->stopping))
            return;
        rd_kafka_resp_err_t error =
            b->known ? RD_KAFKA_RESP_ERR_NO_ERROR
                     : rd_kafka_query_watermark_offsets(b->rk, b->options.config->kafka_topic, i, &low, &high, ASK_MS);
        if (error) {
            snprintf(b->why, sizeof b->why, "%s", rd_kafka_err2str(error));
            return;
        }
        b->offsets[i] = b->known ? RD_KAFKA_OFFSET_BEGINNING : high;
    }
    b->found = count;
}

static void end_if_idle(struct broadcast *b);
static void begin_anew(struct broadcast *b);

static void on_timer(uv_timer_t *timer);

static void asked(uv_work_t *work, int status)
{
    struct broadcast *b = work->data;
    (void)status;
    b->asking = false;
    if (atomic_load(&b->stopping) || b->lost) {
        if (b->lost && !atomic_load(&b->stopping))
            begin_anew(b);
        end_if_idle(b);
        return;
    }
    for (int32_t i = b->known; i < b->found; i++)
        if (rd_kafka_consume_start_queue(b->topic, i, b->offsets[i], b->records) != 0)
            b->lost = true;
    b->partitions = b->found;
    if (b->partitions == 0 && b->failures % 20 == 0)
        log_info("the topic's ends cannot be read yet, trying on", "reason", b->why);
    b->failures = b->partitions == 0 ? b->failures + 1 : 0;
    int64_t next = b->partitions > 0 ? GROWN_MS : backoff_ms(b->failures, BACKOFF_BASE_MS, BACKOFF_MAX_MS);
    uv_timer_start(&b->timer, on_timer, (uint64_t)next, 0);
}

static void start_asking(struct broadcast *b)
{
    b->known = b->partitions;
    b->work.data = b;
    b->asking = uv_queue_work(b->options.loop, &b->work, ask, asked) == 0;
    if (!b->asking)
        uv_timer_start(&b->timer, on_timer, BACKOFF_MAX_MS, 0);
}

static void on_timer(uv_timer_t *timer)
{
    start_asking(timer->data);
}

/* --- whether events reach us -------------------------------------------------------------------------------------- */

/* Whether the broker of this number is connected, by librdkafka's statistics. */
static bool broker_up(const json_t *stats, json_int_t id)
{
    const char *name;
    json_t *broker;
    json_object_foreach(json_object_get(stats, "brokers"), name, broker)
    {
        const char *state = json_string_value(json_object_get(broker, "state"));
        if (json_integer_value(json_object_get(broker, "nodeid")) == id && state && strcmp(state, "UP") == 0)
            return true;
    }
    return false;
}

static bool all_read(const struct broadcast *b, const json_t *stats)
{
    const json_t *topic = json_object_get(json_object_get(stats, "topics"), b->options.config->kafka_topic);
    for (int32_t i = 0; i < b->partitions; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", (int)i);
        const json_t *p = json_object_get(json_object_get(topic, "partitions"), number);
        const char *state = json_string_value(json_object_get(p, "fetch_state"));
        if (!state || strcmp(state, "active") != 0 ||
            !broker_up(stats, json_integer_value(json_object_get(p, "leader"))))
            return false;
    }
    return b->partitions > 0;
}

static void on_statistics(struct broadcast *b, const char *text)
{
    json_t *stats = json_loads(text, 0, NULL);
    set_live(b, stats && !b->lost && all_read(b, stats));
    json_decref(stats);
}

static void on_event(struct broadcast *b, rd_kafka_event_t *event)
{
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_STATS)
        on_statistics(b, rd_kafka_event_stats(event));
    else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR &&
             rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        set_live(b, false);
}

/* --- records ------------------------------------------------------------------------------------------------------ */

static void on_record(struct broadcast *b, const rd_kafka_message_t *m)
{
    struct event event;
    enum event_type type;
    char why[160];
    if (m->err) { /* from here on something may be missing */
        log_warn("the broadcast of invalidations is broken, beginning anew", "partition", log_int(m->partition),
                 "reason", rd_kafka_message_errstr(m));
        b->lost = true;
        return;
    }
    if (!m->payload || !event_peek(m->payload, m->len, &type) || type == EVENT_NONE ||
        !(b->options.types & 1u << type) || !event_parse(m->payload, m->len, &event, why, sizeof why))
        return;
    if (event.type == type)
        b->options.on_event(b->options.arg, &event);
    event_clear(&event);
}

static void on_ready(void *arg)
{
    struct broadcast *b = arg;
    rd_kafka_message_t *messages[TAKE_MAX];
    if (!b->rk)
        return;
    for (rd_kafka_event_t *event; (event = rd_kafka_queue_poll(b->queue, 0)); rd_kafka_event_destroy(event))
        on_event(b, event);
    ssize_t count = rd_kafka_consume_batch_queue(b->records, 0, messages, TAKE_MAX);
    for (ssize_t i = 0; i < count; i++) {
        if (!b->lost)
            on_record(b, messages[i]);
        rd_kafka_message_destroy(messages[i]);
    }
    if (count == TAKE_MAX)
        poller_poke(&b->poller);
    if (b->lost)
        begin_anew(b);
}

/* --- the client --------------------------------------------------------------------------------------------------- */

static rd_kafka_conf_t *conf_of(const struct config *config)
{
    static const char *const settings[][2] = {
        /* Few large fetches, as in bus/source.c: an event waits 100 ms at most. */
        {"fetch.wait.max.ms", "100"},
        {"fetch.min.bytes", "65536"},
        {"fetch.max.bytes", "1048576"},
        {"max.partition.fetch.bytes", "131072"},
        {"queued.max.messages.kbytes", "256"},
        {"isolation.level",
         "read_uncommitted"},           /* too much dropped does no harm, and nobody's transaction is waited for */
        {"auto.offset.reset", "error"}, /* what is gone was missed */
        {"socket.timeout.ms", "3000"},  /* a broker that hangs is noticed within that time */
        {"statistics.interval.ms", "1000"},
    };
    rd_kafka_conf_t *conf = kafka_conf(config, "tidings-broadcast");
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        kafka_conf_set(conf, settings[i][0], settings[i][1]);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS);
    return conf;
}

static bool open_client(struct broadcast *b, char *why, size_t why_size)
{
    rd_kafka_conf_t *conf = conf_of(b->options.config);
    b->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, why_size);
    if (!b->rk) {
        rd_kafka_conf_destroy(conf);
        return false;
    }
    b->topic = rd_kafka_topic_new(b->rk, b->options.config->kafka_topic, NULL);
    b->queue = rd_kafka_queue_get_main(b->rk);
    b->records = rd_kafka_queue_new(b->rk);
    poller_watch(&b->poller, b->queue);
    poller_watch(&b->poller, b->records);
    b->partitions = 0;
    b->lost = false;
    start_asking(b);
    return true;
}

static void on_destroyed(void *arg);

static void close_client(struct broadcast *b)
{
    poller_unwatch(&b->poller, b->queue);
    poller_unwatch(&b->poller, b->records);
    rd_kafka_topic_destroy(b->topic);
    rd_kafka_queue_destroy(b->records);
    rd_kafka_queue_destroy(b->queue);
    b->destroyer = destroyer_start(b->options.inbox, b->rk, on_destroyed, b);
    b->rk = NULL;
}

/* The old client goes first, and the pool thread must be done with it. */
static void begin_anew(struct broadcast *b)
{
    set_live(b, false);
    if (b->asking || !b->rk)
        return;
    uv_timer_stop(&b->timer);
    close_client(b);
}

struct broadcast *broadcast_start(const struct broadcast_options *options, char *why, size_t why_size)
{
    struct broadcast *b = xcalloc(1, sizeof *b);
    b->options = *options;
    int error = poller_open(&b->poller, options->loop, WAKE_MS, on_ready, b);
    if (error != 0) {
        snprintf(why, why_size, "cannot watch Kafka's queue: %s", uv_strerror(error));
        return NULL; /* as with sources: the process does not start then, nothing is cleaned up */
    }
    uv_timer_init(options->loop, &b->timer);
    b->timer.data = b;
    return open_client(b, why, why_size) ? b : NULL;
}

/* --- stop --------------------------------------------------------------------------------------------------------- */

static void on_handle_closed(struct broadcast *b)
{
    if (--b->handles > 0)
        return;
    void (*on_stopped)(void *) = b->on_stopped;
    void *arg = b->stopped_arg;
    free(b->offsets);
    free(b);
    on_stopped(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_poller_closed(void *arg)
{
    on_handle_closed(arg);
}

static void end(struct broadcast *b)
{
    b->handles = 2;
    poller_close(&b->poller, on_poller_closed);
    uv_close((uv_handle_t *)&b->timer, on_timer_closed);
}

static void on_late(uv_timer_t *timer)
{
    struct broadcast *b = timer->data;
    log_warn("a Kafka consumer does not end in time and is left behind", "client", "broadcast");
    destroyer_abandon(b->destroyer);
    end(b);
}

static void on_reopen(uv_timer_t *timer)
{
    struct broadcast *b = timer->data;
    char why[300];
    if (!open_client(b, why, sizeof why))
        uv_timer_start(&b->timer, on_reopen, BACKOFF_MAX_MS, 0);
}

static void on_destroyed(void *arg)
{
    struct broadcast *b = arg;
    b->destroyer = NULL;
    if (atomic_load(&b->stopping))
        end(b);
    else
        uv_timer_start(&b->timer, on_reopen, (uint64_t)backoff_ms(b->failures++, BACKOFF_BASE_MS, BACKOFF_MAX_MS), 0);
}

/* Goes on with the stop when the pool thread is done: it waits ASK_MS at most. */
static void end_if_idle(struct broadcast *b)
{
    if (!atomic_load(&b->stopping) || b->asking)
        return;
    int64_t left = b->deadline_us - clock_mono_us();
    if (b->rk)
        close_client(b);
    if (b->destroyer)
        uv_timer_start(&b->timer, on_late, left > 0 ? (uint64_t)left / 1000 : 0, 0);
    else
        end(b);
}

void broadcast_stop(struct broadcast *b, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg)
{
    b->on_stopped = on_stopped;
    b->stopped_arg = arg;
    b->deadline_us = deadline_us;
    atomic_store(&b->stopping, true);
    set_live(b, false);
    uv_timer_stop(&b->timer);
    end_if_idle(b);
}
