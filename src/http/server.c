/* Start and stop of the HTTP room. */
#include "http/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "http/answer.h"
#include "http/gate.h"
#include "http/request.h"
#include "http/routes.h"

enum { TICK_MS = 100, STOP_TICK_MS = 10, PARTIAL_US = 500000, KEPT_BUFFERS = 512 };

const char *http_url(const struct http *h)
{
    return h->url;
}

void http_key_revoked(struct http *h, struct uuid key_id)
{
    if (h->auth)
        auth_revoked(h->auth, key_id);
}

void http_set_live(struct http *h, bool live)
{
    if (h->auth)
        auth_set_live(h->auth, live);
}

/* --- start ------------------------------------------------------------------------------------------------------ */

static void on_tick(uv_timer_t *timer)
{
    struct http *h = timer->data;
    int64_t now = clock_mono_us();
    requests_expire(h, now, false);
    conns_sweep(&h->conns, now);
}

/* Everything goes to the fallback path of the only host: libh2o's own routing is not used. */
static void configure(struct http *h)
{
    h2o_globalconf_t *g = &h->globalconf;
    h2o_config_init(g);
    g->server_name = h2o_iovec_init(NULL, 0);
    g->max_request_entity_size = (size_t)h->config->http_max_body;
    g->http1.req_timeout = (uint64_t)h->config->http_idle_timeout_ms;
    g->http1.upgrade_to_http2 = 0; /* HTTP/2 in 2.2.5 has known holes (rapid reset) */
    h2o_hostconf_t *host = h2o_config_register_host(g, h2o_iovec_init(H2O_STRLIT("tidings")), 65535);
    gate_install(h, &host->fallback_path);
    h2o_context_init(&h->context, h->loop, g);
    /* The loop's input buffers: as many as a busy loop holds at once are kept for the next requests (libh2o keeps 16). */
    h2o_socket_buffer_prototype.allocator.max = KEPT_BUFFERS;
    h2o_socket_buffer_prototype._initial_buf.capacity = H2O_SOCKET_INITIAL_INPUT_BUFFER_SIZE;
    h->accept.ctx = &h->context;
    h->accept.hosts = g->hosts;
}

struct http *http_start(uv_loop_t *loop, const struct http_options *options, char *why, size_t why_size)
{
    const struct config *config = options->config;
    char url[LISTEN_URL_SIZE];
    /* The kernel gives up later than conns_sweep, which sees to it that what such a client still wants is left undone. */
    int fd = listen_open(config->http_listen, 2 * (unsigned)config->http_idle_timeout_ms, url, why, why_size);
    if (fd < 0)
        return NULL;
    struct http *h = xcalloc(1, sizeof *h);
    if (!email_texts_load(&h->texts, config, EMAIL_TYPES, why, why_size)) {
        email_texts_free(&h->texts);
        free(h);
        close(fd);
        return NULL;
    }
    h->loop = loop;
    h->config = config;
    h->installation = options->installation;
    h->lanes = options->lanes;
    h->reader = options->reader;
    h->health = options->health;
    h->health_arg = options->arg;
    snprintf(h->url, sizeof h->url, "%s", url);
    h->router = router_new(routes, routes_count);
    h->auth = auth_new(h->reader, config->key_cache_ms, config->key_cache_live_ms);
    answers_open(h);
    configure(h);
    conns_open(&h->conns, loop, fd, &h->accept, config);
    uv_timer_init(loop, &h->tick);
    uv_timer_init(loop, &h->last);
    h->tick.data = h->last.data = h;
    uv_timer_start(&h->tick, on_tick, TICK_MS, TICK_MS);
    return h;
}

/* --- stop ------------------------------------------------------------------------------------------------------- */

/* h2o_context_dispose without its last line, a uv_run of its own: that would run everybody's callbacks within ours. Its
 * handles are closed by the loop instead, and `last` after them. */
static void dispose_context(h2o_context_t *c)
{
    h2o_timeout_t *timeouts[] = {&c->zero_timeout,
                                 &c->one_sec_timeout,
                                 &c->hundred_ms_timeout,
                                 &c->handshake_timeout,
                                 &c->http1.req_timeout,
                                 &c->http2.idle_timeout,
                                 &c->http2.graceful_shutdown_timeout,
                                 &c->proxy.io_timeout};
    h2o_context_dispose_pathconf_context(c, &c->globalconf->hosts[0]->fallback_path);
    free(c->_pathconfs_inited.entries);
    free(c->_module_configs);
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++)
        h2o_timeout_dispose(c->loop, timeouts[i]);
    h2o_filecache_destroy(c->filecache);
    h2o_multithread_unregister_receiver(c->queue, &c->receivers.hostinfo_getaddr);
    h2o_multithread_destroy_queue(c->queue);
    if (c->_timestamp_cache.value)
        h2o_mem_release_shared(c->_timestamp_cache.value);
}

static void on_last_closed(uv_handle_t *last)
{
    struct http *h = last->data;
    void (*on_stopped)(void *arg) = h->on_stopped;
    void *arg = h->stopped_arg;
    h2o_config_dispose(&h->globalconf);
    answers_close(h);
    router_free(h->router);
    email_texts_free(&h->texts);
    free(h);
    on_stopped(arg);
}

static void on_tick_closed(uv_handle_t *tick)
{
    struct http *h = tick->data;
    uv_close((uv_handle_t *)&h->last, on_last_closed); /* comes in a later turn than all that is closing now */
}

static void on_stop_tick(uv_timer_t *timer)
{
    struct http *h = timer->data;
    int64_t now = clock_mono_us();
    bool late = now >= h->deadline_us;
    requests_expire(h, now, late);
    conns_drain(&h->conns, now, h->partial_us, late);
    if (!conns_gone(&h->conns))
        return;
    uv_timer_stop(&h->tick);
    auth_free(h->auth);
    h->auth = NULL;
    dispose_context(&h->context);
    uv_close((uv_handle_t *)&h->tick, on_tick_closed);
}

void http_stop(struct http *h, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg)
{
    int64_t now = clock_mono_us();
    h->stopping = true;
    h->deadline_us = deadline_us;
    h->partial_us = now + PARTIAL_US;
    h->on_stopped = on_stopped;
    h->stopped_arg = arg;
    /* Requests that are still coming in get Connection: close as well. The flag alone: h2o_context_request_shutdown would
     * start a timer for HTTP/2 connections, which there are none of, and which must not run when the context goes. */
    h->context.shutdown_requested = 1;
    conns_stop_accepting(&h->conns);
    conns_drain(&h->conns, now, h->partial_us, false);
    uv_timer_start(&h->tick, on_stop_tick, 0, STOP_TICK_MS);
}
