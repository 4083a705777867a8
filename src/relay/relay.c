/* The relay: life cycle, the producer, and what is sent to it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "relay/relay_int.h"

enum {
    TICK_MS = 50,
    ALONE_POLL_MS = 500, /* heads, as long as no other relay is known */
    PROBE_TIMEOUT_MS = 2000,
    TAIL_TIMEOUT_MS = 5000,
    BACKOFF_BASE_MS = 100,
    BACKOFF_MAX_MS = 5000,
    FATAL_WAIT_US = 200000, /* for the delivery reports of a broken producer */
    STUCK_ATTEMPTS = 5,     /* failed deliveries of one event in a row: it can never be delivered */
};

static const int64_t LOG_EVERY_US = 30000000, LOG_NEWS_US = 5000000;
static const int64_t IDLE_US = 3600LL * 1000000; /* brokers may forget a producer that was idle for so long */

static void start_probe(struct relay *r);
static void open_producer(struct relay *r);
static void reset_producer(struct relay *r, const char *why);

void relay_alarm(struct relay *r, const char *why)
{
    if (!r->alarm)
        log_error("the relay stopped and needs a person", "reason", why);
    r->alarm = true;
    snprintf(r->trouble, sizeof r->trouble, "%s", why);
    metric_gauge(M_RELAY_ALARM, 1);
}

/* --- acknowledgements ------------------------------------------------------------------------------------------- */

/* Errors of the record itself; anything else (rights, a fenced producer) passes. */
static bool is_records_fault(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || error == RD_KAFKA_RESP_ERR_INVALID_MSG ||
           error == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE || error == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE ||
           error == RD_KAFKA_RESP_ERR_INVALID_RECORD || error == RD_KAFKA_RESP_ERR_POLICY_VIOLATION;
}

/* An event that fails again and again, each time with a new producer, will never be delivered. */
static void count_failure(struct relay *r, uint32_t partition, int64_t seq, rd_kafka_resp_err_t error)
{
    if (partition >= r->partitions || !is_records_fault(error))
        return;
    struct stuck *stuck = &r->stuck[partition];
    stuck->count = stuck->seq == seq ? stuck->count + 1 : 1;
    stuck->seq = seq;
    if (stuck->count >= STUCK_ATTEMPTS)
        relay_halt(r, partition, seq, error);
}

static void on_ack(void *arg, int32_t partition, int64_t seq, rd_kafka_resp_err_t error)
{
    struct relay *r = arg;
    int64_t at_us;
    if (!r->producer)
        return; /* reset earlier in this burst */
    if (error) {
        count_failure(r, (uint32_t)partition, seq, error);
        if (is_records_fault(error) || r->fatal_us == 0)
            reset_producer(r, rd_kafka_err2str(error));
        return; /* of a broken producer: the report of the event at fault is awaited */
    }
    if (r->acked == 0) { /* one reading of the clocks for the burst */
        r->acked_mono_us = clock_mono_us();
        r->acked_wall_us = clock_wall_us();
    }
    if (!window_ack(r->window, (uint32_t)partition, seq, r->acked_mono_us, &at_us)) {
        reset_producer(r, "acknowledgements out of order");
        return;
    }
    r->brokers_down = false;
    r->opening_attempt = 0;
    r->acked++;
    metric_seen(M_RELAY_LATENCY, r->acked_wall_us - at_us);
}

static void end_burst(struct relay *r)
{
    metric_add(r->m_acked, r->acked);
    r->acked = 0;
}

static void on_acks_end(void *arg)
{
    struct relay *r = arg;
    end_burst(r);
    if (!r->stopping)
        outbox_fill(r); /* there is room again */
}

/* The producer is of no use any more. Which event was at fault comes with the delivery reports, right after this. */
static void on_fatal(void *arg, const char *why)
{
    struct relay *r = arg;
    if (r->fatal_us != 0)
        return;
    r->fatal_us = clock_mono_us();
    snprintf(r->trouble, sizeof r->trouble, "%s", why);
}

static void on_brokers_down(void *arg, const char *why)
{
    struct relay *r = arg;
    if (!r->brokers_down)
        log_warn("no Kafka broker can be reached; the relay waits", "reason", why);
    if (!r->brokers_down)
        r->down_us = clock_mono_us();
    r->brokers_down = true;
    snprintf(r->trouble, sizeof r->trouble, "%s", why);
}

