/* A group's records from Kafka (consumers/source.h is the contract): one librdkafka consumer, driven from the loop.
 *
 * Each partition's queue is taken out of the common one and drained only while its window has room: that is the
 * back-pressure, without pause and resume (which lose messages in 2.0.2). The consumer's own queue brings the rest,
 * rebalances, commits' results and errors; polling it from the timer also counts as the poll of max.poll.interval.ms.
 *
 *   OPEN ──source_close──▶ LEAVING (the group) ──closed or late──▶ ENDING (a thread destroys it) ──done or late──▶ gone
 */
#include "consumers/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/destroyer.h"
#include "bus/kafka.h"
#include "bus/membership.h"
#include "bus/poller.h"
#include "bus/starts.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

#define WAKE_MS 100
#define TAKE_MAX 256 /* messages per call into librdkafka */
#define QUEUE_KB 256 /* per partition, since each has a queue of its own: what is fetched ahead */
#define LOG_EVERY_US 30000000
#define DESTROY_RESERVE_US 500000 /* of the time to close, kept for the destruction */

struct source_partition {
    int32_t id;
    rd_kafka_queue_t *queue;
    size_t taken; /* bytes, since the queue was last found empty */
};

struct source {
    const struct config *config;
    char *group;
    const struct source_events *events;
    void *arg;
    struct inbox *inbox;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    struct poller poller;
    struct source_partition *partitions;
    size_t partition_count;
    struct starts *starts; /* by the same indexes */
    struct membership *membership;
    bool committing;
    bool up; /* a broker is connected */
    struct kafka_trouble trouble;
    int64_t logged_us;
    /* Closing. */
    uv_timer_t timer;
    bool leaving, ending, close_failed;
    int64_t deadline_us;
    struct destroyer *destroyer;
    int handles; /* poller and timer */
};

/* --- events --- */

static void drop_partitions(struct source *s)
{
    for (size_t i = 0; i < s->partition_count; i++) {
        poller_unwatch(&s->poller, s->partitions[i].queue);
        rd_kafka_queue_destroy(s->partitions[i].queue);
    }
    free(s->partitions);
    s->partitions = NULL;
    s->partition_count = 0;
}

static void forget_trouble(struct source *s)
{
    s->trouble = (struct kafka_trouble){.text = ""};
}

static void on_assign(struct source *s, rd_kafka_topic_partition_list_t *list)
{
    size_t count = (size_t)list->cnt;
    int32_t *ids = xcalloc(count + 1, sizeof *ids);
    drop_partitions(s);
    s->partitions = xcalloc(count + 1, sizeof *s->partitions);
    for (int i = 0; i < list->cnt; i++) {
        struct source_partition *p = &s->partitions[s->partition_count];
        p->id = list->elems[i].partition;
        p->queue = rd_kafka_queue_get_partition(s->rk, list->elems[i].topic, p->id);
        if (!p->queue)
            continue;
        rd_kafka_queue_forward(p->queue, NULL); /* before the assignment: its records must not go the common way */
        poller_watch(&s->poller, p->queue);
        ids[s->partition_count++] = p->id;
    }
    rd_kafka_resp_err_t err = rd_kafka_assign(s->rk, list);
    starts_assigned(s->starts, list, ids, s->partition_count);
    if (err)
        log_warn("cannot take partitions", "group", s->group, "error", rd_kafka_err2str(err));
    membership_release(s->membership);
    s->membership = membership_of(s->rk);
    s->up = true;
    forget_trouble(s);
    log_info("partitions were assigned", "group", s->group, "count", log_int((long long)s->partition_count));
    s->events->on_assign(s->arg, ids, s->partition_count);
    free(ids);
}

