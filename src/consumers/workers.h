/* A pool of threads that run jobs which may block. Jobs go in from the loop, and come back to it through the inbox.
 * At most `backlog` jobs more are in the pool than it has workers, so its queue is bounded. */
#ifndef TIDINGS_CONSUMERS_WORKERS_H
#define TIDINGS_CONSUMERS_WORKERS_H

#include <stddef.h>

#include "core/inbox.h"

struct workers;

struct job {
    struct job *next;                           /* the pool's */
    void (*work)(struct job *job, void *state); /* on a worker thread; state: what open made for that thread */
    void (*on_done)(struct job *job);           /* on the loop, once; the job is the callee's again */
    void (*on_recalled)(struct job *job);       /* instead of on_done, see workers_recall. NULL: is not recalled */
};

struct workers_options {
    const char *name; /* of the threads, at most 15 characters are shown */
    size_t count;
    size_t backlog;             /* jobs that may wait: a worker that is done has its next one without asking the loop */
    void *(*open)(void *arg);   /* on each worker thread, before its first job; may be NULL */
    void (*close)(void *state); /* on the same thread, at its end; may be NULL */
    void *arg;
};

/* NULL when a thread cannot be made. Loop thread, as all of these. */
struct workers *workers_start(struct inbox *inbox, const struct workers_options *options);

size_t workers_free(const struct workers *w);            /* workers that have no job */
size_t workers_room(const struct workers *w);            /* jobs that workers_submit would take */
void workers_submit(struct workers *w, struct job *job); /* only while workers_room > 0 */

/* Takes back the jobs that no worker has begun; on_recalled comes for each, within this call. */
void workers_recall(struct workers *w);

/* Lets the threads end after their jobs; on_stopped comes when all have ended and all jobs came back, and w is gone. */
void workers_stop(struct workers *w, void (*on_stopped)(void *arg), void *arg);

/* Gives up waiting, before or after workers_stop: calls nothing back any more, and whatever a hanging job holds stays
 * as it is for ever (the process is about to end). w is gone for the caller. */
void workers_abandon(struct workers *w);

#endif
