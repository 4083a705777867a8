/* Reads the topic's ends with a short-lived consumer that belongs to no group. */
#include "bus/tail.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/kafka.h"
#include "core/clock.h"
#include "domain/event.h"

static rd_kafka_t *make_client(const struct config *config, char *why, size_t why_size)
{
    static const char *const properties[][2] = {
        {"enable.partition.eof", "true"}, /* a partition that has nothing says so */
        {"fetch.wait.max.ms", "10"},      /* and at once */
        {"isolation.level", "read_committed"},
        {"queued.max.messages.kbytes", "1024"},
    };
    rd_kafka_conf_t *conf = kafka_conf(config, "tidings-tail");
    for (size_t i = 0; i < sizeof properties / sizeof *properties; i++)
        kafka_conf_set(conf, properties[i][0], properties[i][1]);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, why_size);
    if (!rk)
        rd_kafka_conf_destroy(conf);
    return rk;
}

/* Anyone may write to a topic: only what carries the header that we send, with the id that the value has, is ours. */
static bool is_ours(const rd_kafka_message_t *m, const struct event *event)
{
    rd_kafka_headers_t *headers;
    const void *value;
    size_t len;
    struct uuid id;
    return rd_kafka_message_headers(m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           rd_kafka_header_get_last(headers, "ce_id", &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR && value &&
           uuid_parse(value, len, &id) && uuid_equal(id, event->id);
}

static void keep(const rd_kafka_message_t *m, struct topic_tail *out)
{
    char why[256];
    struct event event;
    struct uuid key;
    if (!m->payload || !m->key || !uuid_parse(m->key, m->key_len, &key) ||
        !event_parse(m->payload, m->len, &event, why, sizeof why))
        return;
    if (event.type != EVENT_NONE && is_ours(m, &event))
        out->events[out->count++] = (struct tail_event){.aggregate = key, .id = event.id, .version = event.version};
    event_clear(&event);
}

/* One record, or the word that there is none, of each partition. Returns how many partitions did not answer. */
static uint32_t collect(rd_kafka_queue_t *queue, uint32_t partitions, int timeout_ms, struct topic_tail *out, char *why,
                        size_t why_size)
{
    bool *done = xcalloc(partitions, sizeof *done);
    uint32_t left = partitions;
    int64_t end_us = clock_mono_us() + timeout_ms * 1000LL;
    snprintf(why, why_size, "the topic's ends could not be read in time");
    while (left > 0) {
        int64_t wait_us = end_us - clock_mono_us();
        rd_kafka_message_t *m = wait_us > 0 ? rd_kafka_consume_queue(queue, (int)(wait_us / 1000) + 1) : NULL;
        if (!m)
            break;
        bool ours = m->partition >= 0 && (uint32_t)m->partition < partitions && !done[m->partition];
        if (ours && (m->err == RD_KAFKA_RESP_ERR_NO_ERROR || m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)) {
            done[m->partition] = true;
            left--;
            if (!m->err)
                keep(m, out);
        } else if (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            snprintf(why, why_size, "the topic's ends cannot be read: %s", rd_kafka_message_errstr(m));
        }
        rd_kafka_message_destroy(m);
    }
    free(done);
    return left;
}

/* Partitions whose leader is not known yet when their offsets are asked for wait half a second. */
static void learn_leaders(rd_kafka_t *rk, rd_kafka_topic_t *topic, int timeout_ms)
{
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(rk, 0, topic, &metadata, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
}

bool topic_tail_read(const struct config *config, uint32_t partitions, int timeout_ms, struct topic_tail *out,
                     char *why, size_t why_size)
{
    *out = (struct topic_tail){.events = NULL};
    rd_kafka_t *rk = make_client(config, why, why_size);
    if (!rk)
        return false;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, config->kafka_topic, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    uint32_t started = 0;
    out->events = xcalloc(partitions, sizeof *out->events);
    learn_leaders(rk, topic, timeout_ms / 2);
    while (started < partitions &&
           rd_kafka_consume_start_queue(topic, (int32_t)started, RD_KAFKA_OFFSET_TAIL(1), queue) == 0)
        started++;
    if (started < partitions)
        snprintf(why, why_size, "the topic's ends cannot be read: %s", rd_kafka_err2str(rd_kafka_last_error()));
    bool ok = started == partitions && collect(queue, partitions, timeout_ms, out, why, why_size) == 0;
    for (uint32_t i = 0; i < started; i++)
        rd_kafka_consume_stop(topic, (int32_t)i);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    if (!ok)
        topic_tail_free(out);
    return ok;
}

void topic_tail_free(struct topic_tail *tail)
{
    free(tail->events);
    *tail = (struct topic_tail){.events = NULL};
}

void topic_tail_arrays(const struct topic_tail *tail, struct buf out[TAIL_ARRAYS])
{
    for (size_t i = 0; i < tail->count; i++) {
        const struct tail_event *e = &tail->events[i];
        char aggregate[UUID_TEXT_SIZE], id[UUID_TEXT_SIZE];
        uuid_format(e->aggregate, aggregate);
        uuid_format(e->id, id);
        buf_printf(&out[0], "%c%s", i ? ',' : '{', aggregate);
        buf_printf(&out[1], "%c%" PRId64, i ? ',' : '{', e->version);
        buf_printf(&out[2], "%c%s", i ? ',' : '{', id);
    }
    for (int i = 0; i < TAIL_ARRAYS; i++)
        buf_adds(&out[i], tail->count ? "}" : "{}");
}
