/* Connections: accept, count, sweep, linger, drain. */
#include "http/conns.h"

#include <errno.h>
#include <fcntl.h>
#include <h2o.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "http/listen.h"

enum {
    SWEEP = 1024,     /* connections looked at in one sweep */
    HEAD_MAX = 65536, /* of an unfinished request, past the body's bound; libh2o's own bound is 400 KiB */
    LINGER_US = 1000000,
    QUIET_US = 200000,      /* a connection that was used so shortly ago may have a request on the wire */
    COMPLAIN_US = 10000000, /* at most one log line about failing accepts in this time */
};

/* --- life of a connection --------------------------------------------------------------------------------------- */

static struct conn *of_tcp(uv_handle_t *tcp)
{
    return (struct conn *)((char *)tcp - offsetof(struct conn, tcp));
}

static struct conn *of_rest(uv_handle_t *rest)
{
    return (struct conn *)((char *)rest - offsetof(struct conn, rest));
}

static void conn_new(struct conns *c, struct conn *n)
{
    n->conns = c;
    n->rest_fd = -1;
    n->prev = &c->all;
    n->next = c->all.next;
    n->next->prev = n;
    c->all.next = n;
    c->count++;
    conn_set_state(n, CONN_READING);
    metric_gauge(M_HTTP_CONNECTIONS, (int64_t)c->count);
}

static void conn_free(struct conn *n)
{
    struct conns *c = n->conns;
    if (c->cursor == n)
        c->cursor = n->next;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    c->count--;
    metric_gauge(M_HTTP_CONNECTIONS, (int64_t)c->count);
    if (n->rest_fd >= 0)
        close(n->rest_fd);
    free(n);
}

void conn_set_state(struct conn *c, enum conn_state state)
{
    c->state = state;
    c->since_us = clock_coarse_us();
}

/* --- lingering -------------------------------------------------------------------------------------------------- */

void conn_linger(struct conn *c)
{
    if (c->rest_fd < 0 && c->sock)
        c->rest_fd = fcntl(h2o_socket_get_fd(c->sock), F_DUPFD_CLOEXEC, 0); /* a failure means no lingering */
}

static void on_rest_closed(uv_handle_t *rest)
{
    conn_free(of_rest(rest));
}

static void close_rest(struct conn *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->rest))
        uv_close((uv_handle_t *)&c->rest, on_rest_closed);
}

static void alloc_dropped(uv_handle_t *rest, size_t suggested, uv_buf_t *buf)
{
    static char dropped[65536];
    (void)rest;
    (void)suggested;
    *buf = uv_buf_init(dropped, sizeof dropped);
}

static void on_dropped(uv_stream_t *rest, ssize_t count, const uv_buf_t *buf)
{
    (void)buf;
    if (count < 0)
        close_rest(of_rest((uv_handle_t *)rest));
}

/* libh2o is through; returns false when there is nothing to linger for. */
static bool start_lingering(struct conn *c)
{
    if (c->rest_fd < 0 || c->shut || uv_tcp_init(c->conns->loop, &c->rest) != 0)
        return false;
    conn_set_state(c, CONN_LINGERING);
    shutdown(c->rest_fd, SHUT_WR);
    if (uv_tcp_open(&c->rest, c->rest_fd) == 0) {
        c->rest_fd = -1; /* the handle's now */
        if (uv_read_start((uv_stream_t *)&c->rest, alloc_dropped, on_dropped) == 0)
            return true;
    }
    close_rest(c);
    return true;
}

/* --- accepting -------------------------------------------------------------------------------------------------- */

static void on_tcp_closed(uv_handle_t *tcp)
{
    struct conn *c = of_tcp(tcp);
    if (!start_lingering(c))
        conn_free(c);
}

static void on_sock_closed(void *conn)
{
    ((struct conn *)conn)->sock = NULL;
}

static void on_refused_closed(uv_handle_t *tcp)
{
    free(of_tcp(tcp));
}

