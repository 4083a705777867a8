/* Kafka transactions over librdkafka (consumers/transaction.h is the contract).
 *
 *   (no producer) ──init──▶ READY ──begin, produce, offsets, commit──▶ READY
 *        ▲                    │ an error that says so: abort ──▶ READY
 *        └── fatal, fenced, or no end in time: destroyed; the next one's init ends what was left open
 *
 * The transactional id is stable (the host and where it listens), so a process that comes back after a crash ends its old
 * transaction at once, which everybody's read_committed readers wait for otherwise. It is not what keeps two processes from
 * writing for one partition: that is the group's generation, sent with the offsets (KIP-447). Should two processes have
 * the same id, they would fence each other for ever: who is fenced twice goes on under an id of its own. */
#include "consumers/transaction.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus/kafka.h"
#include "bus/membership.h"
#include "core/break.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/uuid.h"

enum { CALL_MS = 1000, ROOM_MS = 50, TOPIC_PARTITIONS = 3, FENCED_MAX = 2 };
#define TIMEOUT_MS "15000" /* the broker's, of a transaction that is left alone: as TRANSACTION_MAX_MS */

struct transactor {
    const struct config *config;
    const char *topic;
    char id[300]; /* transactional.id */
    rd_kafka_t *rk;
    struct kafka_trouble trouble;
    bool ready; /* init_transactions is done */
    bool topic_there;
    int fenced;
};

/* One call of transactor_commit. */
struct attempt {
    struct transactor *t;
    const _Atomic int64_t *stop_at;
    int64_t until_us;
    bool aborts, broken; /* what the last error asks for */
    char *why;
    size_t why_size;
};

/* --- the producer --- */

/* Called from within rd_kafka_poll, on our thread. */
static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
    struct transactor *t = opaque;
    (void)rk;
    kafka_trouble_note(&t->trouble, (rd_kafka_resp_err_t)err, reason);
}

static rd_kafka_conf_t *conf_of(struct transactor *t)
{
    rd_kafka_conf_t *conf = kafka_conf(t->config, "output");
    kafka_conf_set(conf, "transactional.id", t->id);
    kafka_conf_set(conf, "transaction.timeout.ms", TIMEOUT_MS);
    kafka_conf_set(conf, "message.timeout.ms", "10000");
    kafka_conf_set(conf, "socket.timeout.ms", "5000"); /* a broker that hangs: others may have taken its place */
    kafka_conf_set(conf, "partitioner", "murmur2_random");
    kafka_conf_set(conf, "compression.type", "lz4");
    kafka_conf_set(conf, "linger.ms", "2");
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_opaque(conf, t);
    return conf;
}

static void drop(struct transactor *t)
{
    if (!t->rk)
        return;
    rd_kafka_purge(t->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_destroy(t->rk);
    t->rk = NULL;
    t->ready = false;
}

/* Makes the id one that no other process has. */
static void add_own_part(struct transactor *t)
{
    char own[UUID_TEXT_SIZE];
    uuid_format(uuid_v7(), own);
    snprintf(t->id + strlen(t->id), sizeof t->id - strlen(t->id), ".%s", own);
}

static void note_fenced(struct transactor *t)
{
    if (++t->fenced != FENCED_MAX)
        return;
    log_warn("another process has our transactional id; going on under another one", "id", t->id);
    add_own_part(t);
}

/* --- calls that may have to be repeated --- */

static bool in_time(const struct attempt *a)
{
    return clock_mono_us() < a->until_us && atomic_load(a->stop_at) == 0;
}

static int call_ms(const struct attempt *a)
{
    int64_t left = (a->until_us - clock_mono_us()) / 1000;
    return left < 1 ? 1 : left < CALL_MS ? (int)left : CALL_MS;
}

/* Takes an error in. True: the same call again. */
static bool again(struct attempt *a, rd_kafka_error_t *error)
{
    struct transactor *t = a->t;
    bool retry = rd_kafka_error_is_retriable(error) && in_time(a);
    if (!retry) {
        const char *what = rd_kafka_error_string(error);
        bool late = rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__TIMED_OUT && t->trouble.text[0];
        snprintf(a->why, a->why_size, "%s", late ? t->trouble.text : what);
        a->aborts = rd_kafka_error_txn_requires_abort(error);
        a->broken = !a->aborts;
        if (rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__FENCED)
            note_fenced(t);
    }
    rd_kafka_error_destroy(error);
    rd_kafka_poll(t->rk, retry ? ROOM_MS : 0);
    return retry;
}

static bool init(struct attempt *a)
{
    rd_kafka_error_t *error;
    while ((error = rd_kafka_init_transactions(a->t->rk, call_ms(a))))
        if (!again(a, error))
            return false;
    a->t->ready = true;
    return true;
}

static bool send_offsets(struct attempt *a, const struct transaction *x)
{
    rd_kafka_error_t *error = NULL;
    if (x->offset_count == 0)
        return true;
    if (!x->membership || !x->membership->metadata) {
        snprintf(a->why, a->why_size, "not a member of the group");
        a->aborts = true;
        return false;
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)x->offset_count);
    for (size_t i = 0; i < x->offset_count; i++)
        rd_kafka_topic_partition_list_add(list, a->t->config->kafka_topic, x->offsets[i].partition)->offset =
            x->offsets[i].next;
    do
        error = rd_kafka_send_offsets_to_transaction(a->t->rk, list, x->membership->metadata, call_ms(a));
    while (error && again(a, error));
    rd_kafka_topic_partition_list_destroy(list);
    return error == NULL;
}

