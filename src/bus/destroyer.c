/* Destroying librdkafka clients on a thread of their own. */
#include "bus/destroyer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/buf.h"

struct destroyer {
    struct inbox_msg msg;
    struct inbox *inbox;
    rd_kafka_t *rk;
    void (*on_destroyed)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    bool abandoned; /* no message will be sent, or the one that was sent counts for nothing */
    bool sent;
};

static void destroyer_end(struct destroyer *d)
{
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static void on_message(struct inbox_msg *msg)
{
    struct destroyer *d = (struct destroyer *)msg;
    /* The sender may still be about to unlock. */
    pthread_mutex_lock(&d->lock);
    bool abandoned = d->abandoned;
    pthread_mutex_unlock(&d->lock);
    void (*on_destroyed)(void *) = d->on_destroyed;
    void *arg = d->arg;
    destroyer_end(d);
    if (!abandoned)
        on_destroyed(arg);
}

static void *destroy(void *arg)
{
    struct destroyer *d = arg;
    rd_kafka_destroy_flags(d->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    pthread_mutex_lock(&d->lock);
    d->sent = !d->abandoned;
    bool sent = d->sent;
    if (sent)
        inbox_send(d->inbox, &d->msg);
    pthread_mutex_unlock(&d->lock);
    if (!sent)
        destroyer_end(d);
    return NULL;
}

struct destroyer *destroyer_start(struct inbox *inbox, rd_kafka_t *rk, void (*on_destroyed)(void *arg), void *arg)
{
    struct destroyer *d = xcalloc(1, sizeof *d);
    d->msg.on_receive = on_message;
    d->inbox = inbox;
    d->rk = rk;
    d->on_destroyed = on_destroyed;
    d->arg = arg;
    pthread_mutex_init(&d->lock, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, destroy, d) == 0)
        pthread_detach(thread);
    return d; /* without a thread the client stays as it is, and the caller's deadline comes */
}

void destroyer_abandon(struct destroyer *d)
{
    pthread_mutex_lock(&d->lock);
    d->abandoned = true;
    pthread_mutex_unlock(&d->lock);
}
