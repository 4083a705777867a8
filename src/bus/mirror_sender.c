/* Copies of dead letters: a producer for each batch. They are rare, and so nothing of it is left between them. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

#include "bus/kafka.h"
#include "consumers/mirror.h"
#include "core/clock.h"

#define TIMEOUT_MS 5000
#define LATE_US 500000 /* the client itself gives up before */
#define POLL_MS 100
#define PURGE_MS 200

struct batch {
    size_t open; /* not yet known what becomes of them */
    rd_kafka_resp_err_t error;
};

/* Called from within rd_kafka_poll. */
static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct batch *b = opaque;
    struct mirror_record *record = m->_private;
    (void)rk;
    b->open--;
    record->sent = m->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (m->err)
        b->error = m->err;
}

/* The caller's transaction waits meanwhile, and Postgres ends one that waits for three times DB_STALL_MS. */
static int64_t timeout_ms(const struct config *config)
{
    return config->db_stall_ms * 2 < TIMEOUT_MS ? config->db_stall_ms * 2 : TIMEOUT_MS;
}

static rd_kafka_conf_t *conf_of(const struct config *config, struct batch *b)
{
    char timeout[24];
    snprintf(timeout, sizeof timeout, "%lld", (long long)timeout_ms(config));
    rd_kafka_conf_t *conf = kafka_conf(config, "dead-letters");
    kafka_conf_set(conf, "enable.idempotence", "true");
    kafka_conf_set(conf, "acks", "all");
    kafka_conf_set(conf, "partitioner", "murmur2_random");
    kafka_conf_set(conf, "message.timeout.ms", timeout);
    kafka_conf_set(conf, "topic.metadata.propagation.max.ms", timeout);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_conf_set_opaque(conf, b);
    return conf;
}

static rd_kafka_headers_t *headers_of(const struct mirror_record *record)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(MIRROR_HEADERS);
    for (size_t i = 0; i < MIRROR_HEADERS; i++)
        if (record->headers[i].name && record->headers[i].value)
            rd_kafka_header_add(headers, record->headers[i].name, -1, record->headers[i].value, -1);
    return headers;
}

static void produce(rd_kafka_t *rk, const char *topic, struct mirror_record *record, struct batch *b)
{
    rd_kafka_headers_t *headers = headers_of(record);
    rd_kafka_resp_err_t error =
        rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                          RD_KAFKA_V_KEY((void *)(uintptr_t)record->key, record->key_len),
                          RD_KAFKA_V_VALUE((void *)(uintptr_t)record->value, record->value_len),
                          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(record), RD_KAFKA_V_END);
    if (error) {
        rd_kafka_headers_destroy(headers);
        b->error = error;
    } else {
        b->open++;
    }
}

bool mirror_send(const struct config *config, const char *topic, struct mirror_record *records, size_t count,
                 const _Atomic int64_t *stop_at, char *why, size_t why_size)
{
    struct batch b = {.error = RD_KAFKA_RESP_ERR_NO_ERROR};
    rd_kafka_conf_t *conf = conf_of(config, &b);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, why_size);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        return false;
    }
    int64_t until_us = clock_mono_us() + timeout_ms(config) * 1000 + LATE_US;
    for (size_t i = 0; i < count; i++)
        produce(rk, topic, &records[i], &b);
    while (b.open > 0 && clock_mono_us() < until_us && atomic_load(stop_at) == 0)
        rd_kafka_poll(rk, POLL_MS);
    rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(rk, PURGE_MS);
    bool ok = b.open == 0 && !b.error;
    if (!ok)
        snprintf(why, why_size, "%s", b.error ? rd_kafka_err2str(b.error) : "no answer in time");
    rd_kafka_destroy(rk);
    return ok;
}
