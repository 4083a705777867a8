/* The log: the form of its lines, hostile values, many threads, and a standard error that nobody reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"

static int real_stderr;

static void point_stderr_to(int fd)
{
    fflush(stderr);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    close(fd);
}

/* Standard error goes to a nameless file from here on. */
static void capture(void)
{
    char name[] = "/tmp/test_log_XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    point_stderr_to(fd);
}

/* Ends capture; what was written, to be freed. */
static char *captured(void)
{
    off_t size = lseek(STDERR_FILENO, 0, SEEK_END);
    char *text = malloc((size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(pread(STDERR_FILENO, text, (size_t)size, 0), size);
    text[size] = '\0';
    point_stderr_to(dup(real_stderr));
    return text;
}

/* The line after its time. */
static const char *after_time(const char *line, const char *before, const char *after)
{
    int64_t us;
    size_t skip = strlen(before);
    assert_memory_equal(line, before, skip);
    assert_int_equal(rfc3339_parse(line + skip, RFC3339_SIZE - 1, &us), 0);
    assert_true(clock_wall_us() - us < 60000000);
    assert_memory_equal(line + skip + RFC3339_SIZE - 1, after, strlen(after));
    return line + skip + RFC3339_SIZE - 1 + strlen(after);
}

static void test_logfmt(void **state)
{
    (void)state;
    capture();
    log_start("info", "logfmt");
    log_warn("lane lost its connection", "lane", log_int(3), "error", "a \"b\" = c\\d\n\te", "none", (const char *)NULL,
             "empty", "", "plain", "a-b_c/d:e", "utf8", "é😀");
    log_stop();
    char *text = captured();
    assert_string_equal(
        after_time(text, "time=", " "),
        "level=warn msg=\"lane lost its connection\" lane=3 error=\"a \\\"b\\\" = c\\\\d\\n\\te\" empty=\"\" "
        "plain=a-b_c/d:e utf8=\"é😀\"\n");
    free(text);
}

static void test_json(void **state)
{
    (void)state;
    capture();
    log_start("info", "json");
    log_error("it failed", "lane", log_int(-3), "error", "a \"b\"\\\x01\x7f\r\n", "none", (const char *)NULL, "empty",
              "");
    log_stop();
    char *text = captured();
    assert_string_equal(
        after_time(text, "{\"time\":\"", "\","),
        "\"level\":\"error\",\"msg\":\"it failed\",\"lane\":\"-3\",\"error\":\"a \\\"b\\\"\\\\\\u0001\\u007f\\r\\n\","
        "\"empty\":\"\"}\n");
    free(text);
}

static void test_invalid_utf8(void **state)
{
    static const struct {
        const char *value, *shown;
    } cases[] = {
        {"\xff", "\\ufffd"},
        {"a\x80z", "a\\ufffdz"},
        {"\xc3", "\\ufffd"},
        {"\xc3(", "\\ufffd("},
        {"\xe2\x82", "\\ufffd\\ufffd"},
        {"\xe2\x82\xac", "€"},
        {"\xc0\xaf", "\\ufffd\\ufffd"},
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},
        {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xc2\x9b", "\\u009b"}, /* a control that moves terminals */
        {"\xc2\xa0", "\xc2\xa0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int json = 0; json < 2; json++) {
            char expected[100];
            capture();
            log_start("info", json ? "json" : "logfmt");
            log_info("m", "k", cases[i].value);
            log_stop();
            char *text = captured();
            snprintf(expected, sizeof expected, json ? "\"k\":\"%s\"}\n" : " k=\"%s\"\n", cases[i].shown);
            assert_non_null(strstr(text, expected));
            free(text);
        }
}

/* Values of every length about the size of a line, and several of them: the line stays valid JSON and is bounded. */
static void test_long_values(void **state)
{
    (void)state;
    char value[5001];
    capture();
    log_start("info", "json");
    int lines = 0;
    for (size_t len = 0; len <= 5000; len += len > 3800 && len < 4200 ? 1 : 97, lines++) {
        memset(value, lines % 2 ? '"' : 'x', len);
        value[len] = '\0';
        log_info("long", "a", value, "b", "second", "c", value, "d", "\x01\x01\x01");
    }
    log_stop();
    char *text = captured(), *rest, *line = strtok_r(text, "\n", &rest);
    for (; line; line = strtok_r(NULL, "\n", &rest), lines--) {
        assert_true(strlen(line) < 4096);
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(json);
        assert_string_equal(json_string_value(json_object_get(json, "msg")), "long");
        const char *a = json_string_value(json_object_get(json, "a"));
        assert_non_null(a);
        if (strlen(a) > 0 && !json_object_get(json, "b") && strlen(a) < 3000)
            assert_non_null(strstr(a, "…"));
        json_decref(json);
    }
    assert_int_equal(lines, 0);
    free(text);
}

static void test_levels(void **state)
{
    static const char *const words[] = {"debug", "info", "warn", "error"};
    (void)state;
    for (int least = 0; least < 4; least++) {
        capture();
        log_start(words[least], "logfmt");
        log_debug("m", "k", "v");
        log_info("m", "k", "v");
        log_warn("m", "k", "v");
        log_error("m", "k", "v");
        log_stop();
        char *text = captured();
        for (int level = 0; level < 4; level++) {
            char expected[20];
            snprintf(expected, sizeof expected, "level=%s", words[level]);
            assert_int_equal(strstr(text, expected) != NULL, level >= least);
            assert_int_equal(log_enabled((enum log_level)level), level >= least);
        }
        free(text);
    }
}

static void test_direct_without_a_thread(void **state)
{
    (void)state;
    capture();
    log_start("info", "logfmt");
    log_stop();
    log_info("after the stop", "k", "v");
    char *text = captured();
    assert_string_equal(after_time(text, "time=", " "), "level=info msg=\"after the stop\" k=v\n");
    free(text);
    log_stop(); /* harmless */
}

static void test_int(void **state)
{
    (void)state;
    const char *numbers[16];
    for (int i = 0; i < 16; i++)
        numbers[i] = log_int(i - 8);
    for (int i = 0; i < 16; i++)
        assert_int_equal(atoi(numbers[i]), i - 8);
    assert_string_equal(log_int(INT64_MIN), "-9223372036854775808");
}

enum { THREADS = 4, LINES = 3000 };

static void *write_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        log_info("line", "thread", (const char *)arg, "n", log_int(i), "fill",
                 "0123456789012345678901234567890123456789");
    return NULL;
}

/* Lines are whole and in each thread's order; those that are missing were counted. */
static void test_threads(void **state)
{
    static char names[THREADS][2] = {"0", "1", "2", "3"};
    (void)state;
    pthread_t threads[THREADS];
    int last[THREADS] = {-1, -1, -1, -1}, seen = 0;
    int64_t dropped = metric_value(metric_get(M_LOG_DROPPED, NULL, NULL));
    capture();
    log_start("info", "json");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_stop();
    char *text = captured(), *rest, *line = strtok_r(text, "\n", &rest);
    for (; line; line = strtok_r(NULL, "\n", &rest), seen++) {
        json_t *json = json_loads(line, 0, NULL);
        assert_non_null(json);
        int thread = atoi(json_string_value(json_object_get(json, "thread")));
        int number = atoi(json_string_value(json_object_get(json, "n")));
        assert_true(number > last[thread]);
        last[thread] = number;
        json_decref(json);
    }
    dropped = metric_value(metric_get(M_LOG_DROPPED, NULL, NULL)) - dropped;
    assert_int_equal(seen + dropped, THREADS * LINES);
    free(text);
}

static void test_closed_reader(void **state)
{
    (void)state;
    int ends[2];
    int64_t dropped = metric_value(metric_get(M_LOG_DROPPED, NULL, NULL));
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    point_stderr_to(ends[1]);
    log_start("info", "logfmt");
    for (int i = 0; i < 10; i++)
        log_info("nobody reads this"); /* a SIGPIPE would end the test */
    log_stop();
    point_stderr_to(dup(real_stderr));
    assert_int_equal(metric_value(metric_get(M_LOG_DROPPED, NULL, NULL)) - dropped, 10);
}

static int64_t flood(int lines)
{
    char value[1000];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    int64_t start = clock_mono_us();
    for (int i = 0; i < lines; i++)
        log_info("flood", "n", log_int(i), "fill", value);
    return clock_mono_us() - start;
}

struct reading {
    int fd;
    size_t lines;
};

static void *read_all(void *arg)
{
    struct reading *r = arg;
    char bytes[8192];
    for (ssize_t n; (n = read(r->fd, bytes, sizeof bytes)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            r->lines += bytes[i] == '\n';
    return NULL;
}

/* A reader that pauses: nobody is held up, what does not fit is counted, and it goes on when the reader does. */
static void test_slow_reader(void **state)
{
    (void)state;
    enum { FLOOD = 4000 };
    int ends[2];
    pthread_t thread;
    int64_t dropped = metric_value(metric_get(M_LOG_DROPPED, NULL, NULL));
    assert_int_equal(pipe(ends), 0);
    struct reading reading = {.fd = ends[0]};
    point_stderr_to(ends[1]);
    log_start("info", "logfmt");
    assert_true(flood(FLOOD) < 2000000);
    int64_t lost = metric_value(metric_get(M_LOG_DROPPED, NULL, NULL)) - dropped;
    assert_true(lost > 1000 && lost < FLOOD); /* the ring holds a megabyte */
    assert_int_equal(pthread_create(&thread, NULL, read_all, &reading), 0);
    usleep(200000);
    log_info("after the flood");
    log_stop();
    point_stderr_to(dup(real_stderr)); /* closes the pipe's writing end */
    pthread_join(thread, NULL);
    close(ends[0]);
    dropped = metric_value(metric_get(M_LOG_DROPPED, NULL, NULL)) - dropped;
    assert_int_equal((int64_t)reading.lines + dropped, FLOOD + 1);
}

/* Nobody ever reads: the stop gives up after a second and the exit is not held up. Comes last: the log stays off. */
static void test_blocked_for_ever(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    point_stderr_to(ends[1]);
    log_start("info", "logfmt");
    assert_true(flood(3000) < 2000000);
    int64_t start = clock_mono_us();
    log_stop();
    assert_in_range(clock_mono_us() - start, 900000, 1900000); /* 2 s: the thread itself was stuck */
    int64_t dropped = metric_value(metric_get(M_LOG_DROPPED, NULL, NULL));
    assert_true(flood(10) < 500000);
    assert_int_equal(metric_value(metric_get(M_LOG_DROPPED, NULL, NULL)) - dropped, 10);
    point_stderr_to(dup(real_stderr));
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logfmt),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_direct_without_a_thread),
        cmocka_unit_test(test_int),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_closed_reader),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_blocked_for_ever),
    };
    real_stderr = dup(STDERR_FILENO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
