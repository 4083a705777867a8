/* Postgres connections, against a stand-in server on a thread: it notes what it is told and fails with the SQLSTATE
 * that the query asks for. (The real one is met in the end-to-end tests.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/pg.h"
#include "pg_standin.h"

struct server {
    struct standin net;
    pthread_t thread;
    bool refuse; /* at the start-up, with 57P03 */
    bool silent; /* after the start-up nothing is answered, while its kernel still acknowledges */
    char startup[2000];
    struct buf queries; /* each followed by a newline */
};

static void add_error(struct buf *out, const char *severity, const char *state)
{
    struct buf body = {0};
    buf_printf(&body, "S%s%cV%s%cC%s%cMmessage of %s%c%c", severity, 0, severity, 0, state, 0, state, 0, 0);
    standin_add(out, 'E', body.data, body.len);
    buf_free(&body);
}

/* "ERROR 23505" fails so, "FATAL 57P01" too and hangs up, "DYING 57P01" is about to, "GONE" hangs up without a word;
 * anything else succeeds. */
static bool answer(int fd, const char *query)
{
    struct buf out = {0};
    if (strcmp(query, "GONE") == 0)
        return false;
    bool fatal = strncmp(query, "FATAL ", 6) == 0;
    bool dying = strncmp(query, "DYING ", 6) == 0;
    if (fatal || dying || strncmp(query, "ERROR ", 6) == 0)
        add_error(&out, fatal || dying ? "FATAL" : "ERROR", query + 6);
    else
        standin_add(&out, 'C', "SET", 4);
    if (!fatal)
        standin_add(&out, 'Z', "I", 1);
    standin_send(fd, &out);
    return !fatal;
}

static void serve_one(struct server *s, int fd)
{
    char body[4000], type;
    size_t len;
    struct buf hello = {0};
    if (!standin_read_startup(fd, body, sizeof body, &len))
        return;
    for (size_t i = 4; i < len && i < sizeof s->startup; i++)
        s->startup[i - 4] = body[i] ? body[i] : ' ';
    if (s->refuse) {
        add_error(&hello, "FATAL", "57P03");
        standin_send(fd, &hello);
        return;
    }
    standin_welcome(fd);
    while (s->silent && standin_read_message(fd, &type, body, sizeof body, &len) && type != 'X')
        continue;
    while (standin_read_message(fd, &type, body, sizeof body, &len) && type == 'Q') {
        buf_printf(&s->queries, "%s\n", body);
        if (!answer(fd, body))
            return;
    }
}

static void *serve(void *arg)
{
    struct server *s = arg;
    int fd = accept(s->net.listener, NULL, NULL);
    if (fd >= 0) {
        serve_one(s, fd);
        close(fd);
    }
    return NULL;
}

static void server_start(struct server *s)
{
    standin_listen(&s->net);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
    pthread_join(s->thread, NULL);
    close(s->net.listener);
    buf_free(&s->queries);
}

static PGconn *open_to(struct server *s, const char *settings, char why[300])
{
    char url[300];
    snprintf(url, sizeof url, "postgresql://someone@127.0.0.1:%d/tidings?%s", s->net.port, settings);
    return pg_open(url, "tidings test", 5, why, 300);
}

static const char *option(PGconn *conn, const char *keyword)
{
    static char value[200];
    PQconninfoOption *options = PQconninfo(conn);
    value[0] = '\0';
    for (PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0 && o->val)
            snprintf(value, sizeof value, "%s", o->val);
    PQconninfoFree(options);
    return value;
}

static void test_session_is_pinned(void **state)
{
    (void)state;
    struct server s = {0};
    char why[300] = "";
    server_start(&s);
    PGconn *conn = open_to(&s, "", why);
    assert_string_equal(why, "");
    assert_non_null(conn);
    assert_non_null(strstr(s.startup, "user someone "));
    assert_non_null(strstr(s.startup, "database tidings "));
    assert_non_null(strstr(s.startup, "application_name tidings test "));
    assert_string_equal(option(conn, "tcp_user_timeout"), "10000");
    assert_string_equal(option(conn, "connect_timeout"), "5");
    assert_string_equal(option(conn, "keepalives"), "1");
    PQfinish(conn);
    pthread_join(s.thread, NULL);
    assert_string_equal(
        buf_cstr(&s.queries),
        "SET default_transaction_isolation = 'read committed';SET synchronous_commit = on;SET TimeZone = "
        "'UTC';SET search_path = tidings;SET client_encoding = 'UTF8';SET client_min_messages = warning;"
        "SET jit = off\n");
    close(s.net.listener);
    buf_free(&s.queries);
}

static void test_the_url_overrides_defaults(void **state)
{
    (void)state;
    struct server s = {0};
    char why[300];
    server_start(&s);
    PGconn *conn = open_to(&s, "application_name=mine&tcp_user_timeout=7000&connect_timeout=50", why);
    assert_non_null(conn);
    assert_non_null(strstr(s.startup, "application_name mine "));
    assert_string_equal(option(conn, "tcp_user_timeout"), "7000");
    assert_string_equal(option(conn, "connect_timeout"), "5"); /* but not the caller's */
    PQfinish(conn);
    server_stop(&s);
}

