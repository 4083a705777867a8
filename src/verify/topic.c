/* The topic, by librdkafka's simple consumer: no group, so nothing is committed and nobody is disturbed. */
#include "verify/topic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus/kafka.h"
#include "core/buf.h"
#include "core/clock.h"

enum {
    ASK_MS = 15000,   /* for the answer to a question */
    STALL_MS = 30000, /* for the next record, of which there is one */
    WAIT_MS = 100,
    AHEAD_KBYTES = 4096,   /* fetched ahead in all */
    AHEAD_MIN_KBYTES = 256 /* per partition at least */
};

struct topic {
    const struct config *config;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    uint32_t partitions;
    struct kafka_trouble trouble;
};

struct stream {
    struct topic *topic;
    int32_t partition;
    int64_t at, to; /* the next offset, as far as is known; where it ends */
    bool started, ended;
};

/* The errors that the client met: they tell more than that there was no answer. */
static const char *trouble(struct topic *t, const char *otherwise)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(t->rk);
    for (rd_kafka_event_t *event; (event = rd_kafka_queue_poll(queue, 0)); rd_kafka_event_destroy(event))
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            kafka_trouble_note(&t->trouble, rd_kafka_event_error(event), rd_kafka_event_error_string(event));
    rd_kafka_queue_destroy(queue);
    return t->trouble.text[0] ? t->trouble.text : otherwise;
}

static bool read_partitions(struct topic *t, char *why, size_t why_size)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_resp_err_t error = rd_kafka_metadata(t->rk, 0, t->topic, &md, ASK_MS);
    if (error) {
        snprintf(why, why_size, "no answer from KAFKA_BROKERS: %s", trouble(t, rd_kafka_err2str(error)));
        return false;
    }
    bool ok = md->topic_cnt == 1 && !md->topics[0].err && md->topics[0].partition_cnt > 0;
    if (!ok)
        snprintf(why, why_size, "topic %s: %s", t->config->kafka_topic,
                 md->topic_cnt == 1 ? rd_kafka_err2str(md->topics[0].err) : "not described by the cluster");
    t->partitions = ok ? (uint32_t)md->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(md);
    return ok;
}

static rd_kafka_conf_t *reader_conf(const struct config *config, uint32_t streams)
{
    static const char *const settings[][2] = {
        {"enable.auto.commit", "false"},         {"auto.offset.reset", "error"}, {"isolation.level", "read_committed"},
        {"enable.partition.eof", "true"},        {"fetch.wait.max.ms", "100"},   {"fetch.max.bytes", "4194304"},
        {"max.partition.fetch.bytes", "1048576"}};
    rd_kafka_conf_t *conf = kafka_conf(config, "verify");
    char kbytes[16];
    uint32_t each = AHEAD_KBYTES / (streams ? streams : 1);
    rd_kafka_conf_set_log_cb(conf, NULL); /* one sentence at the end is enough */
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        kafka_conf_set(conf, settings[i][0], settings[i][1]);
    snprintf(kbytes, sizeof kbytes, "%" PRIu32, each > AHEAD_MIN_KBYTES ? each : AHEAD_MIN_KBYTES);
    kafka_conf_set(conf, "queued.max.messages.kbytes", kbytes);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR);
    return conf;
}

struct topic *topic_open(const struct config *config, uint32_t streams, char *why, size_t why_size)
{
    rd_kafka_conf_t *conf = reader_conf(config, streams);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, why_size);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    struct topic *t = xcalloc(1, sizeof *t);
    t->config = config;
    t->rk = rk;
    t->topic = rd_kafka_topic_new(rk, config->kafka_topic, NULL);
    if (read_partitions(t, why, why_size))
        return t;
    topic_close(t);
    return NULL;
}

void topic_close(struct topic *t)
{
    rd_kafka_topic_destroy(t->topic);
    rd_kafka_destroy(t->rk);
    free(t);
}

