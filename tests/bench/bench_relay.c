/* An event on its way to Kafka: row → envelope, key, headers → librdkafka, and back its acknowledgement. The producer is
 * the real one, against librdkafka's mock cluster; only the loop's thread is counted, not librdkafka's. */
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "core/hash.h"
#include "relay/relay_int.h"
/* after rdkafka.h */
#include <librdkafka/rdkafka_mock.h>

enum { SHARDS = 10, BURST = 500, WARM_ROUNDS = 3, ROUNDS = 8, WAIT_US = 100000 };

static uv_loop_t loop;
static struct relay relay;

static void on_ack(void *arg, int32_t partition, int64_t seq, rd_kafka_resp_err_t error)
{
    int64_t at_us;
    (void)arg;
    bench_check(error == RD_KAFKA_RESP_ERR_NO_ERROR);
    bench_check(window_ack(relay.window, (uint32_t)partition, seq, 1, &at_us));
    metric_seen(M_RELAY_LATENCY, 1000);
}

static void on_acks_end(void *arg)
{
    (void)arg;
}

static void on_trouble(void *arg, const char *why)
{
    (void)arg;
    fprintf(stderr, "bench_relay: %s\n", why);
    exit(1);
}

static void open_relay(const struct config *config)
{
    char why[512] = "";
    relay.config = config;
    relay.loop = &loop;
    relay.shards = relay.partitions = SHARDS;
    relay.shared = relay.verified = true;
    relay.m_memory = metric_get(M_RELAY_PRODUCED, "memory", NULL);
    relay.m_postgres = metric_get(M_RELAY_PRODUCED, "postgres", NULL);
    relay.window = window_new(SHARDS, SHARDS, 5000, 1 << 24);
    for (uint32_t i = 0; i < SHARDS; i++)
        window_own(relay.window, i, true);
    relay.producer = producer_open(&loop,
                                   &(struct producer_options){.config = config,
                                                              .max_message_bytes = -1,
                                                              .on_ack = on_ack,
                                                              .on_acks_end = on_acks_end,
                                                              .on_fatal = on_trouble,
                                                              .on_brokers_down = on_trouble},
                                   why, sizeof why);
    if (!relay.producer)
        on_trouble(NULL, why);
}

/* A campaign of each shard, found by trying. */
static void choose_campaigns(struct uuid campaigns[SHARDS])
{
    for (uint32_t shard = 0, n = 0; shard < SHARDS; n++) {
        char key[UUID_TEXT_SIZE];
        struct uuid id = uuid_with_place((struct uuid){{1, 0xa1, 0xfd}}, n);
        uuid_format(id, key);
        if (aggregate_hash(key, sizeof key - 1) % SHARDS == shard)
            campaigns[shard++] = id;
    }
}

/* A commit: each shard has a stretch of rows. */
static void make_rows(struct event_row rows[BURST], const struct uuid campaigns[SHARDS], int64_t first_seq)
{
    static const char data[] = "{\"user_id\":\"01a1fd5a-c779-7eca-8d2d-f24d00000002\",\"campaign_id\":\"01a1fd5a-c6b2-"
                               "7bb5-ae0c-eed7938b940a\","
                               "\"email\":\"x12345-1-100@example.com\"}";
    for (uint32_t i = 0; i < BURST; i++) {
        uint32_t shard = i / (BURST / SHARDS);
        int64_t seq = first_seq + i % (BURST / SHARDS);
        rows[i] = (struct event_row){
            .shard = shard,
            .seq = seq,
            .version = seq,
            .type = EVENT_USER_SIGNED_UP,
            .format = EVENT_FORMAT,
            .at_us = INT64_C(1795258078123456) + seq,
            .id = uuid_with_place((struct uuid){{1, 0xa1, 0xfd, 0x5a, 0xc8, 0x33, 0x76}}, (uint32_t)seq),
            .account_id = uuid_with_place((struct uuid){{1, 0xa1}}, 7),
            .campaign_id = campaigns[shard],
            .data = data,
            .data_len = sizeof data - 1,
        };
    }
}

static void turn(bool counted)
{
    if (counted)
        bench_on();
    uv_run(&loop, UV_RUN_NOWAIT);
    if (counted)
        bench_off();
}

/* Until all is acknowledged. Waiting for Kafka is not counted. */
static void take_acks(bool counted)
{
    for (int turns = 0; window_in_flight(relay.window) > 0; turns++) {
        bench_check(turns < 200);
        usleep(WAIT_US);
        turn(counted);
    }
}

static void run_round(const struct uuid campaigns[SHARDS], int64_t first_seq, bool counted)
{
    static struct event_row rows[BURST];
    make_rows(rows, campaigns, first_seq);
    /* A new producer sends one event alone first: what was left out is given again. */
    do {
        if (counted)
            bench_on();
        relay_send_rows(&relay, rows, BURST, false);
        if (counted)
            bench_off();
        take_acks(counted);
    } while (window_cursor(relay.window, SHARDS - 1) < rows[BURST - 1].seq);
}

int main(void)
{
    struct config config;
    struct uuid campaigns[SHARDS];
    char why[512];
    rd_kafka_t *owner = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(owner, 1);
    setenv("KAFKA_BROKERS", rd_kafka_mock_cluster_bootstraps(cluster), 1);
    setenv("KAFKA_TOPIC", "bench", 1);
    bench_check(config_load(&config, why, sizeof why));
    bench_check(rd_kafka_mock_topic_create(cluster, "bench", SHARDS, 1) == RD_KAFKA_RESP_ERR_NO_ERROR);
    bench_check(uv_loop_init(&loop) == 0);
    open_relay(&config);
    choose_campaigns(campaigns);
    for (int round = 0; round < WARM_ROUNDS + ROUNDS; round++)
        run_round(campaigns, 1 + round * (BURST / SHARDS), round >= WARM_ROUNDS);
    bench_report("relay", ROUNDS * BURST);
    producer_close(relay.producer, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    window_free(relay.window);
    buf_free(&relay.value);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(owner);
    uv_loop_close(&loop);
    config_free(&config);
    return 0;
}
