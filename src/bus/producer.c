/* The idempotent producer, its delivery reports polled on the loop. */
#include "bus/producer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/kafka.h"
#include "bus/poller.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

#define LOG_EVERY_US 30000000

struct producer {
    uv_loop_t *loop;
    struct producer_options options;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    struct poller poller;
    uv_work_t work;
    struct kafka_trouble trouble; /* since the last delivery */
    int64_t logged_us;
    bool closing;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static void on_reports(struct producer *p, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *m;
    while (!p->closing && (m = rd_kafka_event_message_next(event)) != NULL) {
        if (!m->err && p->trouble.text[0])
            p->trouble = (struct kafka_trouble){.text = ""};
        p->options.on_ack(p->options.arg, m->partition, (int64_t)(intptr_t)m->_private, m->err);
    }
}

/* A single broker that refuses us holds its partitions up, though not all brokers are down. */
static void log_refusal(struct producer *p)
{
    int64_t now = clock_mono_us();
    if (!p->trouble.refused || (p->logged_us != 0 && now - p->logged_us < LOG_EVERY_US))
        return;
    p->logged_us = now;
    log_warn("a Kafka broker cannot be used, trying on", "reason", p->trouble.text);
}

static void on_error(struct producer *p, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    const char *text = rd_kafka_event_error_string(event);
    if (rd_kafka_event_error_is_fatal(event) || error == RD_KAFKA_RESP_ERR__FATAL) {
        p->options.on_fatal(p->options.arg, text);
        return;
    }
    kafka_trouble_note(&p->trouble, error, text);
    log_refusal(p);
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        p->options.on_brokers_down(p->options.arg, p->trouble.text);
    log_debug("Kafka producer", "error", rd_kafka_err2name(error), "text", text);
}

/* The queue's signal is edge-triggered: drain to empty. */
static void on_ready(void *arg)
{
    struct producer *p = arg;
    rd_kafka_event_t *event;
    bool acks = false;
    while (!p->closing && (event = rd_kafka_queue_poll(p->queue, 0)) != NULL) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
            on_reports(p, event);
            acks = true;
        } else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR) {
            on_error(p, event);
        }
        rd_kafka_event_destroy(event);
    }
    if (acks && !p->closing)
        p->options.on_acks_end(p->options.arg);
}

/* The broker refuses a batch larger than the topic takes, and with that all events in it. */
static void set_sizes(rd_kafka_conf_t *conf, int64_t max_message_bytes)
{
    enum { LEAST = 1000, MOST = 1000000, BATCH_OVERHEAD = 200 };
    char text[32];
    if (max_message_bytes < 0 || max_message_bytes > MOST)
        return;
    int64_t bytes = max_message_bytes < LEAST + BATCH_OVERHEAD ? LEAST : max_message_bytes - BATCH_OVERHEAD;
    snprintf(text, sizeof text, "%" PRId64, bytes);
    kafka_conf_set(conf, "message.max.bytes", text);
    kafka_conf_set(conf, "batch.size", text);
}

static rd_kafka_conf_t *producer_conf(const struct config *config)
{
    char linger[32];
    snprintf(linger, sizeof linger, "%" PRId64, config->kafka_linger_ms);
    rd_kafka_conf_t *conf = kafka_conf(config, "tidings-relay");
    kafka_conf_set(conf, "enable.idempotence", "true");
    kafka_conf_set(conf, "enable.gapless.guarantee", "true");
    kafka_conf_set(conf, "acks", "all");
    kafka_conf_set(conf, "max.in.flight.requests.per.connection", "5");
    kafka_conf_set(conf, "linger.ms", linger);
    kafka_conf_set(conf, "compression.type", "lz4");
    kafka_conf_set(conf, "queue.buffering.max.messages", "1000000"); /* the relay's windows bound it */
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    return conf;
}

struct producer *producer_open(uv_loop_t *loop, const struct producer_options *options, char *why, size_t why_size)
{
    struct producer *p = xcalloc(1, sizeof *p);
    p->loop = loop;
    p->options = *options;
    rd_kafka_conf_t *conf = producer_conf(options->config);
    set_sizes(conf, options->max_message_bytes);
    p->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, why_size);
    if (!p->rk) {
        rd_kafka_conf_destroy(conf);
        free(p);
        return NULL;
    }
    if (poller_open(&p->poller, loop, 50, on_ready, p) != 0) {
        snprintf(why, why_size, "no descriptor is left for a Kafka producer");
        rd_kafka_destroy(p->rk);
        free(p);
        return NULL;
    }
    rd_kafka_topic_conf_t *topic_conf = rd_kafka_topic_conf_new();
    char ignored[128];
    rd_kafka_topic_conf_set(topic_conf, "message.timeout.ms", "0", ignored, sizeof ignored);
    p->topic = rd_kafka_topic_new(p->rk, options->config->kafka_topic, topic_conf);
    p->queue = rd_kafka_queue_get_main(p->rk);
    poller_watch(&p->poller, p->queue);
    return p;
}

enum producer_result producer_send(struct producer *p, int32_t partition, const void *key, size_t key_len,
                                   const void *value, size_t value_len, const struct producer_header *headers,
                                   size_t header_count, int64_t tag, rd_kafka_resp_err_t *error)
{
    rd_kafka_headers_t *list = rd_kafka_headers_new(header_count);
    for (size_t i = 0; i < header_count; i++)
        rd_kafka_header_add(list, headers[i].name, (ssize_t)headers[i].name_len, headers[i].value,
                            (ssize_t)headers[i].value_len);
    *error = rd_kafka_producev(p->rk, RD_KAFKA_V_RKT(p->topic), RD_KAFKA_V_PARTITION(partition),
                               RD_KAFKA_V_KEY(key, key_len), RD_KAFKA_V_VALUE((void *)(uintptr_t)value, value_len),
                               RD_KAFKA_V_HEADERS(list), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                               RD_KAFKA_V_OPAQUE((void *)(intptr_t)tag), RD_KAFKA_V_END);
    if (*error == RD_KAFKA_RESP_ERR_NO_ERROR)
        return PRODUCER_SENT;
    rd_kafka_headers_destroy(list); /* ours again when the call fails */
    return *error == RD_KAFKA_RESP_ERR__QUEUE_FULL ? PRODUCER_FULL : PRODUCER_REFUSED;
}

/* --- close ------------------------------------------------------------------------------------------------------ */

static void destroy_work(uv_work_t *work)
{
    struct producer *p = work->data;
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_queue_destroy(p->queue);
    rd_kafka_topic_destroy(p->topic);
    rd_kafka_destroy(p->rk); /* joins its threads */
}

static void destroy_done(uv_work_t *work, int status)
{
    struct producer *p = work->data;
    (void)status;
    void (*on_closed)(void *) = p->on_closed;
    void *arg = p->closed_arg;
    free(p);
    if (on_closed)
        on_closed(arg);
}

static void on_poller_closed(void *arg)
{
    struct producer *p = arg;
    p->work.data = p;
    if (uv_queue_work(p->loop, &p->work, destroy_work, destroy_done) != 0) {
        destroy_work(&p->work);
        destroy_done(&p->work, 0);
    }
}

void producer_close(struct producer *p, void (*on_closed)(void *arg), void *arg)
{
    p->closing = true;
    p->on_closed = on_closed;
    p->closed_arg = arg;
    poller_unwatch(&p->poller, p->queue);
    poller_close(&p->poller, on_poller_closed);
}
