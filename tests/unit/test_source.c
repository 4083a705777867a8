/* A group's records from Kafka, against librdkafka's mock cluster: what is assigned is fetched, though the coordinator does
 * not tell the committed offsets at first; each record comes once, in order, from where the group was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h> /* needs the one before it */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "bus/source.c" /* a test takes partitions away behind its back */

#define TOPIC "domain-events"
#define GROUP "email-workers"
#define WAIT_US 60000000 /* much longer than anything takes */

enum { PARTITIONS = 3, OFFSET_FETCH = 9 };

struct member {
    struct source *source;
    int32_t ids[PARTITIONS];
    size_t count;
    int assigns, revokes;
    bool starves_2; /* as if the start of partition 2 were lost */
    bool closed;
};

static rd_kafka_mock_cluster_t *cluster;
static rd_kafka_t *cluster_client, *producer;
static struct config config;
static uv_loop_t loop;
static struct inbox inbox;
static uv_timer_t ticker;
static int64_t first[PARTITIONS], next[PARTITIONS]; /* offsets seen by all members together; -1: none */
static int64_t produced[PARTITIONS];
static char why[500];

/* --- the members' events --- */

static void on_assigned(void *arg, const int32_t *partitions, size_t count)
{
    struct member *m = arg;
    assert_true(count <= PARTITIONS);
    m->assigns++;
    m->count = count;
    memcpy(m->ids, partitions, count * sizeof *partitions);
    if (m->starves_2) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(2);
        for (int32_t p = 0; p < 2; p++)
            rd_kafka_topic_partition_list_add(list, TOPIC, p)->offset = RD_KAFKA_OFFSET_BEGINNING;
        assert_int_equal(rd_kafka_assign(m->source->rk, list), RD_KAFKA_RESP_ERR_NO_ERROR);
        rd_kafka_topic_partition_list_destroy(list);
    }
}

static void on_revoked(void *arg, bool lost)
{
    struct member *m = arg;
    (void)lost;
    m->revokes++;
    m->count = 0;
    source_release(m->source);
}

static void on_record(void *arg, const struct source_record *r)
{
    (void)arg;
    if (first[r->partition] < 0)
        first[r->partition] = r->offset;
    else
        assert_int_equal(r->offset, next[r->partition]);
    next[r->partition] = r->offset + 1;
}

static void on_committed(void *arg, bool ok)
{
    (void)arg;
    (void)ok;
}

static void on_woken(void *arg)
{
    struct member *m = arg;
    for (size_t i = 0; i < m->count; i++)
        source_take(m->source, m->ids[i], 100);
}

static void on_closed(void *arg)
{
    struct member *m = arg;
    m->closed = true;
}

static const struct source_events events = {on_assigned, on_revoked, on_record, on_committed, on_woken, on_closed};

/* --- steps --- */

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void join(struct member *m)
{
    m->source = source_open(&loop, &inbox, &config, GROUP, &events, m, why, sizeof why);
    assert_non_null(m->source);
}

static void leave(struct member *m)
{
    source_close(m->source, clock_mono_us() + WAIT_US);
    while (!m->closed)
        uv_run(&loop, UV_RUN_ONCE);
}

static void produce(int32_t partition, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(TOPIC), RD_KAFKA_V_PARTITION(partition),
                                           RD_KAFKA_V_VALUE("x", 1), RD_KAFKA_V_END),
                         RD_KAFKA_RESP_ERR_NO_ERROR);
    produced[partition] += count;
    assert_int_equal(rd_kafka_flush(producer, 30000), RD_KAFKA_RESP_ERR_NO_ERROR);
}

static bool all_seen(const struct member *m)
{
    (void)m;
    return memcmp(next, produced, sizeof next) == 0;
}

static bool is_missed(const struct member *m)
{
    return source_missing(m->source) > 0;
}

static bool is_fine(const struct member *m)
{
    return source_missing(m->source) == 0 && source_trouble(m->source)[0] == '\0';
}

static bool has_partitions(const struct member *m)
{
    return m->count > 0;
}

static bool is_revoked(const struct member *m)
{
    return m->revokes > 0;
}

