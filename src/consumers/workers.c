/* A pool of worker threads behind a queue. */
#include "consumers/workers.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

#define STACK_SIZE ((size_t)1 << 20) /* enough for libcurl, GMime and a resolver; 512 workers must not take gigabytes */

struct worker {
    struct inbox_msg msg; /* sent once: the thread has ended */
    struct workers *workers;
    pthread_t thread;
    bool joined; /* the loop's */
};

struct job_list {
    struct job *head, **tail;
};

struct workers {
    struct workers_options options;
    struct inbox *inbox;
    pthread_mutex_t lock; /* guards what follows up to `count` */
    pthread_cond_t wake;
    struct job_list waiting, done;
    struct inbox_msg done_msg; /* in the inbox while anything is done: one message for all */
    size_t idle;               /* workers that wait for a job */
    bool stopping, abandoned;
    size_t refs; /* the owner's, each thread's, each message's in the inbox: the last one frees */
    /* The loop's. */
    size_t count; /* threads made */
    size_t jobs;  /* in the pool */
    size_t ended; /* threads joined */
    void (*on_stopped)(void *arg);
    void *arg;
    char name[16];
    struct worker worker[];
};

static void list_init(struct job_list *l)
{
    l->head = NULL;
    l->tail = &l->head;
}

static void list_push(struct job_list *l, struct job *job)
{
    job->next = NULL;
    *l->tail = job;
    l->tail = &job->next;
}

static struct job *list_pop(struct job_list *l)
{
    struct job *job = l->head;
    if (job && !(l->head = job->next))
        l->tail = &l->head;
    return job;
}

static void drop_ref(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    bool last = --w->refs == 0;
    pthread_mutex_unlock(&w->lock);
    if (!last)
        return;
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* With the lock held: after workers_abandon the loop may be gone, so nothing is sent to it. */
static void post(struct workers *w, struct inbox_msg *msg)
{
    if (w->abandoned)
        return;
    w->refs++;
    inbox_send(w->inbox, msg);
}

static void on_jobs_done(struct inbox_msg *msg)
{
    struct workers *w = (struct workers *)((char *)msg - offsetof(struct workers, done_msg));
    pthread_mutex_lock(&w->lock);
    struct job *job = w->done.head;
    list_init(&w->done);
    pthread_mutex_unlock(&w->lock);
    for (struct job *next; job && !w->abandoned;
         job = next) { /* only the loop sets it, so it may look without the lock */
        next = job->next;
        w->jobs--;
        job->on_done(job);
    }
    drop_ref(w);
}

static void on_worker_ended(struct inbox_msg *msg)
{
    struct worker *worker = (struct worker *)msg;
    struct workers *w = worker->workers;
    if (!w->abandoned) {
        pthread_join(worker->thread, NULL); /* it has sent its last message: at once */
        worker->joined = true;
        if (++w->ended == w->count) {
            drop_ref(w); /* the owner's */
            w->on_stopped(w->arg);
        }
    }
    drop_ref(w);
}

/* With the lock held: the next job, or NULL when the pool stops and none is left. */
static struct job *next_job(struct workers *w)
{
    while (!w->waiting.head && !w->stopping) {
        w->idle++;
        pthread_cond_wait(&w->wake, &w->lock);
        w->idle--;
    }
    return list_pop(&w->waiting);
}

/* With the lock held. */
static void end_job(struct workers *w, struct job *job)
{
    bool first = !w->done.head;
    list_push(&w->done, job);
    if (first)
        post(w, &w->done_msg);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct workers *w = worker->workers;
    void *state = w->options.open ? w->options.open(w->options.arg) : NULL;

    pthread_mutex_lock(&w->lock);
    for (struct job *job; (job = next_job(w));) {
        pthread_mutex_unlock(&w->lock);
        job->work(job, state);
        pthread_mutex_lock(&w->lock);
        end_job(w, job);
    }
    pthread_mutex_unlock(&w->lock);

    if (w->options.close)
        w->options.close(state);
    pthread_mutex_lock(&w->lock);
    post(w, &worker->msg);
    pthread_mutex_unlock(&w->lock);
    drop_ref(w);
    return NULL;
}

struct workers *workers_start(struct inbox *inbox, const struct workers_options *options)
{
    struct workers *w = xcalloc(1, sizeof *w + options->count * sizeof w->worker[0]);
    w->options = *options;
    w->inbox = inbox;
    list_init(&w->waiting);
    list_init(&w->done);
    w->done_msg.on_receive = on_jobs_done;
    w->refs = 1;
    snprintf(w->name, sizeof w->name, "%s", options->name);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);

    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_mutex_lock(&w->lock);
    for (; w->count < options->count; w->count++) {
        struct worker *worker = &w->worker[w->count];
        worker->workers = w;
        worker->msg.on_receive = on_worker_ended;
        if (pthread_create(&worker->thread, &attr, worker_main, worker) != 0)
            break;
        pthread_setname_np(worker->thread, w->name);
        w->refs++;
    }
    pthread_mutex_unlock(&w->lock);
    pthread_attr_destroy(&attr);
    if (w->count == options->count)
        return w;
    workers_abandon(w);
    return NULL;
}

size_t workers_free(const struct workers *w)
{
    return w->jobs < w->count ? w->count - w->jobs : 0;
}

size_t workers_room(const struct workers *w)
{
    return w->count + w->options.backlog - w->jobs;
}

void workers_submit(struct workers *w, struct job *job)
{
    w->jobs++;
    pthread_mutex_lock(&w->lock);
    list_push(&w->waiting, job);
    bool wake = w->idle > 0;
    pthread_mutex_unlock(&w->lock);
    if (wake)
        pthread_cond_signal(&w->wake);
}

void workers_recall(struct workers *w)
{
    struct job_list recalled;
    list_init(&recalled);
    pthread_mutex_lock(&w->lock);
    struct job *job = w->waiting.head;
    list_init(&w->waiting);
    for (struct job *next; job; job = next) {
        next = job->next;
        list_push(job->on_recalled ? &recalled : &w->waiting, job);
    }
    pthread_mutex_unlock(&w->lock);
    while ((job = list_pop(&recalled))) {
        w->jobs--;
        job->on_recalled(job);
    }
}

static void stop_threads(struct workers *w, bool abandon)
{
    w->stopping = true;
    w->abandoned |= abandon;
    pthread_cond_broadcast(&w->wake);
}

void workers_stop(struct workers *w, void (*on_stopped)(void *arg), void *arg)
{
    w->on_stopped = on_stopped;
    w->arg = arg;
    pthread_mutex_lock(&w->lock);
    stop_threads(w, false);
    pthread_mutex_unlock(&w->lock);
}

void workers_abandon(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    stop_threads(w, true);
    for (size_t i = 0; i < w->count; i++)
        if (!w->worker[i].joined)
            pthread_detach(w->worker[i].thread);
    pthread_mutex_unlock(&w->lock);
    drop_ref(w);
}
