/* What arrives in a topic, for the benches of relays and groups. Prints lines of NAME VALUE… to standard output.
 *
 * topic BROKERS TOPIC fill N KEYS      N events of sign-ups over KEYS campaigns in turns, each campaign's versions in order
 * topic BROKERS TOPIC wait N START_S STALL_S
 *                                      "first N MONO_S" when records are there, "all N MONO_S" when there are N of them, or
 *                                      "stalled N MONO_S" when none came for START_S from the start, or STALL_S later
 * topic BROKERS TOPIC check            reads all there is: records, bytes, a sum that tells whether the values are the same
 *                                      ones in whatever order, and whether each key's versions came in order
 * topic BROKERS TOPIC follow SKIP_S S  "ready", then after SKIP_S the time from each record's own timestamp to its arrival
 *                                      here, for S seconds */
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ASK_MS = 10000, POLL_US = 5000, MOST_KEYS = 1 << 16 };

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "topic: %s: %s\n", what, why);
    exit(1);
}

static double mono_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int64_t wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* --- the client ------------------------------------------------------------------------------------------------- */

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        fail(name, why);
}

static rd_kafka_t *consumer_new(const char *brokers)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", "topic"); /* asked for; nothing is committed */
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.partition.eof", "true");
    set(conf, "isolation.level", "read_committed");
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!rk)
        fail("consumer", why);
    rd_kafka_poll_set_consumer(rk);
    return rk;
}

static rd_kafka_topic_partition_list_t *partitions_of(rd_kafka_t *rk, const char *name)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    rd_kafka_resp_err_t error = rd_kafka_metadata(rk, 0, topic, &metadata, ASK_MS);
    if (error || metadata->topics[0].partition_cnt < 1)
        fail(name, error ? rd_kafka_err2str(error) : "there is no such topic");
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(metadata->topics[0].partition_cnt);
    for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
        rd_kafka_topic_partition_list_add(list, name, i);
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(topic);
    return list;
}

/* A new topic's leaders are not known everywhere at once. */
static void find_ends(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list)
{
    for (double until = mono_s() + ASK_MS / 1e3;;) {
        for (int i = 0; i < list->cnt; i++)
            list->elems[i].offset = RD_KAFKA_OFFSET_END;
        rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(rk, list, ASK_MS);
        for (int i = 0; i < list->cnt && !error; i++)
            error = list->elems[i].err;
        if (!error)
            return;
        if (mono_s() > until)
            fail("the topic's ends", rd_kafka_err2str(error));
        usleep(20 * POLL_US);
    }
}

static int64_t sum(const rd_kafka_topic_partition_list_t *list)
{
    int64_t total = 0;
    for (int i = 0; i < list->cnt; i++)
        total += list->elems[i].offset > 0 ? list->elems[i].offset : 0;
    return total;
}

/* --- wait ------------------------------------------------------------------------------------------------------- */

static void wait_for(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list, int64_t wanted, double start_s,
                     double stall_s)
{
    int64_t before = 0;
    double moved = mono_s();
    for (;;) {
        find_ends(rk, list);
        int64_t there = sum(list);
        double now = mono_s();
        if (before == 0 && there > 0)
            printf("first %lld %.6f\n", (long long)there, now);
        if (there >= wanted || now - moved > (before ? stall_s : start_s)) {
            printf("%s %lld %.6f\n", there >= wanted ? "all" : "stalled", (long long)there, now);
            return;
        }
        if (there > before)
            moved = now;
        before = there;
        usleep(POLL_US);
    }
}

/* --- what a value says ------------------------------------------------------------------------------------------ */

static const char *member(const rd_kafka_message_t *m, const char *name)
{
    const char *at = memmem(m->payload, m->len, name, strlen(name));
    return at ? at + strlen(name) : NULL;
}

static int64_t version_of(const rd_kafka_message_t *m)
{
    const char *at = member(m, "\"version\":"), *end = (const char *)m->payload + m->len;
    int64_t version = 0;
    for (; at && at < end && *at >= '0' && *at <= '9'; at++)
        version = version * 10 + (*at - '0');
    return version;
}

/* "2025-01-01T12:00:00.123456Z"; -1: there is none. */
static int64_t timestamp_us(const rd_kafka_message_t *m)
{
    const char *at = member(m, "\"timestamp\":\"");
    struct tm tm = {0};
    int us;
    char text[32] = {0};
    if (!at || at + 27 > (const char *)m->payload + m->len)
        return -1;
    memcpy(text, at, 27);
    if (sscanf(text, "%d-%d-%dT%d:%d:%d.%6dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec, &us) != 7)
        return -1;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (int64_t)timegm(&tm) * 1000000 + us;
}

/* --- check ------------------------------------------------------------------------------------------------------ */

struct seen {
    char key[64];
    size_t len; /* 0: a free place */
    int64_t version;
};

static uint64_t hash(const void *data, size_t len)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return h;
}

static struct seen *seen_of(struct seen *all, const rd_kafka_message_t *m, int *keys)
{
    size_t len = m->key_len < sizeof all->key ? m->key_len : sizeof all->key;
    uint64_t h = hash(m->key, len);
    struct seen *s;
    while ((s = &all[h++ % MOST_KEYS])->len)
        if (s->len == len && memcmp(s->key, m->key, len) == 0)
            return s;
    if (len == 0 || ++*keys == MOST_KEYS)
        fail("check", "records without keys, or too many keys");
    memcpy(s->key, m->key, len);
    s->len = len;
    return s;
}

static void check(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list)
{
    struct seen *all = calloc(MOST_KEYS, sizeof *all);
    long long records = 0, bytes = 0, repeats = 0, jumps = 0;
    uint64_t values = 0;
    int keys = 0, ended = 0;
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(rk, list);
    while (ended < list->cnt) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, ASK_MS);
        if (!m || (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF))
            fail("check", m ? rd_kafka_message_errstr(m) : "nothing comes");
        if (m->err) {
            ended++;
        } else {
            struct seen *s = seen_of(all, m, &keys);
            int64_t version = version_of(m);
            bool repeat = version <= s->version;
            records++;
            repeats += repeat;
            jumps += version > s->version + 1;
            s->version = repeat ? s->version : version;
            bytes += repeat ? 0 : (long long)m->len;
            values += repeat ? 0 : hash(m->payload, m->len);
        }
        rd_kafka_message_destroy(m);
    }
    printf("records %lld\nbytes %lld\nkeys %d\nrepeats %lld\njumps %lld\nvalues %016llx\n", records, bytes, keys,
           repeats, jumps, (unsigned long long)values);
    free(all);
}