/* --- the producer ----------------------------------------------------------------------------------------------- */

static void on_retry(uv_timer_t *timer)
{
    struct relay *r = timer->data;
    if (r->closing || r->stopping)
        return;
    if (!r->window)
        start_probe(r);
    else if (!r->producer)
        open_producer(r);
}

static void open_producer(struct relay *r)
{
    struct producer_options options = {
        .config = r->config,
        .max_message_bytes = r->facts.max_message_bytes,
        .on_ack = on_ack,
        .on_acks_end = on_acks_end,
        .on_fatal = on_fatal,
        .on_brokers_down = on_brokers_down,
        .arg = r,
    };
    r->producer = producer_open(r->loop, &options, r->trouble, sizeof r->trouble);
    if (!r->producer) {
        log_warn("cannot make a Kafka producer; trying again", "reason", r->trouble);
        uv_timer_start(&r->retry, on_retry, (uint64_t)backoff_ms(r->opening_attempt++, BACKOFF_BASE_MS, BACKOFF_MAX_MS),
                       0);
        return;
    }
    outbox_fill(r);
}

static void on_producer_closed(void *arg)
{
    struct relay *r = arg;
    r->open_parts--;
    if (!r->closing)
        uv_timer_start(&r->retry, on_retry, (uint64_t)backoff_ms(r->opening_attempt++, BACKOFF_BASE_MS, BACKOFF_MAX_MS),
                       0);
}

/* Whatever is in flight is given up; once it is closed, a new one takes its place. */
static void drop_producer(struct relay *r)
{
    struct producer *p = r->producer;
    r->producer = NULL;
    r->fatal_us = 0;
    end_burst(r);
    window_rewind(r->window);
    r->open_parts++;
    producer_close(p, on_producer_closed, r);
}

/* A failed delivery: all past the cursor goes through a new producer. */
static void reset_producer(struct relay *r, const char *why)
{
    log_warn("a delivery to Kafka failed; sending again from the cursor with a new producer", "reason", why);
    if (why != r->trouble)
        snprintf(r->trouble, sizeof r->trouble, "%s", why);
    metric_inc(M_RELAY_RESETS);
    drop_producer(r);
}

/* --- the topic -------------------------------------------------------------------------------------------------- */

/* Pool thread. */
static void probe_work(uv_work_t *work)
{
    struct relay *r = work->data;
    const struct topic_facts *facts = &r->probed;
    r->probe_partitions = 0;
    if (!topic_probe(r->config, PROBE_TIMEOUT_MS, &r->probed, r->probe_why, sizeof r->probe_why))
        return;
    if (!r->tail_read &&
        !topic_tail_read(r->config, facts->partitions, TAIL_TIMEOUT_MS, &r->tail, r->probe_why, sizeof r->probe_why))
        return;
    r->probe_partitions = r->fix(r->fix_arg, facts->partitions, r->probe_why, sizeof r->probe_why);
    if (r->probe_partitions == 0 && !r->tail_read)
        topic_tail_free(&r->tail);
}

/* A limit that could not be asked this time still holds. */
static void take_facts(struct relay *r)
{
    int64_t known = r->window ? r->facts.max_message_bytes : -1;
    r->facts = r->probed;
    if (r->facts.max_message_bytes < 0)
        r->facts.max_message_bytes = known;
}

static void warn_of_topic(const struct relay *r)
{
    if (r->facts.replicas < 2)
        log_warn("the topic has one replica: a lost broker disk loses acknowledged events", "topic",
                 r->config->kafka_topic);
    else if (r->facts.min_insync_replicas == 1)
        log_warn("min.insync.replicas is 1: an acknowledged event may be lost with its leader (2 is safe)", "topic",
                 r->config->kafka_topic);
    if (r->facts.max_message_bytes >= 0 && r->facts.max_message_bytes < 65536)
        log_warn("max.message.bytes of the topic is below 65536: an event may not fit", "topic",
                 r->config->kafka_topic);
    if (r->facts.partitions > r->partitions)
        log_info("the topic has grown; `tidings partitions set` puts the new partitions to use", "topic",
                 r->config->kafka_topic, "partitions", log_int(r->facts.partitions), "used", log_int(r->partitions));
}

