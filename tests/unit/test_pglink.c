/* A link whose server hangs up at the worst moments: what waits is answered as lost, once and soon, and the loop goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "core/pglink.h"
#include "pg_standin.h"

enum { DEADLINE_MS = 20000 };

struct fixture {
    uv_loop_t loop;
    struct standin net;
    pthread_t server;
    uv_sem_t read; /* the first answer is with the client */
    uv_timer_t deadline;
    struct pglink *link;
    int more;      /* statements that the first answer's callback sends */
    bool said_why; /* the server says FATAL before it hangs up */
    int answered, lost, refused, downs;
};

/* Answers one statement and hangs up; with a reset where it says nothing, so that the client's next write fails. */
static void *serve(void *arg)
{
    static const char fatal[] = "SFATAL\0VFATAL\0C57P01\0Mgo away\0";
    struct fixture *f = arg;
    char body[4000], type = 0;
    size_t len;
    struct buf out = {0};
    int fd = accept(f->net.listener, NULL, NULL);
    assert_true(standin_read_startup(fd, body, sizeof body, &len));
    standin_welcome(fd);
    while (type != 'S') {
        assert_true(standin_read_message(fd, &type, body, sizeof body, &len));
        if (type == 'Q') { /* the session's settings */
            standin_add(&out, 'C', "SET", 4);
            standin_add(&out, 'Z', "I", 1);
            standin_send(fd, &out);
        }
    }
    standin_add(&out, '2', "", 0);
    standin_add(&out, 'n', "", 0);
    standin_add(&out, 'C', "SET", 4);
    standin_add(&out, 'Z', "I", 1);
    if (f->said_why)
        standin_add(&out, 'E', fatal, sizeof fatal);
    standin_send(fd, &out);
    uv_sem_wait(&f->read);
    if (!f->said_why)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    close(fd);
    return NULL;
}

static bool setup(PGconn *conn, void *arg, char *why, size_t why_size)
{
    (void)conn, (void)arg, (void)why, (void)why_size;
    return true;
}

static void on_closed(void *arg)
{
    struct fixture *f = arg;
    f->link = NULL;
    uv_close((uv_handle_t *)&f->deadline, NULL);
}

static void on_late_answer(void *arg, const struct pglink_answer *answer)
{
    struct fixture *f = arg;
    f->lost += !answer->result;
}

static void on_answer(void *arg, const struct pglink_answer *answer)
{
    struct fixture *f = arg;
    f->answered += answer->result && PQresultStatus(answer->result) == PGRES_COMMAND_OK;
    uv_sem_post(&f->read);
    pthread_join(f->server, NULL);
    close(f->net.listener);
    usleep(20000); /* what the server's end sends is here now */
    for (int i = 0; i < f->more; i++) {
        f->refused += !pglink_send(f->link, "more", 0, NULL, NULL, NULL, 0, on_late_answer, f);
        usleep(20000); /* and its answer to this */
    }
}

static void on_up(void *arg)
{
    struct fixture *f = arg;
    assert_true(pglink_send(f->link, "first", 0, NULL, NULL, NULL, 0, on_answer, f));
}

static void on_down(void *arg, const char *why)
{
    struct fixture *f = arg;
    assert_true(*why && !strchr(why, '\n'));
    f->downs++;
    pglink_close(f->link, on_closed, f);
}

static void on_deadline(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("the link did not go down");
}

static void run(struct fixture *f)
{
    char url[100];
    standin_listen(&f->net);
    assert_int_equal(uv_sem_init(&f->read, 0), 0);
    assert_int_equal(pthread_create(&f->server, NULL, serve, f), 0);
    snprintf(url, sizeof url, "postgresql://someone@127.0.0.1:%d/tidings", f->net.port);
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->deadline);
    uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0);
    f->link = pglink_open(&f->loop, &(struct pglink_options){.url = url,
                                                             .application_name = "test",
                                                             .connect_timeout_s = 5,
                                                             .stall_ms = 2 * DEADLINE_MS,
                                                             .max_pending = 100,
                                                             .setup = setup,
                                                             .on_up = on_up,
                                                             .on_down = on_down,
                                                             .arg = f});
    alarm(DEADLINE_MS / 1000 + 5); /* a loop that turns for ever has no timers */
    uv_run(&f->loop, UV_RUN_DEFAULT);
    alarm(0);
    uv_sem_destroy(&f->read);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_null(f->link);
    assert_int_equal(f->downs, 1);
}

static void test_gone_while_its_answer_is_told(void **state)
{
    (void)state;
    for (int said_why = 0; said_why <= 1; said_why++)
        for (int more = 0; more <= 4; more++) {
            struct fixture f = {.more = more, .said_why = said_why};
            run(&f);
            assert_int_equal(f.answered, 1);
            assert_int_equal(f.lost + f.refused, more);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone_while_its_answer_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