static void wait_for(bool (*condition)(const struct member *), const struct member *m)
{
    int64_t end_us = clock_mono_us() + WAIT_US;
    while (!condition(m)) {
        assert_true(clock_mono_us() < end_us);
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void commit(int32_t partition, int64_t offset)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster));
    kafka_conf_set(conf, "group.id", GROUP);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, TOPIC, partition)->offset = offset;
    assert_int_equal(rd_kafka_commit(rk, list, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
}

/* --- tests --- */

/* The first error is for its own question, the rest for those that it asks again. */
static void test_errors_of_the_coordinator(void **state)
{
    (void)state;
    struct member m = {0};
    commit(1, 4);
    rd_kafka_mock_push_request_errors(cluster, OFFSET_FETCH, 3, RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_UNKNOWN);
    join(&m);
    wait_for(all_seen, &m);
    for (int i = 0; i < PARTITIONS; i++)
        assert_int_equal(first[i], i == 1 ? 4 : 0);
    assert_int_equal(m.assigns, 1);
    wait_for(is_fine, &m);
    leave(&m);
}

/* No error tells, and the others have begun: those go on, with no record twice and none left out. */
static void test_one_does_not_begin(void **state)
{
    (void)state;
    struct member m = {.starves_2 = true};
    join(&m);
    wait_for(is_missed, &m);
    assert_int_equal(source_missing(m.source), 1);
    assert_non_null(strstr(source_trouble(m.source), "1 assigned partitions of 3 are not fetched"));
    assert_int_equal(first[2], -1);
    int64_t end_us = clock_mono_us() + WAIT_US;
    for (int32_t i = 0; next[2] < produced[2]; i++) { /* while the assignment is made anew */
        assert_true(clock_mono_us() < end_us);
        produce(i % 2, 1);
        uv_run(&loop, UV_RUN_ONCE);
    }
    wait_for(all_seen, &m);
    for (int i = 0; i < PARTITIONS; i++)
        assert_int_equal(first[i], 0);
    wait_for(is_fine, &m);
    assert_int_equal(m.assigns, 1);
    leave(&m);
}

/* Another member comes while nothing can be found out. */
static void test_revoked_meanwhile(void **state)
{
    (void)state;
    struct member a = {0}, b = {0};
    for (int i = 0; i < 1000; i++)
        rd_kafka_mock_push_request_errors(cluster, OFFSET_FETCH, 1, RD_KAFKA_RESP_ERR_NOT_COORDINATOR);
    join(&a);
    wait_for(is_missed, &a);
    assert_non_null(strstr(source_trouble(a.source), "are not fetched"));
    join(&b);
    wait_for(is_revoked, &a);
    assert_int_equal(source_missing(a.source), 0);
    wait_for(has_partitions, &a);
    wait_for(has_partitions, &b);
    assert_int_equal(a.count + b.count, PARTITIONS);
    rd_kafka_mock_clear_request_errors(cluster, OFFSET_FETCH);
    wait_for(all_seen, &a);
    leave(&b);
    leave(&a);
}

/* --- fixture --- */

static int set_up(void **state)
{
    (void)state;
    cluster_client = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    cluster = rd_kafka_mock_cluster_new(cluster_client, 1);
    rd_kafka_mock_topic_create(cluster, TOPIC, PARTITIONS, 1);
    setenv("KAFKA_BROKERS", rd_kafka_mock_cluster_bootstraps(cluster), 1);
    assert_true(config_load(&config, why, sizeof why));
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, kafka_conf(&config, "test"), why, sizeof why);
    for (int32_t i = 0; i < PARTITIONS; i++) {
        first[i] = next[i] = -1;
        produced[i] = 0;
        produce(i, 10);
    }
    uv_loop_init(&loop);
    inbox_open(&inbox, &loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 10, 10); /* so that no wait hangs */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    inbox_close(&inbox, NULL);
    uv_close((uv_handle_t *)&ticker, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    rd_kafka_destroy(producer);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(cluster_client);
    config_free(&config);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_errors_of_the_coordinator, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_does_not_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_revoked_meanwhile, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