/* --- follow ----------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

struct latencies {
    int64_t *us;
    size_t count, size;
};

static void add(struct latencies *l, int64_t us)
{
    if (l->count == l->size) {
        l->size = l->size ? 2 * l->size : 1 << 16;
        l->us = realloc(l->us, l->size * sizeof *l->us);
        if (!l->us)
            fail("follow", "no memory");
    }
    l->us[l->count++] = us;
}

static void follow(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list, double skip_s, double for_s)
{
    struct latencies found = {0};
    find_ends(rk, list);
    rd_kafka_assign(rk, list);
    for (int ended = 0; ended < list->cnt;) { /* until the end of each was seen */
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, ASK_MS);
        if (!m)
            fail("follow", "the topic's ends do not come");
        ended += m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        rd_kafka_message_destroy(m);
    }
    puts("ready");
    double from = mono_s() + skip_s, until = from + for_s;
    for (double now = mono_s(); now < until; now = mono_s()) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 50);
        if (!m)
            continue;
        int64_t at = m->err ? -1 : timestamp_us(m);
        if (at >= 0 && now >= from)
            add(&found, wall_us() - at);
        rd_kafka_message_destroy(m);
    }
    qsort(found.us, found.count, sizeof *found.us, by_size);
    printf("records %zu\n", found.count);
    static const struct {
        const char *name;
        size_t in_1000;
    } quantiles[] = {{"p50_ms", 500}, {"p90_ms", 900}, {"p99_ms", 990}, {"p999_ms", 999}, {"max_ms", 1000}};
    for (size_t i = 0; found.count && i < sizeof quantiles / sizeof *quantiles; i++) {
        size_t at = found.count * quantiles[i].in_1000 / 1000;
        printf("%s %.3f\n", quantiles[i].name, (double)found.us[at < found.count ? at : found.count - 1] / 1e3);
    }
    free(found.us);
}

/* --- fill ------------------------------------------------------------------------------------------------------- */

static void fill(const char *brokers, const char *name, long count, long keys)
{
    char why[256], key[64], value[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "enable.idempotence", "true");
    set(conf, "compression.codec", "lz4");
    set(conf, "linger.ms", "20");
    set(conf, "partitioner", "murmur2_random");
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!rk)
        fail("producer", why);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    for (long i = 0; i < count; i++) {
        int key_len = snprintf(key, sizeof key, "01900000-0000-7000-8000-%012ld", i % keys);
        int len = snprintf(value, sizeof value,
                           "{\"id\":\"01900000-0000-7000-9000-%012ld\",\"type\":\"user.signed_up\","
                           "\"account_id\":\"01900000-0000-7000-8000-0000000000aa\",\"campaign_id\":\"%s\","
                           "\"data\":{\"user_id\":\"01900000-0000-7000-a000-%012ld\",\"campaign_id\":\"%s\","
                           "\"email\":\"somebody-%ld@example.com\"},"
                           "\"timestamp\":\"2026-01-01T12:00:00.000000Z\",\"version\":%ld}",
                           i, key, i, key, i, i / keys + 1);
        while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, (size_t)len, key,
                                (size_t)key_len, NULL) != 0) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                fail("produce", rd_kafka_err2str(rd_kafka_last_error()));
            rd_kafka_poll(rk, 10);
        }
        rd_kafka_poll(rk, 0);
    }
    if (rd_kafka_flush(rk, 6 * ASK_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail("produce", "the broker does not take it all");
    printf("filled %ld\n", count);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 4)
        fail("usage", "topic BROKERS TOPIC fill N KEYS | wait N START_S STALL_S | check | follow SKIP_S S");
    rd_kafka_t *rk = consumer_new(argv[1]);
    rd_kafka_topic_partition_list_t *list = partitions_of(rk, argv[2]);
    if (strcmp(argv[3], "fill") == 0 && argc == 6 && atol(argv[5]) > 0)
        fill(argv[1], argv[2], atol(argv[4]), atol(argv[5]));
    else if (strcmp(argv[3], "wait") == 0 && argc == 7)
        wait_for(rk, list, atoll(argv[4]), atof(argv[5]), atof(argv[6]));
    else if (strcmp(argv[3], "check") == 0)
        check(rk, list);
    else if (strcmp(argv[3], "follow") == 0 && argc == 6)
        follow(rk, list, atof(argv[4]), atof(argv[5]));
    else
        fail("unknown command", argv[3]);
    fflush(stdout);
    _exit(0); /* leaving a group that was never joined takes its time */
}
