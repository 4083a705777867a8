/* Metrics: the exposition's text, labels, buckets, the bound on series, updates from many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/metrics.h"

/* Whether the exposition has this line. */
static bool rendered(const char *line)
{
    struct buf out = {0}, wanted = {0};
    buf_addc(&out, '\n');
    metrics_render(&out);
    buf_printf(&wanted, "\n%s\n", line);
    bool found = strstr(buf_cstr(&out), buf_cstr(&wanted)) != NULL;
    buf_free(&wanted);
    buf_free(&out);
    return found;
}

static void test_without_labels_shows_from_the_start(void **state)
{
    (void)state;
    assert_true(rendered("# TYPE tidings_http_connections_refused_total counter"));
    assert_true(rendered(
        "# HELP tidings_http_connections_refused_total connections closed at once, past HTTP_MAX_CONNECTIONS"));
    assert_true(rendered("tidings_http_connections_refused_total 0"));
    assert_true(rendered("# TYPE tidings_relay_latency_seconds histogram"));
    assert_true(rendered("tidings_relay_latency_seconds_count 0"));
    assert_true(rendered("# TYPE tidings_messages_total counter")); /* with labels: no series yet */
    assert_false(rendered("tidings_messages_total 0"));
}

static void test_counter_and_gauge(void **state)
{
    (void)state;
    metric_inc(M_HTTP_REFUSED);
    metric_add(metric_get(M_HTTP_REFUSED, NULL, NULL), 4);
    assert_true(rendered("tidings_http_connections_refused_total 5"));
    assert_int_equal(metric_value(metric_get(M_HTTP_REFUSED, NULL, NULL)), 5);
    metric_gauge(M_HTTP_CONNECTIONS, 7);
    metric_add(metric_get(M_HTTP_CONNECTIONS, NULL, NULL), -9);
    assert_true(rendered("tidings_http_connections -2"));
}

static void test_seconds_gauge(void **state)
{
    (void)state;
    metric_gauge(M_RELAY_LAG_SECONDS, 1500000);
    assert_true(rendered("tidings_relay_lag_seconds 1.5"));
    metric_gauge(M_RELAY_LAG_SECONDS, -20);
    assert_true(rendered("tidings_relay_lag_seconds -0.00002"));
    metric_gauge(M_RELAY_LAG_SECONDS, 3000000);
    assert_true(rendered("tidings_relay_lag_seconds 3"));
}

static void test_labels(void **state)
{
    (void)state;
    struct metric_series *a = metric_get(M_HTTP_REQUESTS, "POST /v1/campaigns", "201");
    assert_ptr_equal(a, metric_get(M_HTTP_REQUESTS, "POST /v1/campaigns", "201"));
    assert_ptr_not_equal(a, metric_get(M_HTTP_REQUESTS, "POST /v1/campaigns", "409"));
    assert_ptr_not_equal(a, metric_get(M_HTTP_REQUESTS, "201", "POST /v1/campaigns"));
    metric_add(a, 3);
    assert_true(rendered("tidings_http_requests_total{route=\"POST /v1/campaigns\",status=\"201\"} 3"));
    assert_true(rendered("tidings_http_requests_total{route=\"POST /v1/campaigns\",status=\"409\"} 0"));
    metric_add(metric_get(M_EVENTS, "a\\b\"c\nd", NULL), 1);
    assert_true(rendered("tidings_events_committed_total{type=\"a\\\\b\\\"c\\nd\"} 1"));
    metric_add(metric_get(M_EVENTS, NULL, NULL), 1);
    assert_true(rendered("tidings_events_committed_total{type=\"\"} 1"));
}

/* The label's text is copied: the caller's may change. */
static void test_labels_are_copied(void **state)
{
    (void)state;
    char label[] = "first";
    struct metric_series *s = metric_get(M_LANE_ERRORS, label, NULL);
    strcpy(label, "other");
    metric_add(s, 1);
    assert_true(rendered("tidings_lane_errors_total{class=\"first\"} 1"));
}

static void test_histogram_of_seconds(void **state)
{
    (void)state;
    const int64_t us[] = {0, 50, 51, 1000, 59999999, 60000000, 60000001, 500000000};
    for (size_t i = 0; i < sizeof us / sizeof us[0]; i++)
        metric_seen(M_LOOP_LAG, us[i]);
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"0.00005\"} 2"));
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"0.0001\"} 3"));
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"0.0005\"} 3"));
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"0.001\"} 4"));
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"1\"} 4"));
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"20\"} 4"));
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"60\"} 6"));
    assert_true(rendered("tidings_loop_lag_seconds_bucket{le=\"+Inf\"} 8"));
    assert_true(rendered("tidings_loop_lag_seconds_count 8"));
    assert_true(rendered("tidings_loop_lag_seconds_sum 680.001101"));
    assert_int_equal(metric_value(metric_get(M_LOOP_LAG, NULL, NULL)), 8);
}

