/* Wakes the loop when a librdkafka queue has something: an eventfd behind uv_poll, and a timer as a safety net, because
 * the queue's signal is edge-triggered (drain to empty in the callback). Loop thread only. */
#ifndef TIDINGS_BUS_POLLER_H
#define TIDINGS_BUS_POLLER_H

#include <librdkafka/rdkafka.h>
#include <uv.h>

struct poller {
    uv_poll_t poll;
    uv_timer_t timer;
    int fd;
    int handles; /* still open, while closing */
    void (*on_ready)(void *arg);
    void (*on_closed)(void *arg);
    void *arg;
};

/* on_ready is called when a queue given to poller_watch may have events, and every interval_ms. 0 or a uv error. */
int poller_open(struct poller *p, uv_loop_t *loop, uint64_t interval_ms, void (*on_ready)(void *arg), void *arg);
void poller_watch(struct poller *p, rd_kafka_queue_t *queue);   /* may be called for several queues */
void poller_unwatch(struct poller *p, rd_kafka_queue_t *queue); /* before the queue is destroyed */
void poller_poke(struct poller *p);                             /* on_ready will be called in the loop's next turn */
void poller_close(struct poller *p, void (*on_closed)(void *arg));

#endif