static void test_open_fails(void **state)
{
    (void)state;
    struct server s = {.refuse = true};
    char why[300], small[10];
    server_start(&s);
    assert_null(open_to(&s, "", why));
    assert_non_null(strstr(why, "message of 57P03"));
    assert_int_not_equal(why[strlen(why) - 1], '\n');
    server_stop(&s);
    assert_null(open_to(&s, "", why)); /* nobody listens any more */
    assert_non_null(strstr(why, "refused"));
    assert_int_not_equal(why[strlen(why) - 1], '\n');
    assert_null(pg_open("nonsense=1", "x", 2, why, sizeof why));
    assert_string_equal(why, "invalid connection option \"nonsense\"");
    assert_null(pg_open("nonsense=1", "x", 2, small, sizeof small));
    assert_string_equal(small, "invalid c");
}

static enum pg_failure class_of(PGconn *conn, const char *query)
{
    PGresult *result = PQexec(conn, query);
    enum pg_failure class = pg_classify(conn, result);
    PQclear(result);
    return class;
}

static void test_classes(void **state)
{
    static const struct {
        const char *state;
        enum pg_failure class;
    } cases[] = {
        {"08006", PG_CONNECTION}, {"57P01", PG_CONNECTION}, {"57P02", PG_CONNECTION}, {"57P03", PG_CONNECTION},
        {"57P04", PG_CONNECTION}, {"57P05", PG_CONNECTION}, {"22001", PG_DATA},       {"22P05", PG_DATA},
        {"23505", PG_DATA},       {"23514", PG_DATA},       {"54000", PG_DATA},       {"53100", PG_TRANSIENT},
        {"53300", PG_TRANSIENT},  {"25006", PG_TRANSIENT},  {"25P02", PG_BUG},        {"40001", PG_TRANSIENT},
        {"40P01", PG_TRANSIENT},  {"55P03", PG_TRANSIENT},  {"57014", PG_TRANSIENT},  {"58030", PG_TRANSIENT},
        {"72000", PG_TRANSIENT},  {"42P01", PG_BUG},        {"42601", PG_BUG},        {"21000", PG_BUG},
        {"0A000", PG_BUG},        {"P0001", PG_BUG},        {"XX000", PG_BUG},        {"57000", PG_BUG},
        {"28000", PG_BUG},
    };
    (void)state;
    struct server s = {0};
    char why[300], query[20];
    server_start(&s);
    PGconn *conn = open_to(&s, "", why);
    assert_non_null(conn);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(query, sizeof query, "ERROR %s", cases[i].state);
        enum pg_failure class = class_of(conn, query);
        if (class != cases[i].class)
            fail_msg("%s is of class %d", cases[i].state, class);
    }
    assert_int_equal(class_of(conn, "SET x = 1"), PG_OK);
    assert_int_equal(pg_classify(conn, NULL), PG_CONNECTION);
    PGresult *bare = PQmakeEmptyPGresult(conn, PGRES_FATAL_ERROR),
             *aborted = PQmakeEmptyPGresult(conn, PGRES_PIPELINE_ABORTED);
    PGresult *rows = PQmakeEmptyPGresult(conn, PGRES_TUPLES_OK), *sync = PQmakeEmptyPGresult(conn, PGRES_PIPELINE_SYNC);
    assert_int_equal(pg_classify(conn, bare), PG_CONNECTION);
    assert_int_equal(pg_classify(conn, aborted), PG_TRANSIENT);
    assert_int_equal(pg_classify(NULL, aborted), PG_TRANSIENT); /* the result alone */
    assert_int_equal(pg_classify(conn, rows), PG_OK);
    assert_int_equal(pg_classify(conn, sync), PG_OK);
    PQclear(bare);
    PQclear(aborted);
    PQclear(rows);
    PQclear(sync);
    PQfinish(conn);
    server_stop(&s);
}

/* FATAL: the server hangs up, so it is the connection's failure whatever the state says. */
static void test_fatal_is_the_connections(void **state)
{
    static const char *const queries[] = {"FATAL 57P01", "FATAL 40001", "FATAL XX000",
                                          "DYING 40001", "DYING 23505", "GONE"};
    (void)state;
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        struct server s = {0};
        char why[300];
        server_start(&s);
        PGconn *conn = open_to(&s, "", why);
        assert_non_null(conn);
        assert_int_equal(class_of(conn, queries[i]), PG_CONNECTION);
        PQfinish(conn);
        server_stop(&s);
    }
}

static void test_run(void **state)
{
    (void)state;
    struct server s = {0};
    char why[300] = "";
    server_start(&s);
    PGconn *conn = open_to(&s, "", why);
    assert_non_null(conn);
    assert_true(pg_run(conn, "VACUUM", why, sizeof why));
    assert_string_equal(why, "");
    assert_false(pg_run(conn, "ERROR 42P01", why, sizeof why));
    assert_string_equal(why, "ERROR:  message of 42P01");
    assert_false(pg_run(conn, "GONE", why, sizeof why));
    assert_true(strlen(why) > 0 && why[strlen(why) - 1] != '\n');
    PQfinish(conn);
    server_stop(&s);
}

static void test_silent_server(void **state)
{
    (void)state;
    struct server s = {.silent = true};
    char why[300];
    int64_t begin = clock_mono_us();
    server_start(&s);
    assert_null(open_to(&s, "", why));
    assert_string_equal(why, "no answer from Postgres in time");
    assert_in_range(clock_mono_us() - begin, PG_SETUP_MS * 1000, PG_SETUP_MS * 3000);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_is_pinned),
        cmocka_unit_test(test_the_url_overrides_defaults),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_fatal_is_the_connections),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_silent_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
