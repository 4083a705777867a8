/* A sign-up in the process, without the database: request bytes → libh2o → route, key, JSON, checks → action; then
 * result → answer bytes. The HTTP room is the real one, on a real socket; the lanes and the reader are stand-ins. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"
#include "core/buf.h"
#include "core/config.h"
#include "http/http.h"

enum { CONNECTIONS = 16, WARM_ROUNDS = 20, ROUNDS = 100 };

static uv_loop_t loop;
static struct action *waiting[CONNECTIONS];
static size_t waiting_count;

/* --- stand-ins --------------------------------------------------------------------------------------------------- */

enum err lanes_submit(struct lanes *l, struct action *a)
{
    (void)l;
    bench_check(waiting_count < CONNECTIONS);
    waiting[waiting_count++] = a;
    return ERR_NONE;
}

/* The one read that a sign-up can need: its API key's row. */
static struct {
    read_done done;
    void *arg;
    uv_timer_t timer;
} asked;

static void on_key_due(uv_timer_t *timer)
{
    static const char *const names[] = {"key_id", "account_no", "account_id", "kind"};
    static const char *const values[] = {"01a1fd5a-c6b2-7bb5-ae0c-eed7938b940a", "1",
                                         "01a1fd5a-c6b2-7bb5-ae0c-eed7938b940b", "secret"};
    PGresAttDesc columns[4] = {{0}};
    PGresult *rows = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    (void)timer;
    for (int i = 0; i < 4; i++)
        columns[i].name = (char *)names[i];
    PQsetResultAttrs(rows, 4, columns);
    for (int i = 0; i < 4; i++)
        PQsetvalue(rows, 0, i, (char *)values[i], (int)strlen(values[i]));
    asked.done(asked.arg, ERR_NONE, rows);
    PQclear(rows);
}

enum err reader_submit(struct reader *r, enum read_query query, int count, const char *const params[],
                       read_done on_done, void *arg)
{
    (void)r, (void)count, (void)params;
    bench_check(query == READ_API_KEY);
    asked.done = on_done;
    asked.arg = arg;
    uv_timer_start(&asked.timer, on_key_due, 0, 0);
    return ERR_NONE;
}

/* --- the client -------------------------------------------------------------------------------------------------- */

static int open_client(const char *url)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    bench_check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

static void send_sign_up(int fd, unsigned number)
{
    char body[100], request[1000];
    int body_len = snprintf(body, sizeof body, "{\"email\":\"x12345-1-%u@example.com\"}", number);
    int len = snprintf(request, sizeof request,
                       "POST /v1/campaigns/01a1fd5a-c6b2-7bb5-ae0c-eed7938b940c/users HTTP/1.1\r\n"
                       "Host: 127.0.0.1:8080\r\n"
                       "Content-Type: application/json\r\n"
                       "Authorization: Bearer tk_sec_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE\r\n"
                       "Content-Length: %d\r\n\r\n%s",
                       body_len, body);
    bench_check(write(fd, request, (size_t)len) == len);
}

static void take_answer(int fd)
{
    char answer[2000];
    ssize_t len = read(fd, answer, sizeof answer - 1);
    bench_check(len > 0);
    answer[len] = '\0';
    bench_check(strncmp(answer, "HTTP/1.1 201 Created\r\n", 22) == 0 && answer[len - 1] == '}');
}

/* --- a round: every connection asks once, and all are answered together, as after a commit ----------------------------- */

static void turn_until_all_wait(bool counted)
{
    for (int turns = 0; waiting_count < CONNECTIONS; turns++) {
        bench_check(turns < 1000);
        if (counted)
            bench_on();
        uv_run(&loop, UV_RUN_NOWAIT);
        if (counted)
            bench_off();
    }
}

static void answer_all(unsigned round)
{
    waiting_count = 0;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct action *a = waiting[i];
        struct action_result result = {
            .id = uuid_with_place(a->object_id, round * CONNECTIONS + i + 1),
            .place = round * CONNECTIONS + i + 1,
            .version = round * CONNECTIONS + i + 2,
            .events = 1,
            .at_us = INT64_C(1795258078123456) + round,
        };
        a->on_done(a, &result);
        action_free(a);
    }
}

static void run_round(const int clients[CONNECTIONS], unsigned round, bool counted)
{
    for (unsigned i = 0; i < CONNECTIONS; i++)
        send_sign_up(clients[i], round * CONNECTIONS + i);
    turn_until_all_wait(counted);
    if (counted)
        bench_on();
    answer_all(round);
    uv_run(&loop, UV_RUN_NOWAIT); /* what libuv and libh2o do after a write */
    if (counted)
        bench_off();
    for (unsigned i = 0; i < CONNECTIONS; i++)
        take_answer(clients[i]);
}

static void on_stopped(void *arg)
{
    *(bool *)arg = true;
}

int main(void)
{
    struct config config;
    char why[256];
    struct installation installation = {.shards = 10, .partitions = 10, .referral_code_key = "0123456789abcde"};
    int clients[CONNECTIONS];
    bool stopped = false;
    unsigned round = 0;

    setenv("HTTP_LISTEN", "127.0.0.1:0", 1);
    setenv("KEY_CACHE_MS", "600000", 1);
    bench_check(config_load(&config, why, sizeof why));
    bench_check(uv_loop_init(&loop) == 0);
    uv_timer_init(&loop, &asked.timer);
    struct http *http =
        http_start(&loop, &(struct http_options){.config = &config, .installation = &installation}, why, sizeof why);
    bench_check(http != NULL);
    for (int i = 0; i < CONNECTIONS; i++)
        clients[i] = open_client(http_url(http));
    while (round < WARM_ROUNDS)
        run_round(clients, round++, false);
    while (round < WARM_ROUNDS + ROUNDS)
        run_round(clients, round++, true);
    bench_report("request", ROUNDS * CONNECTIONS);

    for (int i = 0; i < CONNECTIONS; i++)
        close(clients[i]);
    uv_close((uv_handle_t *)&asked.timer, NULL);
    http_stop(http, 0, on_stopped, &stopped);
    while (!stopped)
        uv_run(&loop, UV_RUN_ONCE);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    config_free(&config);
    return 0;
}