uint32_t topic_partitions(const struct topic *t)
{
    return t->partitions;
}

/* --- questions --- */

/* Whether an answer will be another one soon: no leader for the moment, or the client does not know the partition yet. */
static bool passes(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION || error == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE ||
           error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
           error == RD_KAFKA_RESP_ERR__TRANSPORT;
}

bool topic_range(struct topic *t, uint32_t partition, struct topic_range *out, char *why, size_t why_size)
{
    int64_t deadline = clock_mono_us() + ASK_MS * 1000;
    rd_kafka_resp_err_t error;
    while ((error = rd_kafka_query_watermark_offsets(t->rk, t->config->kafka_topic, (int32_t)partition, &out->low,
                                                     &out->high, ASK_MS)) &&
           passes(error) && clock_mono_us() < deadline)
        usleep(WAIT_MS * 1000);
    if (error)
        snprintf(why, why_size, "Kafka does not tell where partition %" PRIu32 " ends: %s", partition,
                 trouble(t, rd_kafka_err2str(error)));
    return !error;
}

bool topic_offset_at(struct topic *t, uint32_t partition, int64_t at_ms, struct topic_range range, int64_t *out,
                     char *why, size_t why_size)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_add(list, t->config->kafka_topic, (int32_t)partition);
    p->offset = at_ms > 0 ? at_ms : 0;
    rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(t->rk, list, ASK_MS);
    if (!error)
        error = p->err;
    if (error)
        snprintf(why, why_size, "Kafka does not tell where a time is in partition %" PRIu32 ": %s", partition,
                 trouble(t, rd_kafka_err2str(error)));
    *out = p->offset < 0 || p->offset > range.high ? range.high : p->offset;
    rd_kafka_topic_partition_list_destroy(list);
    return !error;
}

static rd_kafka_topic_partition_list_t *all_partitions(const struct topic *t)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)t->partitions);
    for (uint32_t p = 0; p < t->partitions; p++)
        rd_kafka_topic_partition_list_add(list, t->config->kafka_topic, (int32_t)p);
    return list;
}

/* NULL: they were read. */
static const char *keep_committed(rd_kafka_event_t *event, uint32_t partitions, int64_t *out)
{
    if (rd_kafka_event_error(event))
        return rd_kafka_event_error_string(event);
    size_t count = 0;
    const rd_kafka_group_result_t **groups =
        rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(event), &count);
    const rd_kafka_error_t *error = count == 1 ? rd_kafka_group_result_error(groups[0]) : NULL;
    if (count != 1 || error)
        return error ? rd_kafka_error_string(error) : "the group is not described";
    const rd_kafka_topic_partition_list_t *list = rd_kafka_group_result_partitions(groups[0]);
    for (int i = 0; list && i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &list->elems[i];
        if (p->err)
            return rd_kafka_err2str(p->err);
        if (p->partition >= 0 && (uint32_t)p->partition < partitions)
            out[p->partition] = p->offset >= 0 ? p->offset : -1;
    }
    return NULL;
}

bool topic_committed(struct topic *t, const char *group, int64_t *out, char *why, size_t why_size)
{
    for (uint32_t p = 0; p < t->partitions; p++)
        out[p] = -1;
    struct buf name = {0};
    buf_printf(&name, "%s%s", t->config->kafka_group_prefix, group);
    rd_kafka_topic_partition_list_t *list = all_partitions(t);
    rd_kafka_ListConsumerGroupOffsets_t *question = rd_kafka_ListConsumerGroupOffsets_new(buf_cstr(&name), list);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(t->rk);
    rd_kafka_ListConsumerGroupOffsets(t->rk, &question, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * ASK_MS);
    const char *wrong = event ? keep_committed(event, t->partitions, out) : "no answer";
    if (wrong)
        snprintf(why, why_size, "Kafka does not tell the offsets of group %s: %s", buf_cstr(&name), trouble(t, wrong));
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_ListConsumerGroupOffsets_destroy(question);
    rd_kafka_queue_destroy(queue);
    buf_free(&name);
    return !wrong;
}