static void complain(struct conns *c, const char *what, const char *why)
{
    int64_t now = clock_mono_us();
    if (c->complained_us != 0 && now - c->complained_us < COMPLAIN_US)
        return;
    c->complained_us = now;
    log_warn(what, "reason", why);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct conns *c = listener->data;
    if (status < 0) {
        complain(c, "cannot accept HTTP connections", uv_strerror(status));
        return;
    }
    struct conn *n = xcalloc(1, sizeof *n);
    if (uv_tcp_init(c->loop, &n->tcp) != 0) {
        free(n);
        return;
    }
    int err = uv_accept(listener, (uv_stream_t *)&n->tcp);
    if (err != 0 || c->count >= c->max) {
        if (err == 0) {
            metric_inc(M_HTTP_REFUSED);
            complain(c, "HTTP connections are refused", "HTTP_MAX_CONNECTIONS are open");
        }
        uv_close((uv_handle_t *)&n->tcp, on_refused_closed);
        return;
    }
    conn_new(c, n);
    n->sock = h2o_uv_socket_create((uv_stream_t *)&n->tcp, on_tcp_closed);
    n->sock->on_close.cb = on_sock_closed;
    n->sock->on_close.data = n;
    h2o_accept(c->accept, n->sock);
}

void conns_open(struct conns *c, uv_loop_t *loop, int fd, struct st_h2o_accept_ctx_t *accept,
                const struct config *config)
{
    *c = (struct conns){.loop = loop, .accept = accept};
    c->max = listen_connection_bound((size_t)config->http_max_connections);
    c->max_input = (size_t)config->http_max_body + HEAD_MAX;
    c->write_timeout_us = config->http_idle_timeout_ms * 1000;
    c->all.prev = c->all.next = c->cursor = &c->all;
    c->listener.data = c;
    c->listening = true;
    /* What can go wrong with a socket did not: it listens already. */
    if (uv_tcp_init(loop, &c->listener) != 0 || uv_tcp_open(&c->listener, fd) != 0 ||
        uv_listen((uv_stream_t *)&c->listener, SOMAXCONN, on_connection) != 0)
        abort();
}

/* --- closing ---------------------------------------------------------------------------------------------------- */

/* Ends a connection whatever libh2o does with it: a read finds the end of file, a write fails, and libh2o closes. */
static void shut(struct conn *c)
{
    if (c->state == CONN_LINGERING)
        close_rest(c);
    if (c->shut || !c->sock)
        return;
    c->shut = true;
    shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
}

static bool overstays(const struct conns *c, const struct conn *n, int64_t now_us)
{
    switch (n->state) {
    case CONN_READING: return n->sock && n->sock->input->size > c->max_input;
    case CONN_WAITING: return false; /* its answer has a deadline of its own */
    case CONN_WRITING: return now_us - n->since_us > c->write_timeout_us;
    case CONN_LINGERING: return now_us - n->since_us > LINGER_US;
    }
    return false;
}

void conns_sweep(struct conns *c, int64_t now_us)
{
    for (size_t i = 0; i < SWEEP && i <= c->count; i++) {
        struct conn *n = c->cursor;
        c->cursor = n->next;
        if (n != &c->all && overstays(c, n, now_us))
            shut(n);
    }
}

static void on_listener_closed(uv_handle_t *listener)
{
    struct conns *c = listener->data;
    c->listening = false;
}

void conns_stop_accepting(struct conns *c)
{
    if (c->listening && !uv_is_closing((uv_handle_t *)&c->listener))
        uv_close((uv_handle_t *)&c->listener, on_listener_closed);
}

/* Nothing of a request has come for a while, not even into the kernel: closing will hardly cross a request. */
static bool is_idle(const struct conn *n, int64_t now_us)
{
    char byte;
    return n->sock->input->size == 0 && now_us - n->since_us >= QUIET_US &&
           recv(h2o_socket_get_fd(n->sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

void conns_drain(struct conns *c, int64_t now_us, int64_t partial_us, bool all)
{
    struct conn *n, *next;
    for (n = c->all.next; n != &c->all; n = next) {
        next = n->next;
        bool reading = n->state == CONN_READING && n->sock;
        if (all || n->state == CONN_LINGERING || (reading && (now_us >= partial_us || is_idle(n, now_us))))
            shut(n);
    }
}

bool conns_gone(const struct conns *c)
{
    return c->count == 0 && !c->listening;
}