static void on_rebalance(struct source *s, rd_kafka_event_t *event)
{
    if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !s->leaving) {
        on_assign(s, rd_kafka_event_topic_partition_list(event));
        return;
    }
    bool lost = rd_kafka_assignment_lost(s->rk);
    starts_revoked(s->starts);
    log_info(lost ? "partitions were lost" : "partitions are revoked", "group", s->group);
    if (s->leaving)
        source_release(s); /* nothing runs any more */
    else
        s->events->on_revoke(s->arg, lost);
}

static void on_error(struct source *s, rd_kafka_resp_err_t err, const char *text)
{
    int64_t now = clock_mono_us();
    bool away = err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || err == RD_KAFKA_RESP_ERR__TRANSPORT ||
                err == RD_KAFKA_RESP_ERR__RESOLVE;
    if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        s->up = false;
    kafka_trouble_note(&s->trouble, err, text);
    if (!away)
        starts_suspect(s->starts);
    if (s->logged_us != 0 && now - s->logged_us < LOG_EVERY_US) {
        log_debug("Kafka error", "group", s->group, "error", text);
        return;
    }
    s->logged_us = now;
    log_warn(away ? "Kafka cannot be reached, trying on" : "Kafka reports an error", "group", s->group, "brokers",
             s->config->kafka_brokers, "error", s->trouble.text);
}

static void on_commit(struct source *s, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    bool ok = !err || err == RD_KAFKA_RESP_ERR__NO_OFFSET;
    if (!ok)
        log_info("offsets were not committed, will be tried again", "group", s->group, "error", rd_kafka_err2str(err));
    if (s->committing) {
        s->committing = false;
        s->events->on_committed(s->arg, ok);
    }
}

/* A thread of librdkafka's that found all queues full looks at them again after a second, or when it is woken: this is the
 * one call that does so. It sets the credentials that are set already, and blocks on nothing. */
static void wake_fetching(struct source *s)
{
    const struct config *c = s->config;
    rd_kafka_error_t *error = rd_kafka_sasl_set_credentials(s->rk, c->kafka_sasl_username ? c->kafka_sasl_username : "",
                                                            c->kafka_sasl_password ? c->kafka_sasl_password : "");
    if (error)
        rd_kafka_error_destroy(error);
}

static void on_message(struct source *s, const rd_kafka_message_t *m)
{
    if (m->err) {
        on_error(s, m->err, rd_kafka_message_errstr(m));
        return;
    }
    if (s->trouble.denied)
        forget_trouble(s);
    const struct source_record r = {
        .partition = m->partition,
        .offset = m->offset,
        .key = m->key,
        .key_len = m->key ? m->key_len : 0,
        .value = m->payload,
        .value_len = m->payload ? m->len : 0,
    };
    s->events->on_record(s->arg, &r);
}

static void on_event(struct source *s, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *m;
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_REBALANCE: on_rebalance(s, event); break;
    case RD_KAFKA_EVENT_ERROR: on_error(s, rd_kafka_event_error(event), rd_kafka_event_error_string(event)); break;
    case RD_KAFKA_EVENT_OFFSET_COMMIT: on_commit(s, event); break;
    case RD_KAFKA_EVENT_STATS: /* the only place that tells whether a broker is connected */
        s->up = strstr(rd_kafka_event_stats(event), "\"state\":\"UP\"") != NULL;
        if (s->up && !s->trouble.denied)
            forget_trouble(s);
        starts_look(s->starts, rd_kafka_event_stats(event));
        break;
    case RD_KAFKA_EVENT_FETCH: /* errors of a partition whose queue is not taken out yet */
        while ((m = rd_kafka_event_message_next(event)))
            on_message(s, m);
        break;
    default: break;
    }
}

static void end(struct source *s);

static void on_ready(void *arg)
{
    struct source *s = arg;
    for (rd_kafka_event_t *event; (event = rd_kafka_queue_poll(s->queue, 0));) {
        on_event(s, event);
        rd_kafka_event_destroy(event);
    }
    if (!s->leaving) {
        starts_tick(s->starts);
        s->events->on_wake(s->arg);
    } else if (s->close_failed || rd_kafka_consumer_closed(s->rk) ||
               clock_mono_us() >= s->deadline_us - DESTROY_RESERVE_US)
        end(s);
}