/* With several brokers the reason may be another one each time: the log shall not be full of them. */
static void note_waiting(struct relay *r)
{
    int64_t since = clock_mono_us() - r->waiting_logged_us;
    bool news = strcmp(r->trouble, r->probe_why) != 0;
    if (r->waiting_logged_us == 0 || since > LOG_EVERY_US || (news && since > LOG_NEWS_US)) {
        r->waiting_logged_us = clock_mono_us();
        log_warn("waiting for Kafka", "reason", r->probe_why);
    }
    if (!r->alarm)
        snprintf(r->trouble, sizeof r->trouble, "%s", r->probe_why);
}

static void make_window(struct relay *r, uint32_t partitions)
{
    r->partitions = partitions;
    window_free(r->window);
    free(r->stuck);
    r->window =
        window_new(r->shards, partitions, (size_t)r->config->relay_window, (size_t)r->config->relay_window_bytes);
    r->stuck = xcalloc(partitions, sizeof *r->stuck);
    for (uint32_t i = 0; i < r->shards; i++) {
        r->shard[i].tenure = SHARD_AWAY;
        r->shard[i].rewinds = -1;
    }
}

void relay_use_partitions(struct relay *r, uint32_t partitions)
{
    log_info("the topic's partitions in use changed", "from", log_int(r->partitions), "to", log_int(partitions));
    make_window(r, partitions);
    if (r->producer)
        drop_producer(r); /* it would not know the new ones for minutes */
}

static void probe_done(uv_work_t *work, int status)
{
    struct relay *r = work->data;
    (void)status;
    r->probing = false;
    if (r->closing)
        return;
    if (r->probe_partitions > 0)
        take_facts(r);
    if (r->window && (!r->brokers_down || r->probe_partitions > 0)) { /* only asked whether the brokers are back */
        r->brokers_down = false;
        return;
    }
    if (r->probe_partitions == 0) {
        note_waiting(r);
        if (!r->window)
            uv_timer_start(&r->retry, on_retry, (uint64_t)backoff_ms(r->probe_attempt++, BACKOFF_BASE_MS, 1000), 0);
        return;
    }
    r->trouble[0] = '\0';
    r->tail_read = true;
    make_window(r, r->probe_partitions);
    warn_of_topic(r);
    log_info("relay ready", "topic", r->config->kafka_topic, "partitions", log_int(r->partitions));
    open_producer(r);
    r->share_us = 0;
    shares_tick(r, clock_mono_us());
}

static void start_probe(struct relay *r)
{
    r->probing = true;
    r->probed_us = clock_mono_us();
    r->probe.data = r;
    if (uv_queue_work(r->loop, &r->probe, probe_work, probe_done) != 0)
        r->probing = false;
}

/* --- the timer -------------------------------------------------------------------------------------------------- */

static void set_gauges(struct relay *r, int64_t now_us)
{
    int64_t lag = 0, oldest = window_oldest_us(r->window), wall = clock_wall_us();
    int64_t age = oldest == INT64_MAX ? 0 : wall - oldest;
    for (uint32_t i = 0; i < r->shards; i++) {
        struct relay_shard *s = &r->shard[i];
        if (s->tenure == SHARD_AWAY) {
            s->behind_since_us = 0;
            continue;
        }
        int64_t behind = window_head(r->window, i) - window_cursor(r->window, i);
        lag += behind;
        if (behind == 0)
            s->behind_since_us = 0;
        else if (s->behind_since_us == 0)
            s->behind_since_us = now_us;
        /* An event that waits in Postgres alone has an unknown age; it is at least as old as the lag. */
        if (oldest == INT64_MAX && behind > 0 && now_us - s->behind_since_us > age)
            age = now_us - s->behind_since_us;
    }
    metric_gauge(M_RELAY_LAG, lag);
    metric_gauge(M_RELAY_LAG_SECONDS, age > 0 ? age : 0);
}

static void close_parts(struct relay *r);

static bool drained(const struct relay *r)
{
    return !r->window || r->alarm || (window_in_flight(r->window) == 0 && !r->saving);
}

