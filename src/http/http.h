/* The HTTP side: checks, authenticates, turns a request into an action or a read, and answers. Loop thread only. */
#ifndef TIDINGS_HTTP_HTTP_H
#define TIDINGS_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "core/config.h"
#include "core/uuid.h"
#include "store/lanes.h"
#include "store/reader.h"

struct http;

/* What /readyz asks: the parts that are not ready, appended as {"part":"kafka","reason":"…"} pairs through `report`. */
typedef void (*http_health)(void *arg, void (*report)(void *to, const char *part, const char *reason), void *to);

struct http_options {
    const struct config *config;
    const struct installation *installation;
    struct lanes *lanes;
    struct reader *reader;
    http_health health;
    void *arg;
};

/* Listens at HTTP_LISTEN. NULL with a sentence in why (e.g. the address is in use). */
struct http *http_start(uv_loop_t *loop, const struct http_options *options, char *why, size_t why_size);

/* "http://127.0.0.1:8080": where it really listens (a port of 0 is replaced by the one that was given). */
const char *http_url(const struct http *h);

/* An API key was revoked; and whether such news come (auth.h). */
void http_key_revoked(struct http *h, struct uuid key_id);
void http_set_live(struct http *h, bool live);

/* Stops accepting at once; answers what is in flight (`Connection: close`), closes idle connections; calls back when no
 * request is left, or at deadline_us (clock_mono_us), then frees everything. */
void http_stop(struct http *h, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg);

#endif
