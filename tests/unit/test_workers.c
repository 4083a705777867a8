/* The pool of worker threads: jobs run off the loop and come back to it, it stops when all are through, and a job that
 * hangs can be left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "consumers/workers.h"

enum { THREADS = 4, JOBS = 5000 };

static struct fixture {
    uv_loop_t loop;
    struct inbox inbox;
    struct workers *workers;
    uv_thread_t loop_thread;
    atomic_int opened, closed, ran;
    int submitted, done;
    bool stopped;
} f;

struct counted_job {
    struct job job;
    bool worked;
};

static void *open_worker(void *arg)
{
    assert_ptr_equal(arg, &f);
    atomic_fetch_add(&f.opened, 1);
    return &f.opened;
}

static void close_worker(void *state)
{
    assert_ptr_equal(state, &f.opened);
    atomic_fetch_add(&f.closed, 1);
}

static void on_inbox_closed(uv_handle_t *handle)
{
    (void)handle;
}

static void on_stopped(void *arg)
{
    assert_ptr_equal(arg, &f);
    f.stopped = true;
    inbox_close(&f.inbox, on_inbox_closed);
}

static void work(struct job *job, void *state)
{
    assert_ptr_equal(state, &f.opened);
    ((struct counted_job *)job)->worked = true;
    atomic_fetch_add(&f.ran, 1);
}

static void submit_some(void);

static void on_done(struct job *job)
{
    uv_thread_t self = uv_thread_self();
    assert_true(uv_thread_equal(&self, &f.loop_thread));
    assert_true(((struct counted_job *)job)->worked);
    free(job);
    f.done++;
    submit_some();
    if (f.done == JOBS)
        workers_stop(f.workers, on_stopped, &f);
}

static void submit_some(void)
{
    while (f.submitted < JOBS && workers_room(f.workers) > 0) {
        struct counted_job *j = calloc(1, sizeof *j);
        assert_non_null(j);
        j->job.work = work;
        j->job.on_done = on_done;
        f.submitted++;
        workers_submit(f.workers, &j->job);
    }
}

static void start(size_t backlog)
{
    const struct workers_options options = {.name = "test-workers-with-a-long-name",
                                            .count = THREADS,
                                            .backlog = backlog,
                                            .open = open_worker,
                                            .close = close_worker,
                                            .arg = &f};
    f = (struct fixture){.loop_thread = uv_thread_self()};
    assert_int_equal(uv_loop_init(&f.loop), 0);
    assert_int_equal(inbox_open(&f.inbox, &f.loop), 0);
    f.workers = workers_start(&f.inbox, &options);
    assert_non_null(f.workers);
    assert_int_equal(workers_free(f.workers), THREADS);
}

static void run_jobs(size_t backlog)
{
    start(backlog);
    assert_int_equal(workers_room(f.workers), THREADS + backlog);
    submit_some();
    assert_int_equal(f.submitted, THREADS + backlog);
    uv_run(&f.loop, UV_RUN_DEFAULT);
    assert_true(f.stopped);
    assert_int_equal(f.done, JOBS);
    assert_int_equal(f.ran, JOBS);
    assert_int_equal(f.opened, THREADS);
    assert_int_equal(f.closed, THREADS);
    assert_int_equal(uv_loop_close(&f.loop), 0);
}

static void test_jobs(void **state)
{
    (void)state;
    run_jobs(0);
    run_jobs(7);
}

static atomic_bool let_go;

static void hang(struct job *job, void *state)
{
    (void)job, (void)state;
    atomic_fetch_add(&f.ran, 1);
    while (!let_go)
        usleep(1000);
}

static void never(struct job *job)
{
    (void)job;
    fail_msg("a job came back from an abandoned pool");
}

static int recalled;

static void on_recalled(struct job *job)
{
    (void)job;
    recalled++;
}

static void on_hung(struct job *job)
{
    (void)job;
    if (++f.done == THREADS + 1)
        workers_stop(f.workers, on_stopped, &f);
}

/* What no worker has begun comes back, but what must not; and there is room for others then. */
static void test_recall(void **state)
{
    struct job jobs[THREADS + 5];
    (void)state;
    start(5);
    for (int i = 0; i < THREADS + 5; i++) {
        jobs[i] = (struct job){.work = hang, .on_done = on_hung, .on_recalled = i == THREADS + 2 ? NULL : on_recalled};
        workers_submit(f.workers, &jobs[i]);
        while (i < THREADS && f.ran <= i)
            usleep(1000);
    }
    assert_int_equal(workers_room(f.workers), 0);
    assert_int_equal(workers_free(f.workers), 0);
    workers_recall(f.workers);
    assert_int_equal(recalled, 4);
    assert_int_equal(workers_room(f.workers), 4);
    let_go = true;
    uv_run(&f.loop, UV_RUN_DEFAULT);
    assert_int_equal(f.ran, THREADS + 1);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    let_go = false;
}

static void test_abandon(void **state)
{
    static struct job jobs[THREADS]; /* they outlive the test, as an abandoned job does */
    (void)state;
    start(0);
    for (int i = 0; i < THREADS; i++) {
        jobs[i].work = i == 0 ? hang : work;
        jobs[i].on_done = never;
    }
    jobs[0].on_done = never;
    workers_submit(f.workers, &jobs[0]);
    while (f.ran == 0)
        usleep(1000);
    workers_stop(f.workers, on_stopped, &f);
    usleep(20000); /* the others end, and say so in the inbox */
    workers_abandon(f.workers);
    inbox_close(&f.inbox, on_inbox_closed);
    uv_run(&f.loop, UV_RUN_DEFAULT);
    assert_false(f.stopped);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    let_go = true;
    while (f.closed < THREADS) /* the hanging one ends by itself, and touches nothing that is gone */
        usleep(1000);
    usleep(20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs),
        cmocka_unit_test(test_recall),
        cmocka_unit_test(test_abandon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
