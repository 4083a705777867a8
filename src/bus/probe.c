/* Asks the cluster about the topic: a short-lived client of its own, so that nothing else is held up. */
#include "bus/probe.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/kafka.h"

/* The errors that the client met meanwhile: they tell more than that there was no answer. */
static void read_errors(rd_kafka_t *rk, struct kafka_trouble *out)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
    for (rd_kafka_event_t *event; (event = rd_kafka_queue_poll(queue, 0)); rd_kafka_event_destroy(event))
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            kafka_trouble_note(out, rd_kafka_event_error(event), rd_kafka_event_error_string(event));
    rd_kafka_queue_destroy(queue);
}

static bool read_metadata(rd_kafka_t *rk, const struct config *config, int timeout_ms, struct topic_facts *out,
                          char *why, size_t why_size)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, config->kafka_topic, NULL);
    rd_kafka_resp_err_t error = rd_kafka_metadata(rk, 0, topic, &md, timeout_ms);
    rd_kafka_topic_destroy(topic);
    if (error) {
        struct kafka_trouble trouble = {.text = ""};
        read_errors(rk, &trouble);
        snprintf(why, why_size, "no answer from KAFKA_BROKERS: %s",
                 trouble.text[0] ? trouble.text : rd_kafka_err2str(error));
        return false;
    }
    const struct rd_kafka_metadata_topic *t = &md->topics[0];
    bool ok = md->topic_cnt == 1 && t->err == RD_KAFKA_RESP_ERR_NO_ERROR && t->partition_cnt > 0;
    if (!ok)
        snprintf(why, why_size, "topic %s: %s", config->kafka_topic,
                 md->topic_cnt == 1 ? rd_kafka_err2str(t->err) : "not described by the cluster");
    *out = (struct topic_facts){.replicas = UINT32_MAX, .min_insync_replicas = -1, .max_message_bytes = -1};
    for (int i = 0; ok && i < t->partition_cnt; i++)
        if ((uint32_t)t->partitions[i].replica_cnt < out->replicas)
            out->replicas = (uint32_t)t->partitions[i].replica_cnt;
    out->partitions = ok ? (uint32_t)t->partition_cnt : 0;
    rd_kafka_metadata_destroy(md);
    return ok;
}

static void keep_entries(const rd_kafka_ConfigResource_t *resource, struct topic_facts *out)
{
    size_t count = 0;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    for (size_t i = 0; i < count; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (!value)
            continue;
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "min.insync.replicas") == 0)
            out->min_insync_replicas = strtoll(value, NULL, 10);
        else if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "max.message.bytes") == 0)
            out->max_message_bytes = strtoll(value, NULL, 10);
    }
}

/* The topic's own settings; a cluster that does not let us ask is no obstacle. */
static void read_settings(rd_kafka_t *rk, const struct config *config, int timeout_ms, struct topic_facts *out)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, config->kafka_topic);
    rd_kafka_DescribeConfigs(rk, &resource, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms);
    const rd_kafka_DescribeConfigs_result_t *result = event ? rd_kafka_event_DescribeConfigs_result(event) : NULL;
    size_t count = 0;
    const rd_kafka_ConfigResource_t **resources =
        result ? rd_kafka_DescribeConfigs_result_resources(result, &count) : NULL;
    if (count == 1 && rd_kafka_ConfigResource_error(resources[0]) == RD_KAFKA_RESP_ERR_NO_ERROR)
        keep_entries(resources[0], out);
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_queue_destroy(queue);
}

bool topic_probe(const struct config *config, int timeout_ms, struct topic_facts *out, char *why, size_t why_size)
{
    rd_kafka_conf_t *conf = kafka_conf(config, "tidings-probe");
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, why_size);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        return false;
    }
    bool ok = read_metadata(rk, config, timeout_ms, out, why, why_size);
    if (ok)
        read_settings(rk, config, timeout_ms, out);
    rd_kafka_destroy(rk);
    return ok;
}
