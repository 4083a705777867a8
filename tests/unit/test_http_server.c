/* The HTTP room as a whole, over lanes and a reader that are this file's: clients that leave, outcomes that come late,
 * requests that are refused, and the stop. A client thread talks over real sockets while the loop runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "http/http.h"

#define KEY "Authorization: Bearer tk_sec_0123456789abcdefghij\r\n"
#define CAMPAIGN "/v1/campaigns/01234567-89ab-7def-8123-456789abcdef"
#define SIGN_UP                                                                                                        \
    "POST " CAMPAIGN "/users HTTP/1.1\r\nHost: t\r\n" KEY                                                              \
    "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"email\":\"a@b.test\"}"
#define HEALTH "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
#define HEALTH_LAST "GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"

/* --- lanes and reader: answers come after a delay --------------------------------------------------------------- */

struct outcome {
    struct outcome *next;
    int64_t due_us;
    struct action *action; /* or a read: */
    read_done done;
    void *arg;
};

static struct outcome *outcomes;
static uv_timer_t outcomes_timer;
static atomic_int delay_ms, actions_done;

static void put_off(struct outcome o)
{
    struct outcome *copy = xmalloc(sizeof *copy), **at = &outcomes;
    *copy = o;
    copy->due_us = clock_mono_us() + (o.action ? atomic_load(&delay_ms) : 0) * 1000;
    while (*at)
        at = &(*at)->next;
    *at = copy;
}

enum err lanes_submit(struct lanes *l, struct action *a)
{
    (void)l;
    put_off((struct outcome){.action = a});
    return ERR_NONE;
}

enum err reader_submit(struct reader *r, enum read_query query, int count, const char *const params[],
                       read_done on_done, void *arg)
{
    (void)r, (void)query, (void)count, (void)params; /* only keys are read here */
    put_off((struct outcome){.done = on_done, .arg = arg});
    return ERR_NONE;
}

static void read_key(const struct outcome *o)
{
    static const char *const row[] = {"01234567-89ab-7def-8123-456789abcdef", "1",
                                      "01234567-89ab-7def-8123-456789abcdef", "secret"};
    PGresult *rows = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[4] = {
        {.name = (char *)"a"}, {.name = (char *)"b"}, {.name = (char *)"c"}, {.name = (char *)"d"}};
    PQsetResultAttrs(rows, 4, columns);
    for (int i = 0; i < 4; i++)
        PQsetvalue(rows, 0, i, (char *)(uintptr_t)row[i], (int)strlen(row[i]));
    o->done(o->arg, ERR_NONE, rows);
    PQclear(rows);
}

static void deliver(int64_t until_us)
{
    struct outcome **at = &outcomes, *o;
    while ((o = *at)) {
        if (o->due_us > until_us) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        if (o->action) {
            struct action_result result = {
                .id = o->action->object_id, .place = 1, .version = 2, .events = 1, .at_us = clock_wall_us()};
            o->action->on_done(o->action, &result);
            action_free(o->action);
            atomic_fetch_add(&actions_done, 1);
        } else {
            read_key(o);
        }
        free(o);
        at = &outcomes;
    }
}

static void on_outcomes_timer(uv_timer_t *timer)
{
    (void)timer;
    deliver(clock_mono_us());
}

/* --- the server around one client ------------------------------------------------------------------------------- */

static uv_loop_t loop;
static uv_async_t stop_async;
static struct http *http;
static struct sockaddr_in server;
static int64_t stop_ms, stop_called_us, stop_took_us;
static void (*client)(void);

static void on_stopped(void *arg)
{
    (void)arg;
    stop_took_us = clock_mono_us() - stop_called_us;
    deliver(INT64_MAX); /* what was still open comes back to nobody */
    uv_close((uv_handle_t *)&outcomes_timer, NULL);
    uv_close((uv_handle_t *)&stop_async, NULL);
}

static void on_stop_async(uv_async_t *async)
{
    (void)async;
    stop_called_us = clock_mono_us();
    http_stop(http, stop_called_us + stop_ms * 1000, on_stopped, NULL);
}

static void *client_main(void *arg)
{
    client();
    return arg;
}

static void health(void *arg, void (*report)(void *to, const char *part, const char *reason), void *to)
{
    (void)arg;
    report(to, "kafka", "say \"no\"");
}