int64_t topic_lag(struct topic_range range, int64_t committed)
{
    int64_t from = committed > range.low ? committed : range.low;
    return range.high > from ? range.high - from : 0;
}

/* --- records --- */

struct stream *stream_open(struct topic *t, uint32_t partition, int64_t from, int64_t to, char *why, size_t why_size)
{
    struct stream *s = xcalloc(1, sizeof *s);
    s->topic = t;
    s->partition = (int32_t)partition;
    s->at = from;
    s->to = to;
    s->ended = from >= to;
    s->started = !s->ended && rd_kafka_consume_start(t->topic, s->partition, from) == 0;
    if (s->ended || s->started)
        return s;
    snprintf(why, why_size, "partition %" PRIu32 " cannot be read: %s", partition,
             rd_kafka_err2str(rd_kafka_last_error()));
    free(s);
    return NULL;
}

void stream_close(struct stream *s)
{
    if (s && s->started)
        rd_kafka_consume_stop(s->topic->topic, s->partition);
    free(s);
}

/* Whether a message is a record within the range; else it is taken in for what it says. False in *ok: it cannot go on. */
static bool is_record(struct stream *s, const rd_kafka_message_t *m, bool *ok, char *why, size_t why_size)
{
    if (!m->err) {
        s->ended = s->ended || m->offset >= s->to;
        if (!s->ended)
            s->at = m->offset + 1;
        s->ended = s->ended || s->at >= s->to;
        return m->offset < s->to;
    }
    if (m->err ==
        RD_KAFKA_RESP_ERR__PARTITION_EOF) { /* what is left before `to` are no records but transactions' marks */
        s->ended = s->ended || m->offset >= s->to;
    } else if (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || m->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) {
        snprintf(why, why_size, "Kafka deleted records of partition %d while they were to be read: try again",
                 (int)s->partition);
        *ok = false;
    } else {
        kafka_trouble_note(&s->topic->trouble, m->err, rd_kafka_message_errstr(m));
    }
    return false;
}

static size_t keep_records(struct stream *s, rd_kafka_message_t **messages, size_t count, bool *ok, char *why,
                           size_t why_size)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_record(s, messages[i], ok, why, why_size))
            messages[kept++] = messages[i];
        else
            rd_kafka_message_destroy(messages[i]);
    }
    return kept;
}

/* A client that has fetched enough sleeps for a second, and does not notice when that has been taken. Any request wakes it. */
static void wake(struct stream *s)
{
    int64_t low, high;
    rd_kafka_query_watermark_offsets(s->topic->rk, s->topic->config->kafka_topic, s->partition, &low, &high, WAIT_MS);
}

size_t stream_take(struct stream *s, rd_kafka_message_t **out, size_t max, char *why, size_t why_size)
{
    rd_kafka_topic_t *topic = s->topic->topic;
    int64_t deadline = clock_mono_us() + STALL_MS * 1000;
    bool ok = true;
    why[0] = '\0';
    while (ok && !s->ended) {
        ssize_t n = rd_kafka_consume_batch(topic, s->partition, 0, out, max); /* with a time it would wait for max */
        if (n <= 0) {
            wake(s);
            out[0] = rd_kafka_consume(topic, s->partition, WAIT_MS);
            n = out[0] ? 1 : 0;
        }
        size_t kept = keep_records(s, out, n > 0 ? (size_t)n : 0, &ok, why, why_size);
        if (kept > 0)
            return kept;
        if (ok && !s->ended && clock_mono_us() > deadline) {
            snprintf(why, why_size, "no record of partition %d from offset %" PRId64 " on came in %d s: %s",
                     (int)s->partition, s->at, STALL_MS / 1000, trouble(s->topic, "Kafka gives no reason"));
            ok = false;
        }
    }
    return 0;
}