/* --- the contract --- */

size_t source_take(struct source *s, int32_t partition, size_t max)
{
    rd_kafka_message_t *messages[TAKE_MAX];
    struct source_partition *p;
    size_t at = 0, taken = 0;
    while (at < s->partition_count && s->partitions[at].id != partition)
        at++;
    if (at == s->partition_count)
        return 0;
    for (p = &s->partitions[at]; taken < max;) {
        size_t want = max - taken < TAKE_MAX ? max - taken : TAKE_MAX;
        ssize_t n = rd_kafka_consume_batch_queue(p->queue, 0, messages, want);
        for (ssize_t i = 0; i < n; i++) {
            p->taken += messages[i]->len;
            if (!messages[i]->err)
                starts_saw(s->starts, at, messages[i]->offset);
            on_message(s, messages[i]);
            rd_kafka_message_destroy(messages[i]);
        }
        taken += n > 0 ? (size_t)n : 0;
        if (n < (ssize_t)want)
            break;
    }
    if (taken < max && p->taken >= QUEUE_KB * 1000)
        wake_fetching(s);
    if (taken < max)
        p->taken = 0;
    return taken;
}

void source_wake_again(struct source *s)
{
    poller_poke(&s->poller);
}

bool source_commit(struct source *s, const struct source_offset *offsets, size_t count)
{
    if (s->committing || s->leaving || count == 0)
        return false;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, s->config->kafka_topic, offsets[i].partition)->offset = offsets[i].next;
    rd_kafka_resp_err_t err = rd_kafka_commit_queue(s->rk, list, s->queue, NULL, NULL);
    rd_kafka_topic_partition_list_destroy(list);
    s->committing = !err;
    return s->committing;
}

struct membership *source_membership(struct source *s)
{
    return s->membership;
}

void source_release(struct source *s)
{
    drop_partitions(s);
    rd_kafka_assign(s->rk, NULL);
}

int64_t source_end(struct source *s, int32_t partition)
{
    int64_t low = -1, high = -1;
    if (rd_kafka_get_watermark_offsets(s->rk, s->config->kafka_topic, partition, &low, &high))
        return -1;
    return high < 0 ? -1 : high;
}

size_t source_missing(const struct source *s)
{
    return starts_missing(s->starts);
}

const char *source_trouble(const struct source *s)
{
    if (s->up && !s->trouble.denied)
        return starts_trouble(s->starts);
    return s->trouble.text[0] ? s->trouble.text : "no broker is connected yet";
}

/* --- opening --- */

static rd_kafka_conf_t *consumer_conf(const struct config *config, const char *group)
{
    static const char *const settings[][2] = {
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "earliest"},
        {"isolation.level", "read_committed"},
        {"partition.assignment.strategy", "range"}, /* cooperative-sticky loops in 2.0.2 */
        {"session.timeout.ms", "10000"},            /* after kill -9 the partitions wait so long */
        {"heartbeat.interval.ms", "2000"},
        /* Few large fetches: one for every batch that comes in cost the broker more than all the rest, and gave runs of
         * a few records. So a record waits at most so long. Behind, nobody waits: one partition alone can fill the least
         * size, the others may have their queues full. */
        {"fetch.wait.max.ms", "100"},
        {"fetch.min.bytes", "65536"},
        {"fetch.max.bytes", "1048576"},
        {"max.partition.fetch.bytes", "131072"},
        {"statistics.interval.ms", "5000"},
        {"topic.metadata.refresh.interval.ms", "30000"}, /* a topic that grew is noticed within that time */
    };
    rd_kafka_conf_t *conf = kafka_conf(config, group);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        kafka_conf_set(conf, settings[i][0], settings[i][1]);
    char queue_kb[16];
    snprintf(queue_kb, sizeof queue_kb, "%d", QUEUE_KB);
    kafka_conf_set(conf, "queued.max.messages.kbytes", queue_kb);
    struct buf id = {0};
    buf_adds(&id, config->kafka_group_prefix);
    buf_adds(&id, group);
    kafka_conf_set(conf, "group.id", buf_cstr(&id));
    buf_free(&id);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_OFFSET_COMMIT |
                                       RD_KAFKA_EVENT_STATS | RD_KAFKA_EVENT_FETCH);
    return conf;
}