/* Runs a server, `talk` against it, and the stop that talk asks for (uv_async_send) or that follows it. */
static void serve(void (*talk)(void))
{
    struct config config;
    struct installation installation = {.shards = 10};
    char why[256];
    pthread_t thread;
    setenv("HTTP_LISTEN", "127.0.0.1:0", 1);
    setenv("HTTP_ANSWER_TIMEOUT_MS", "300", 1);
    setenv("HTTP_REQUEST_TIMEOUT_MS", "1000", 1);
    setenv("HTTP_MAX_CONNECTIONS", "8", 1);
    setenv("TOKEN_SECRET", "0123456789abcdef", 1);
    assert_true(config_load(&config, why, sizeof why));
    assert_int_equal(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &outcomes_timer);
    uv_timer_start(&outcomes_timer, on_outcomes_timer, 1, 1);
    uv_async_init(&loop, &stop_async, on_stop_async);
    http = http_start(&loop, &(struct http_options){.config = &config, .installation = &installation, .health = health},
                      why, sizeof why);
    assert_non_null(http);
    server.sin_family = AF_INET;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.sin_port = htons((in_port_t)atoi(strrchr(http_url(http), ':') + 1));
    stop_ms = 3000;
    client = talk;
    assert_int_equal(pthread_create(&thread, NULL, client_main, NULL), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    pthread_join(thread, NULL);
    assert_int_equal(uv_loop_close(&loop), 0);
    config_free(&config);
}

/* --- the client: no cmocka in here, it is another thread -------------------------------------------------------- */

static char got[3][200000];

static int dial(void)
{
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0)
        abort();
    return fd;
}