static bool commit(struct attempt *a)
{
    rd_kafka_error_t *error;
    while ((error = rd_kafka_commit_transaction(a->t->rk, call_ms(a))))
        if (!again(a, error))
            return false;
    return true;
}

/* So that readers do not have to wait for the broker's time-out. */
static void abort_open(struct attempt *a)
{
    rd_kafka_error_t *error;
    char ignored[200], *why = a->why;
    size_t why_size = a->why_size;
    int64_t until_us = clock_mono_us() + CALL_MS * 1000;
    a->why = ignored;
    a->why_size = sizeof ignored;
    a->until_us = a->until_us < until_us ? until_us : a->until_us;
    a->aborts = false;
    while ((error = rd_kafka_abort_transaction(a->t->rk, call_ms(a))))
        if (!again(a, error)) {
            a->broken = true;
            break;
        }
    a->why = why;
    a->why_size = why_size;
}

/* --- the topic --- */

/* Of the answer to CreateTopics: whether the topic is there now. */
static bool read_created(struct attempt *a, rd_kafka_event_t *event)
{
    const rd_kafka_CreateTopics_result_t *result = event ? rd_kafka_event_CreateTopics_result(event) : NULL;
    size_t count = 0;
    const rd_kafka_topic_result_t **topics = result ? rd_kafka_CreateTopics_result_topics(result, &count) : NULL;
    rd_kafka_resp_err_t error = count == 1 ? rd_kafka_topic_result_error(topics[0]) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
        log_info("topic was created", "topic", a->t->topic);
    else if (error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        snprintf(a->why, a->why_size, "topic %s cannot be created: %s", a->t->topic, rd_kafka_err2str(error));
    return error == RD_KAFKA_RESP_ERR_NO_ERROR || error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
}

/* Whether it is there although we may not create it. */
static bool topic_known(struct transactor *t, int timeout_ms)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(t->rk, t->topic, NULL);
    bool known = rd_kafka_metadata(t->rk, 0, topic, &md, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR &&
                 md->topic_cnt == 1 && md->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR &&
                 md->topics[0].partition_cnt > 0;
    rd_kafka_topic_destroy(topic);
    if (md)
        rd_kafka_metadata_destroy(md);
    return known;
}

/* Asked for first: a broker that makes topics by itself would not make it a compacted one. */
static bool make_topic(struct attempt *a)
{
    struct transactor *t = a->t;
    char why[200];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(t->topic, TOPIC_PARTITIONS, -1, why, sizeof why);
    if (!topic) {
        snprintf(a->why, a->why_size, "topic %s cannot be created: %s", t->topic, why);
        return false;
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(t->rk);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(t->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(options, 3 * CALL_MS, why, sizeof why);
    rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "compact");
    rd_kafka_CreateTopics(t->rk, &topic, 1, options, queue);
    rd_kafka_event_t *event = NULL;
    while (!event && in_time(a))
        event = rd_kafka_queue_poll(queue, call_ms(a));
    t->topic_there = read_created(a, event) || topic_known(t, call_ms(a));
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
    return t->topic_there;
}

/* --- one transaction --- */

static bool make_ready(struct attempt *a)
{
    struct transactor *t = a->t;
    if (!t->rk) {
        rd_kafka_conf_t *conf = conf_of(t);
        t->trouble = (struct kafka_trouble){.text = ""};
        t->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, a->why, a->why_size);
        if (!t->rk) {
            rd_kafka_conf_destroy(conf);
            return false;
        }
    }
    return (t->topic_there || make_topic(a)) && (t->ready || init(a));
}

static bool produce(struct attempt *a, const struct output *first)
{
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
    for (const struct output *o = first; o && !error; o = o->next) {
        void *key = (void *)(uintptr_t)o->bytes,
             *value = o->tombstone ? NULL : (void *)(uintptr_t)(o->bytes + o->key_len);
        do
            error = rd_kafka_producev(a->t->rk, RD_KAFKA_V_TOPIC(a->t->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                      RD_KAFKA_V_KEY(key, o->key_len), RD_KAFKA_V_VALUE(value, o->value_len),
                                      RD_KAFKA_V_END);
        while (error == RD_KAFKA_RESP_ERR__QUEUE_FULL && in_time(a) && rd_kafka_poll(a->t->rk, ROOM_MS) >= 0);
    }
    if (error)
        snprintf(a->why, a->why_size, "%s", rd_kafka_err2str(error));
    a->aborts = error != RD_KAFKA_RESP_ERR_NO_ERROR;
    return !error;
}

/* The transaction is open. */
static bool fill_and_commit(struct attempt *a, const struct transaction *x)
{
    break_die("die-begun");
    break_hang("hang-begun");
    if (!produce(a, x->first))
        return false;
    if (broken("die-produced"))
        rd_kafka_flush(a->t->rk, 10 * CALL_MS);
    break_die("die-produced");
    if (!send_offsets(a, x))
        return false;
    break_die("die-offsets");
    bool ok = commit(a);
    break_die("die-committed");
    return ok;
}

static bool run(struct attempt *a, const struct transaction *x)
{
    if (!make_ready(a))
        return false;
    if (!x->first && x->offset_count == 0)
        return true;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(a->t->rk);
    if (error) {
        again(a, error);
        a->broken = true;
        return false;
    }
    return fill_and_commit(a, x);
}

bool transactor_commit(struct transactor *t, const struct transaction *x, const _Atomic int64_t *stop_at, char *why,
                       size_t why_size)
{
    struct attempt a = {.t = t,
                        .stop_at = stop_at,
                        .until_us = clock_mono_us() + (TRANSACTION_MAX_MS - 2 * CALL_MS) * 1000,
                        .why = why,
                        .why_size = why_size};
    bool ok = run(&a, x);
    if (!ok)
        t->topic_there = false; /* somebody may have taken it away */
    if (a.aborts)
        abort_open(&a);
    if (a.broken)
        drop(t);
    if (t->rk)
        rd_kafka_poll(t->rk, 0);
    if (ok)
        t->trouble = (struct kafka_trouble){.text = ""};
    return ok;
}

struct transactor *transactor_open(const struct config *config, const char *group, const char *topic)
{
    struct transactor *t = xcalloc(1, sizeof *t);
    char host[128] = "";
    gethostname(host, sizeof host - 1);
    t->config = config;
    t->topic = topic;
    snprintf(t->id, sizeof t->id - UUID_TEXT_SIZE, "%s%s.%s.%s", config->kafka_group_prefix, group, host,
             config->http_listen);
    size_t len = strlen(t->id);
    if (len > 2 && strcmp(t->id + len - 2, ":0") == 0) /* any port: it tells nothing apart */
        add_own_part(t);
    return t;
}

void transactor_close(struct transactor *t)
{
    drop(t);
    free(t);
}