static bool subscribe(struct source *s, char *why, size_t why_size)
{
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, s->config->kafka_topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t err = rd_kafka_subscribe(s->rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (err)
        snprintf(why, why_size, "cannot subscribe to %s: %s", s->config->kafka_topic, rd_kafka_err2str(err));
    return !err;
}

static void source_free(struct source *s)
{
    membership_release(s->membership);
    starts_free(s->starts);
    free(s->group);
    free(s);
}

struct source *source_open(uv_loop_t *loop, struct inbox *inbox, const struct config *config, const char *group,
                           const struct source_events *events, void *arg, char *why, size_t why_size)
{
    struct source *s = xcalloc(1, sizeof *s);
    s->config = config;
    s->group = xstrdup(group);
    s->events = events;
    s->arg = arg;
    s->inbox = inbox;
    rd_kafka_conf_t *conf = consumer_conf(config, group);
    s->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, why_size);
    if (!s->rk) {
        rd_kafka_conf_destroy(conf);
        source_free(s);
        return NULL;
    }
    rd_kafka_poll_set_consumer(s->rk);
    s->queue = rd_kafka_queue_get_consumer(s->rk);
    s->starts = starts_new(s->rk, group);
    int err = poller_open(&s->poller, loop, WAKE_MS, on_ready, s);
    if (err != 0)
        snprintf(why, why_size, "cannot watch Kafka's queue: %s", uv_strerror(err));
    if (err != 0 || !subscribe(s, why, why_size)) {
        /* Only settings or the machine's limits bring us here, at start: the process ends, nothing is cleaned up. */
        return NULL;
    }
    poller_watch(&s->poller, s->queue);
    uv_timer_init(loop, &s->timer);
    s->timer.data = s;
    return s;
}

/* --- closing --- */

static void on_handle_closed(struct source *s)
{
    if (--s->handles > 0)
        return;
    void (*on_closed)(void *) = s->events->on_closed;
    void *arg = s->arg;
    source_free(s);
    on_closed(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_poller_closed(void *arg)
{
    on_handle_closed(arg);
}

static void on_destroyed(void *arg)
{
    struct source *s = arg;
    s->destroyer = NULL;
    uv_close((uv_handle_t *)&s->timer, on_timer_closed);
}

static void on_late(uv_timer_t *timer)
{
    struct source *s = timer->data;
    log_warn("a Kafka consumer does not end in time and is left behind", "group", s->group);
    destroyer_abandon(s->destroyer);
    on_destroyed(s);
}

/* The client is destroyed on a thread of its own, because that waits for librdkafka's threads. */
static void end(struct source *s)
{
    if (s->ending)
        return;
    s->ending = true;
    s->handles = 2;
    drop_partitions(s);
    poller_unwatch(&s->poller, s->queue);
    rd_kafka_queue_destroy(s->queue);
    poller_close(&s->poller, on_poller_closed);
    s->destroyer = destroyer_start(s->inbox, s->rk, on_destroyed, s);
    int64_t left = s->deadline_us - clock_mono_us();
    uv_timer_start(&s->timer, on_late, left > 0 ? (uint64_t)left / 1000 : 0, 0);
}

void source_close(struct source *s, int64_t deadline_us)
{
    if (s->leaving)
        return;
    s->deadline_us = deadline_us;
    s->leaving = true;
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(s->rk, s->queue);
    if (error) {
        rd_kafka_error_destroy(error);
        s->close_failed = true;
        poller_poke(&s->poller);
    }
}
