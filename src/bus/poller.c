/* librdkafka's queues on the loop. */
#include "bus/poller.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct poller *p = handle->data;
    uint64_t count;
    (void)events;
    if (status == 0 && read(p->fd, &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    p->on_ready(p->arg);
}

static void on_timer(uv_timer_t *handle)
{
    struct poller *p = handle->data;
    p->on_ready(p->arg);
}

int poller_open(struct poller *p, uv_loop_t *loop, uint64_t interval_ms, void (*on_ready)(void *arg), void *arg)
{
    memset(p, 0, sizeof *p);
    p->on_ready = on_ready;
    p->arg = arg;
    p->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->fd < 0)
        return uv_translate_sys_error(errno);
    int err = uv_poll_init(loop, &p->poll, p->fd);
    if (err != 0) {
        close(p->fd);
        return err;
    }
    uv_timer_init(loop, &p->timer);
    p->poll.data = p->timer.data = p;
    p->handles = 2;
    uv_poll_start(&p->poll, UV_READABLE, on_readable);
    uv_timer_start(&p->timer, on_timer, interval_ms, interval_ms);
    return 0;
}

void poller_watch(struct poller *p, rd_kafka_queue_t *queue)
{
    const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(queue, p->fd, &one, sizeof one);
}

void poller_unwatch(struct poller *p, rd_kafka_queue_t *queue)
{
    (void)p;
    rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
}

void poller_poke(struct poller *p)
{
    const uint64_t one = 1;
    if (write(p->fd, &one, sizeof one) < 0)
        return; /* the counter is full: it will be read anyway */
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct poller *p = handle->data;
    if (--p->handles > 0)
        return;
    close(p->fd);
    if (p->on_closed)
        p->on_closed(p->arg);
}

void poller_close(struct poller *p, void (*on_closed)(void *arg))
{
    p->on_closed = on_closed;
    uv_poll_stop(&p->poll);
    uv_close((uv_handle_t *)&p->poll, on_handle_closed);
    uv_close((uv_handle_t *)&p->timer, on_handle_closed);
}
