/* The only way from another thread to the loop: a bounded-by-its-senders queue of messages behind a uv_async_t.
 * Embed a struct inbox_msg in what is sent. */
#ifndef TIDINGS_CORE_INBOX_H
#define TIDINGS_CORE_INBOX_H

#include <pthread.h>
#include <uv.h>

struct inbox_msg {
    struct inbox_msg *next;
    void (*on_receive)(struct inbox_msg *msg); /* called once, on the loop thread; then the message is the callee's */
};

struct inbox {
    uv_async_t async;
    pthread_mutex_t lock;
    struct inbox_msg *head, **tail;
};

int inbox_open(struct inbox *in, uv_loop_t *loop);         /* loop thread; 0 or a uv error */
void inbox_send(struct inbox *in, struct inbox_msg *msg);  /* any thread; never blocks for long; order is kept */
void inbox_close(struct inbox *in, uv_close_cb on_closed); /* loop thread; delivers what waits first; no sends after */

#endif
