/* Connections: accepted here, spoken on by libh2o, counted, and closed when they overstay. Loop thread only.
 *
 *   accept ──▶ READING ──request complete──▶ WAITING ──answer──▶ WRITING ──sent──▶ READING …
 *                 │                                                 └──sent, to be closed──▶ closed, or LINGERING
 *                 └──idle timeout, end of file──▶ closed */
#ifndef TIDINGS_HTTP_CONNS_H
#define TIDINGS_HTTP_CONNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/config.h"

struct st_h2o_accept_ctx_t;
struct st_h2o_socket_t;

enum conn_state {
    CONN_READING,   /* idle, or a request is coming in; libh2o's request timeout runs */
    CONN_WAITING,   /* a handler has the request */
    CONN_WRITING,   /* the answer is on its way */
    CONN_LINGERING, /* the answer is out, the rest of a refused request is read and dropped for a moment */
};

struct conns;

/* Belongs to the room that accepted it; a request may use it as long as libh2o has the request. */
struct conn {
    uv_tcp_t tcp;  /* libh2o's stream; its data field is libh2o's */
    uv_tcp_t rest; /* LINGERING: the same connection under a second descriptor */
    int rest_fd;   /* -1: no lingering was asked for */
    struct conns *conns;
    struct conn *prev, *next;
    struct st_h2o_socket_t *sock; /* NULL once libh2o has closed it */
    enum conn_state state;
    int64_t since_us; /* of the state */
    bool shut;
};

struct conns {
    uv_loop_t *loop;
    struct st_h2o_accept_ctx_t *accept;
    size_t count, max;
    size_t max_input; /* bytes of one unfinished request */
    int64_t write_timeout_us;
    uv_tcp_t listener;
    bool listening;        /* the listener's handle is not yet closed */
    int64_t complained_us; /* last time that failing accepts were logged */
    struct conn all;       /* anchor of the ring; only prev and next are used */
    struct conn *cursor;   /* where the next sweep goes on */
};

/* fd: a listening socket, which is taken over. */
void conns_open(struct conns *c, uv_loop_t *loop, int fd, struct st_h2o_accept_ctx_t *accept,
                const struct config *config);

void conn_set_state(struct conn *c, enum conn_state state);

/* The connection will be closed after the answer though more may come in: reading it up for a moment keeps the kernel
 * from resetting the connection, which would take the answer away from the client. Call before answering. */
void conn_linger(struct conn *c);

/* Every now and then: looks at some of the connections and closes those that are stuck in writing or hold too much. */
void conns_sweep(struct conns *c, int64_t now_us);

/* Stops listening. */
void conns_stop_accepting(struct conns *c);
/* While stopping, again and again: closes idle connections; half-sent requests too, once now_us >= partial_us; all, when
 * `all` says so. */
void conns_drain(struct conns *c, int64_t now_us, int64_t partial_us, bool all);
bool conns_gone(const struct conns *c); /* no connection and no listener is left */

#endif
