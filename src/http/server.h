/* The root of the HTTP room. Internal: http.h is the door. Loop thread only. */
#ifndef TIDINGS_HTTP_SERVER_H
#define TIDINGS_HTTP_SERVER_H

#include <h2o.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/buf.h"
#include "handlers/email.h"
#include "http/auth.h"
#include "http/conns.h"
#include "http/http.h"
#include "http/listen.h"
#include "http/router.h"

struct request;
struct answer_series;

struct http {
    uv_loop_t *loop;
    const struct config *config;
    const struct installation *installation; /* shards 0: not yet known */
    struct lanes *lanes;
    struct reader *reader;
    http_health health;
    void *health_arg;
    char url[LISTEN_URL_SIZE];

    struct email_texts texts; /* the service's mail templates */

    struct router *router;
    struct auth *auth;
    struct answer_series *series;    /* metrics, see answer.c */
    struct request *oldest, *newest; /* requests that wait for an outcome, by deadline */
    struct buf scratch;              /* the body that is being made */
    struct buf link;                 /* the referral link that goes into it */
    bool answering;                  /* our own answer is on its way through libh2o's filters */

    h2o_globalconf_t globalconf;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    struct conns conns;
    uv_timer_t tick, last; /* `last` has no other use than to be closed last */

    bool stopping;
    int64_t partial_us, deadline_us; /* while stopping: half-sent requests and everything are given up */
    void (*on_stopped)(void *arg);
    void *stopped_arg;
};

#endif
