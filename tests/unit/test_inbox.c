/* The inbox: all that is sent arrives once, on the loop's thread, in each sender's order; so does what waits at the
 * close. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <uv.h>

#include "core/inbox.h"

enum { SENDERS = 4, MESSAGES = 20000 };

struct fixture {
    uv_loop_t loop;
    struct inbox inbox;
    pthread_t loop_thread;
    int next[SENDERS]; /* the number expected from each */
    int received;
    bool closed;
};

struct numbered {
    struct inbox_msg msg;
    struct fixture *fixture;
    int sender, number;
};

static struct fixture *the_fixture; /* on_closed has no argument of its own */

static void on_closed(uv_handle_t *handle)
{
    assert_ptr_equal(handle, &the_fixture->inbox.async);
    the_fixture->closed = true;
}

static void on_numbered(struct inbox_msg *msg)
{
    struct numbered *n = (struct numbered *)msg;
    struct fixture *f = n->fixture;
    assert_true(pthread_equal(pthread_self(), f->loop_thread));
    assert_int_equal(n->number, f->next[n->sender]);
    f->next[n->sender]++;
    free(n);
    if (++f->received == SENDERS * MESSAGES)
        inbox_close(&f->inbox, on_closed);
}

static void send_number(struct fixture *f, int sender, int number, void (*on_receive)(struct inbox_msg *))
{
    struct numbered *n = malloc(sizeof *n);
    assert_non_null(n);
    *n = (struct numbered){.msg.on_receive = on_receive, .fixture = f, .sender = sender, .number = number};
    inbox_send(&f->inbox, &n->msg);
}

static void open_fixture(struct fixture *f)
{
    *f = (struct fixture){.loop_thread = pthread_self()};
    the_fixture = f;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(inbox_open(&f->inbox, &f->loop), 0);
}

static void run_to_end(struct fixture *f)
{
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->closed);
    assert_int_equal(uv_loop_close(&f->loop), 0);
}

struct sender {
    struct fixture *fixture;
    int number;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < MESSAGES; i++)
        send_number(s->fixture, s->number, i, on_numbered);
    return NULL;
}

/* The loop closes the inbox from the last message, while its sender may still be on its way out of inbox_send. */
static void test_many_senders(void **state)
{
    (void)state;
    struct fixture f;
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    open_fixture(&f);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&f, i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    run_to_end(&f);
    assert_int_equal(f.received, SENDERS * MESSAGES);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
}

static void test_close_delivers_what_waits(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    for (int i = 0; i < 100; i++)
        send_number(&f, 0, i, on_numbered);
    assert_int_equal(f.received, 0);
    inbox_close(&f.inbox, on_closed);
    assert_int_equal(f.received, 100);
    run_to_end(&f);
}

static void on_echo(struct inbox_msg *msg)
{
    struct numbered *n = (struct numbered *)msg;
    if (n->number > 0)
        send_number(n->fixture, n->sender, n->number - 1, on_echo);
    n->fixture->received++;
    free(n);
}

/* A message sent by a message is delivered too, also during the close. */
static void test_sends_from_a_callback(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    send_number(&f, 0, 10, on_echo);
    while (f.received < 5)
        uv_run(&f.loop, UV_RUN_ONCE);
    inbox_close(&f.inbox, on_closed);
    assert_int_equal(f.received, 11);
    run_to_end(&f);
}

static void test_close_of_an_empty_one(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    inbox_close(&f.inbox, on_closed);
    run_to_end(&f);
    assert_int_equal(f.received, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_senders),
        cmocka_unit_test(test_close_delivers_what_waits),
        cmocka_unit_test(test_sends_from_a_callback),
        cmocka_unit_test(test_close_of_an_empty_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
