/* The topic of counts, kept as a table of its last values. */
#include "verify/published.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/hash.h"
#include "verify/topic.h"

enum { BUCKETS = 1 << 16, TAKE = 500 };
#define COUNTS ",\"counts\":"

struct published {
    struct config config; /* with the other topic in it */
    struct topic *topic;
    int64_t *from; /* by partition: where to go on; -1: at its beginning */
    struct published_key *buckets[BUCKETS];
    size_t count;
};

uint64_t published_hash(const char *counts, size_t len)
{
    uint64_t hash = hash64(counts, len);
    return hash ? hash : 1;
}

static size_t bucket_of(struct uuid campaign, int64_t minute_us)
{
    return (size_t)((hash64(campaign.b, sizeof campaign.b) ^ (uint64_t)minute_us / 60000000 * 0x9e3779b97f4a7c15u) >>
                    8) %
           BUCKETS;
}

struct published_key *published_find(const struct published *p, struct uuid campaign, int64_t minute_us)
{
    struct published_key *k = p->buckets[bucket_of(campaign, minute_us)];
    while (k && (k->minute_us != minute_us || !uuid_equal(k->campaign, campaign)))
        k = k->next;
    return k;
}

struct published_key *published_next(const struct published *p, const struct published_key *after)
{
    size_t bucket = 0;
    if (after && after->next)
        return after->next;
    if (after)
        bucket = bucket_of(after->campaign, after->minute_us) + 1;
    while (bucket < BUCKETS && !p->buckets[bucket])
        bucket++;
    return bucket < BUCKETS ? p->buckets[bucket] : NULL;
}

static uint64_t hash_of(const rd_kafka_message_t *m)
{
    const char *value = m->payload;
    const char *at = value ? memmem(value, m->len, COUNTS, sizeof COUNTS - 1) : NULL;
    if (!value)
        return 0;
    if (!at) /* what is no value of ours agrees with nothing */
        return published_hash(value, m->len);
    at += sizeof COUNTS - 1;
    return published_hash(at, (size_t)(value + m->len - 1 - at));
}

static void keep(struct published *p, const rd_kafka_message_t *m)
{
    struct uuid campaign;
    int64_t minute_us;
    const char *key = m->key;
    if (m->key_len <= UUID_TEXT_SIZE || key[UUID_TEXT_SIZE - 1] != '/' ||
        !uuid_parse(key, UUID_TEXT_SIZE - 1, &campaign) ||
        rfc3339_parse(key + UUID_TEXT_SIZE, m->key_len - UUID_TEXT_SIZE, &minute_us) != 0)
        return;
    struct published_key *k = published_find(p, campaign, minute_us);
    if (!k) {
        struct published_key **bucket = &p->buckets[bucket_of(campaign, minute_us)];
        k = xcalloc(1, sizeof *k);
        *k = (struct published_key){.next = *bucket, .campaign = campaign, .minute_us = minute_us};
        *bucket = k;
        p->count++;
    }
    k->counts = hash_of(m);
}

static bool read_partition(struct published *p, uint32_t partition, char *why, size_t why_size)
{
    rd_kafka_message_t *messages[TAKE];
    struct topic_range range;
    size_t count;
    if (!topic_range(p->topic, partition, &range, why, why_size))
        return false;
    int64_t from = p->from[partition] < range.low ? range.low : p->from[partition];
    struct stream *s = stream_open(p->topic, partition, from, range.high, why, why_size);
    if (!s)
        return false;
    why[0] = '\0';
    while (p->count < PUBLISHED_MAX && (count = stream_take(s, messages, TAKE, why, why_size)) > 0)
        for (size_t i = 0; i < count; i++) {
            keep(p, messages[i]);
            rd_kafka_message_destroy(messages[i]);
        }
    stream_close(s);
    p->from[partition] = range.high;
    return why[0] == '\0';
}

bool published_read(struct published *p, bool *full, char *why, size_t why_size)
{
    bool ok = true;
    for (uint32_t i = 0; ok && i < topic_partitions(p->topic); i++)
        ok = read_partition(p, i, why, why_size);
    *full = p->count >= PUBLISHED_MAX;
    return ok;
}

struct published *published_open(const struct config *config, char *why, size_t why_size)
{
    struct published *p = xcalloc(1, sizeof *p);
    p->config = *config;
    p->config.kafka_topic = config->stats_topic;
    p->topic = topic_open(&p->config, 1, why, why_size);
    if (!p->topic) {
        free(p);
        return NULL;
    }
    p->from = xmalloc(topic_partitions(p->topic) * sizeof *p->from);
    for (uint32_t i = 0; i < topic_partitions(p->topic); i++)
        p->from[i] = -1;
    return p;
}

void published_close(struct published *p)
{
    if (!p)
        return;
    for (struct published_key *k = published_next(p, NULL), *next; k; k = next) {
        next = published_next(p, k);
        free(k);
    }
    topic_close(p->topic);
    free(p->from);
    free(p);
}