static void put(int fd, const char *text)
{
    size_t len = strlen(text);
    if (send(fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
        abort();
}

/* Reads to the end of the connection; a reset or no end within 5 s shows in the text. */
static void get_all(int fd, char *into)
{
    size_t len = 0;
    ssize_t n;
    while ((n = recv(fd, into + len, sizeof got[0] - len - 32, 0)) > 0)
        len += (size_t)n;
    strcpy(into + len, n < 0 ? "<not closed>" : "");
    close(fd);
}

static void ask(const char *request, char *into)
{
    int fd = dial();
    put(fd, request);
    get_all(fd, into);
}

static void reset_connection(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static int fresh(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    atomic_store(&delay_ms, 0);
    atomic_store(&actions_done, 0);
    memset(got, 0, sizeof got);
    return 0;
}

static void check_has(const char *answer, const char *part)
{
    if (!strstr(answer, part))
        fail_msg("no %s in: %.600s", part, answer);
}

/* --- tests ------------------------------------------------------------------------------------------------------ */

static void talk_pipelined(void)
{
    ask(HEALTH SIGN_UP "GET /readyz HTTP/1.1\r\nHost: t\r\nX-Request-Id: mine\r\n\r\n" HEALTH_LAST, got[0]);
    uv_async_send(&stop_async);
}

static void test_answers_in_order(void **state)
{
    (void)state;
    serve(talk_pipelined);
    check_has(got[0], "HTTP/1.1 200 OK");
    const char *second = strstr(got[0] + 10, "HTTP/1.1 ");
    assert_non_null(second);
    check_has(second, "HTTP/1.1 201 Created");
    check_has(second, "\"position\":1,\"version\":2,\"events\":1");
    check_has(second, "access-control-allow-origin: *");
    check_has(second, "x-request-id: mine");
    check_has(second, "{\"status\":\"not ready\",\"waiting\":[{\"part\":\"kafka\",\"reason\":\"say \\\"no\\\"\"}]}");
    check_has(second, "Connection: close");
    assert_null(strstr(got[0], "<not closed>"));
}

static void talk_and_leave(void)
{
    for (int i = 0; i < 4; i++) {
        int fd = dial();
        put(fd, SIGN_UP);
        usleep(i < 2 ? 20000 : 0);
        i % 2 == 0 ? (void)close(fd) : reset_connection(fd);
    }
    usleep(150000);
    ask(HEALTH_LAST, got[0]);
    uv_async_send(&stop_async);
}

static void test_clients_that_leave(void **state)
{
    (void)state;
    atomic_store(&delay_ms, 60);
    serve(talk_and_leave);
    assert_true(atomic_load(&actions_done) >= 2); /* what was taken is done, whoever waits for it or not */
    check_has(got[0], "HTTP/1.1 200 OK");
}

static void talk_late(void)
{
    int fd = dial();
    put(fd, SIGN_UP);
    usleep(700000); /* the answer, then the outcome, then: */
    put(fd, HEALTH_LAST);
    get_all(fd, got[0]);
    uv_async_send(&stop_async);
}

static void test_late_outcomes(void **state)
{
    (void)state;
    atomic_store(&delay_ms, 500);
    serve(talk_late);
    check_has(got[0], "HTTP/1.1 503 Service Unavailable");
    check_has(got[0], "urn:tidings:problem:outcome-unknown");
    check_has(got[0], "retry-after: 1");
    check_has(got[0], "HTTP/1.1 200 OK");
    assert_int_equal(atomic_load(&actions_done), 1);
}

static void talk_refused(void)
{
    static char upload[200000];
    int fd = dial();
    put(fd, "POST /v1/campaigns HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\nX-Request-Id: big\r\n\r\n");
    memset(upload, 'x', sizeof upload - 1);
    for (int i = 0; i < 5; i++)
        if (send(fd, upload, sizeof upload - 1, MSG_NOSIGNAL) < 0)
            break;
    shutdown(fd, SHUT_WR);
    get_all(fd, got[0]);
    ask("POST " CAMPAIGN "/users HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}" HEALTH,
        got[1]);
    ask("garbage\r\n\r\n", got[2]);
    uv_async_send(&stop_async);
}

/* The client has sent more than was read, and still sees the answer. */
static void test_refusals(void **state)
{
    (void)state;
    serve(talk_refused);
    check_has(got[0], "HTTP/1.1 413 Content Too Large");
    check_has(got[0], "application/problem+json");
    check_has(got[0], "x-request-id: big");
    assert_null(strstr(got[0], "<not closed>"));
    check_has(got[1], "HTTP/1.1 400 Bad Request");
    check_has(got[1], "more than one Content-Length");
    assert_null(strstr(got[1] + 9, "HTTP/1.1"));
    check_has(got[2], "HTTP/1.1 400 Bad Request");
}

static void talk_too_many(void)
{
    int held[8];
    for (int i = 0; i < 8; i++)
        held[i] = dial();
    int fd = dial();
    get_all(fd, got[0]);
    close(held[0]);
    usleep(50000);
    ask(HEALTH_LAST, got[1]);
    /* An idle connection is closed after HTTP_REQUEST_TIMEOUT_MS; so is one whose request does not end. */
    put(held[1], "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n12345");
    get_all(held[1], got[2]);
    for (int i = 2; i < 8; i++)
        get_all(held[i], got[2]);
    uv_async_send(&stop_async);
}

static void test_connections_are_bounded(void **state)
{
    (void)state;
    serve(talk_too_many);
    assert_string_equal(got[0], "");
    check_has(got[1], "HTTP/1.1 200 OK");
    assert_string_equal(got[2], "");
}

static void talk_through_the_stop(void)
{
    int idle = dial(), busy = dial(), half = dial();
    put(busy, SIGN_UP);
    put(half, "POST " CAMPAIGN "/users HTTP/1.1\r\nHo");
    usleep(100000);
    uv_async_send(&stop_async);
    get_all(busy, got[1]);
    get_all(idle, got[0]);
    get_all(half, got[2]);
}

static void test_stop_answers_what_is_in_flight(void **state)
{
    (void)state;
    atomic_store(&delay_ms, 200);
    serve(talk_through_the_stop);
    assert_string_equal(got[0], "");
    check_has(got[1], "HTTP/1.1 201 Created");
    check_has(got[1], "Connection: close");
    assert_string_equal(got[2], "");
    assert_true(stop_took_us < 1500000);
}

static void talk_past_the_deadline(void)
{
    stop_ms = 100;
    int fd = dial();
    put(fd, SIGN_UP);
    usleep(50000);
    uv_async_send(&stop_async);
    get_all(fd, got[0]);
}

static void test_stop_keeps_its_deadline(void **state)
{
    (void)state;
    atomic_store(&delay_ms, 60000);
    serve(talk_past_the_deadline);
    check_has(got[0], "outcome-unknown");
    assert_true(stop_took_us < 1000000);
    assert_int_equal(atomic_load(&actions_done), 1); /* by on_stopped, when nobody was left to be told */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_answers_in_order, fresh),
        cmocka_unit_test_setup(test_clients_that_leave, fresh),
        cmocka_unit_test_setup(test_late_outcomes, fresh),
        cmocka_unit_test_setup(test_refusals, fresh),
        cmocka_unit_test_setup(test_connections_are_bounded, fresh),
        cmocka_unit_test_setup(test_stop_answers_what_is_in_flight, fresh),
        cmocka_unit_test_setup(test_stop_keeps_its_deadline, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
