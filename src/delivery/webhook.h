/* Webhooks by the Standard Webhooks specification (https://www.standardwebhooks.com), sent with libcurl. One struct
 * webhook per worker thread. */
#ifndef TIDINGS_DELIVERY_WEBHOOK_H
#define TIDINGS_DELIVERY_WEBHOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/config.h"

#define WEBHOOK_ORIGIN_SIZE 320

struct webhook;

enum webhook_end {
    WEBHOOK_DELIVERED, /* answered 2xx */
    WEBHOOK_RETRY,     /* anything that the target's people can mend: no connection, no answer in time, 3xx to 5xx */
    WEBHOOK_REJECT,    /* 410 Gone; a URL, an address or a secret that can never work */
    WEBHOOK_STOPPED,   /* broken off because the process stops: nobody knows */
};

struct webhook_call {
    const char *url;
    const char *secret; /* "whsec_" and base64 */
    const char *id;     /* webhook-id: the same whenever this call is made again; letters, digits, '-', '_' */
    const char *body;   /* JSON */
    size_t body_len;
};

/* Appends the value of webhook-signature: "v1," and a base64 HMAC. at_s: the value of webhook-timestamp. False: the
 * secret is malformed. Any thread. */
bool webhook_sign(const struct webhook_call *call, int64_t at_s, struct buf *out);

/* Where a URL leads: scheme, host and port in a normal form. False: it is no http or https URL. Any thread. */
bool webhook_origin(const char *url, char origin[WEBHOOK_ORIGIN_SIZE]);

/* WEBHOOK_TIMEOUT_MS, WEBHOOK_ALLOW_PRIVATE. config must outlive it. */
struct webhook *webhook_open(const struct config *config);
void webhook_close(struct webhook *w); /* NULL is fine */

/* Makes one call in at most WEBHOOK_TIMEOUT_MS, less when *stop_at (clock_mono_us, 0 = none) comes before; blocks.
 * status: the answer's, 0 without one. Unless it was delivered why has a sentence; it may quote the answer's bytes. */
enum webhook_end webhook_send(struct webhook *w, const struct webhook_call *call, const _Atomic int64_t *stop_at,
                              int *status, char *why, size_t why_size);

#endif
