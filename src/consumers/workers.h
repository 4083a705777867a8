/* A pool of threads that run jobs which may block. Jobs go in from the loop, and come back to it through the inbox.
 * At most as many jobs are in the pool as there are free workers, so its queue is bounded. */
#ifndef TIDINGS_CONSUMERS_WORKERS_H
#define TIDINGS_CONSUMERS_WORKERS_H

#include <stddef.h>

#include "core/inbox.h"

struct workers;

struct job {
    struct inbox_msg msg;                       /* the pool's */
    struct job *next;                           /* the pool's */
    struct workers *workers;                    /* the pool's */
    void (*work)(struct job *job, void *state); /* on a worker thread; state: what open made for that thread */
    void (*on_done)(struct job *job);           /* on the loop, once; the job is the callee's again */
};

struct workers_options {
    const char *name; /* of the threads, at most 15 characters are shown */
    size_t count;
    void *(*open)(void *arg);   /* on each worker thread, before its first job; may be NULL */
    void (*close)(void *state); /* on the same thread, at its end; may be NULL */
    void *arg;
};

/* NULL when a thread cannot be made. Loop thread, as all of these. */
struct workers *workers_start(struct inbox *inbox, const struct workers_options *options);

size_t workers_free(const struct workers *w);            /* jobs that workers_submit would take */
void workers_submit(struct workers *w, struct job *job); /* only while workers_free > 0 */

/* Lets the threads end after their jobs; on_stopped comes when all have ended and all jobs came back, and w is gone. */
void workers_stop(struct workers *w, void (*on_stopped)(void *arg), void *arg);

/* Gives up waiting, before or after workers_stop: calls nothing back any more, and whatever a hanging job holds stays
 * as it is for ever (the process is about to end). w is gone for the caller. */
void workers_abandon(struct workers *w);

#endif