static void on_tick(uv_timer_t *timer)
{
    struct relay *r = timer->data;
    int64_t now_us = clock_mono_us();
    if (r->fatal_us != 0 && now_us - r->fatal_us > FATAL_WAIT_US && r->producer)
        reset_producer(r, r->trouble);
    if (r->window) {
        set_gauges(r, now_us);
        window_distrust_idle(r->window, now_us - IDLE_US);
        if (r->brokers_down && !r->probing && !r->stopping && now_us - r->probed_us >= 1000000)
            start_probe(r);
        if (r->stopping || now_us - r->saved_us >= r->config->relay_save_ms * 1000) {
            r->saved_us = now_us;
            outbox_save(r);
        }
    }
    if (!r->closing)
        shares_tick(r, now_us);
    if (r->stopping && !r->closing && (drained(r) || now_us >= r->deadline_us))
        close_parts(r);
}

/* What other processes commit is only known by asking. */
static void on_poll(uv_timer_t *timer)
{
    struct relay *r = timer->data;
    int64_t now_us = clock_mono_us();
    if (r->relays <= 1 && now_us - r->polled_us < ALONE_POLL_MS * 1000)
        return;
    r->polled_us = now_us;
    outbox_poll_heads(r);
}

const char *relay_trouble(const struct relay *r)
{
    if (r->alarm)
        return r->trouble;
    if (!r->window || !r->producer || r->brokers_down || r->opening_attempt > 1) /* resets in a row */
        return r->trouble[0] ? r->trouble : "not yet connected";
    if (window_halted(r->window))
        return "an event cannot be delivered; its partition stopped";
    return r->shared ? "" : "which shards to relay is not known yet";
}

struct relay *relay_start(uv_loop_t *loop, const struct config *config, uint32_t shards, relay_fix_partitions fix,
                          void *arg)
{
    struct relay *r = xcalloc(1, sizeof *r);
    r->loop = loop;
    r->config = config;
    r->shards = shards;
    r->fix = fix;
    r->fix_arg = arg;
    r->shard = xcalloc(shards, sizeof *r->shard);
    for (uint32_t i = 0; i < shards; i++) {
        r->shard[i].relay = r;
        r->shard[i].no = i;
    }
    r->m_acked = metric_get(M_RELAY_ACKED, NULL, NULL);
    r->m_holes = metric_get(M_CHECK_FAULTS, "hole", NULL);
    r->m_memory = metric_get(M_RELAY_PRODUCED, "memory", NULL);
    r->m_postgres = metric_get(M_RELAY_PRODUCED, "postgres", NULL);
    uv_timer_init(loop, &r->timer);
    uv_timer_init(loop, &r->retry);
    uv_timer_init(loop, &r->poll);
    r->timer.data = r->retry.data = r->poll.data = r;
    uv_timer_start(&r->timer, on_tick, TICK_MS, TICK_MS);
    uv_timer_start(&r->poll, on_poll, (uint64_t)config->relay_poll_ms, (uint64_t)config->relay_poll_ms);
    outbox_open(r);
    start_probe(r);
    return r;
}

/* --- stop ------------------------------------------------------------------------------------------------------- */

/* The last timer to close waits for the threads that still use the relay. */
static void on_wait(uv_timer_t *timer);

static void on_last_closed(uv_handle_t *handle)
{
    struct relay *r = handle->data;
    void (*on_stopped)(void *) = r->on_stopped;
    void *arg = r->stopped_arg;
    window_free(r->window);
    topic_tail_free(&r->tail);
    buf_free(&r->value);
    buf_free(&r->ours);
    free(r->shard);
    free(r->stuck);
    free(r);
    on_stopped(arg);
}

static void on_part_closed(void *arg)
{
    struct relay *r = arg;
    r->open_parts--;
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_part_closed(handle->data);
}

static void on_wait(uv_timer_t *timer)
{
    struct relay *r = timer->data;
    if (r->open_parts > 0 || r->probing)
        return;
    uv_timer_stop(&r->timer);
    uv_close((uv_handle_t *)&r->timer, on_last_closed);
}

static void close_parts(struct relay *r)
{
    r->closing = true;
    r->open_parts += 3;
    uv_close((uv_handle_t *)&r->retry, on_timer_closed);
    uv_close((uv_handle_t *)&r->poll, on_timer_closed);
    pglink_close(r->link, on_part_closed, r);
    if (r->producer) {
        r->open_parts++;
        producer_close(r->producer, on_part_closed, r);
        r->producer = NULL;
    }
    uv_timer_start(&r->timer, on_wait, 5, 5);
}

void relay_stop(struct relay *r, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg)
{
    r->stopping = true;
    r->deadline_us = deadline_us;
    r->on_stopped = on_stopped;
    r->stopped_arg = arg;
    shares_leave(r);
}
