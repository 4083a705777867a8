/* Messages from other threads to the loop. */
#include "core/inbox.h"

#include <stddef.h>

/* Takes all that waits and delivers it in order. What is sent meanwhile wakes the loop again. Returns how many. */
static size_t deliver(struct inbox *in)
{
    size_t count = 0;
    pthread_mutex_lock(&in->lock);
    struct inbox_msg *msg = in->head;
    in->head = NULL;
    in->tail = &in->head;
    pthread_mutex_unlock(&in->lock);
    while (msg) {
        struct inbox_msg *next = msg->next; /* the message is the callee's from here on */
        msg->on_receive(msg);
        msg = next;
        count++;
    }
    return count;
}

static void on_wake(uv_async_t *async)
{
    deliver((struct inbox *)((char *)async - offsetof(struct inbox, async)));
}

int inbox_open(struct inbox *in, uv_loop_t *loop)
{
    in->head = NULL;
    in->tail = &in->head;
    int err = uv_async_init(loop, &in->async, on_wake);
    if (err == 0)
        pthread_mutex_init(&in->lock, NULL);
    return err;
}

void inbox_send(struct inbox *in, struct inbox_msg *msg)
{
    msg->next = NULL;
    pthread_mutex_lock(&in->lock);
    /* Woken under the lock: once a message was delivered its sender is through with the inbox, which may then close. */
    if (!in->head)
        uv_async_send(&in->async);
    *in->tail = msg;
    in->tail = &msg->next;
    pthread_mutex_unlock(&in->lock);
}

void inbox_close(struct inbox *in, uv_close_cb on_closed)
{
    while (deliver(in) > 0)
        continue;
    pthread_mutex_destroy(&in->lock);
    uv_close((uv_handle_t *)&in->async, on_closed);
}