static void test_histogram_of_sizes(void **state)
{
    (void)state;
    struct metric_series *s = metric_get(M_RUN_SIZE, "email-workers", NULL);
    metric_observe(s, 1);
    metric_observe(s, 200);
    metric_observe(s, 10001);
    assert_true(rendered("tidings_handler_run_records_bucket{group=\"email-workers\",le=\"1\"} 1"));
    assert_true(rendered("tidings_handler_run_records_bucket{group=\"email-workers\",le=\"100\"} 1"));
    assert_true(rendered("tidings_handler_run_records_bucket{group=\"email-workers\",le=\"200\"} 2"));
    assert_true(rendered("tidings_handler_run_records_bucket{group=\"email-workers\",le=\"10000\"} 2"));
    assert_true(rendered("tidings_handler_run_records_bucket{group=\"email-workers\",le=\"+Inf\"} 3"));
    assert_true(rendered("tidings_handler_run_records_sum{group=\"email-workers\"} 10202"));
    assert_true(rendered("tidings_handler_run_records_count{group=\"email-workers\"} 3"));
}

static void test_series_are_bounded(void **state)
{
    (void)state;
    char label[16];
    for (int i = 0; i < METRIC_MAX_SERIES + 10; i++) {
        sprintf(label, "v%d", i);
        metric_add(metric_get(M_READ_SECONDS, label, NULL), 0);
        metric_observe(metric_get(M_READ_SECONDS, label, NULL), 10);
    }
    assert_true(rendered("tidings_read_seconds_count{query=\"v511\"} 1"));
    assert_false(rendered("tidings_read_seconds_count{query=\"v512\"} 1"));
    assert_true(rendered("tidings_read_seconds_count{query=\"other\"} 10"));
    assert_ptr_equal(metric_get(M_READ_SECONDS, "new", NULL), metric_get(M_READ_SECONDS, "newer", NULL));
    assert_ptr_not_equal(metric_get(M_READ_SECONDS, "v3", NULL), metric_get(M_READ_SECONDS, "newer", NULL));
}

/* Every line is a comment or "name{labels} number"; each metric's HELP and TYPE come once, before its samples. */
static void test_form(void **state)
{
    (void)state;
    struct buf out = {0};
    metrics_render(&out);
    char *rest, *line = strtok_r((char *)(uintptr_t)buf_cstr(&out), "\n", &rest);
    int helps = 0, types = 0;
    for (; line; line = strtok_r(NULL, "\n", &rest)) {
        helps += strncmp(line, "# HELP tidings_", 15) == 0;
        types += strncmp(line, "# TYPE tidings_", 15) == 0;
        if (*line == '#')
            continue;
        assert_memory_equal(line, "tidings_", 8);
        const char *value = strrchr(line, ' ');
        assert_non_null(value);
        assert_int_equal(strspn(value + 1, "-.0123456789"), strlen(value + 1));
    }
    assert_int_equal(helps, METRIC_COUNT);
    assert_int_equal(types, METRIC_COUNT);
    buf_free(&out);
}

enum { THREADS = 4, ROUNDS = 5000 };

static void *update(void *arg)
{
    (void)arg;
    char label[16];
    for (int i = 0; i < ROUNDS; i++) {
        sprintf(label, "t%d", i % 20);
        metric_add(metric_get(M_MESSAGES, "group", label), 1);
        metric_observe(metric_get(M_HANDLER_SECONDS, label, "x"), i);
        metric_inc(M_RELAY_ACKED);
        metric_seen(M_LANE_BATCH, 7);
        metric_gauge(M_RELAY_LAG, i);
    }
    return NULL;
}

static atomic_bool done;

static void *render(void *arg)
{
    struct buf out = {0};
    (void)arg;
    while (!atomic_load(&done)) {
        buf_clear(&out);
        metrics_render(&out);
    }
    buf_free(&out);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS], renderer;
    assert_int_equal(pthread_create(&renderer, NULL, render, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, update, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&done, true);
    pthread_join(renderer, NULL);
    assert_int_equal(metric_value(metric_get(M_RELAY_ACKED, NULL, NULL)), THREADS * ROUNDS);
    assert_int_equal(metric_value(metric_get(M_LANE_BATCH, NULL, NULL)), THREADS * ROUNDS);
    for (int i = 0; i < 20; i++) {
        char label[16];
        sprintf(label, "t%d", i);
        assert_int_equal(metric_value(metric_get(M_MESSAGES, "group", label)), THREADS * ROUNDS / 20);
        assert_int_equal(metric_value(metric_get(M_HANDLER_SECONDS, label, "x")), THREADS * ROUNDS / 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_labels_shows_from_the_start),
        cmocka_unit_test(test_counter_and_gauge),
        cmocka_unit_test(test_seconds_gauge),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_labels_are_copied),
        cmocka_unit_test(test_histogram_of_seconds),
        cmocka_unit_test(test_histogram_of_sizes),
        cmocka_unit_test(test_series_are_bounded),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
