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
#define WEBHOOK_BODY_SIZE 1025 /* of what is kept of an answer's body */

struct webhook;

enum webhook_end {
    WEBHOOK_DELIVERED, /* answered 2xx */
    WEBHOOK_RETRY,     /* anything that the target's people can mend: no connection, no answer in time, 3xx to 5xx */
    WEBHOOK_GONE,      /* 410: the target wants no more */
    WEBHOOK_REJECT,    /* a URL, an address or a secret that can never work */
    WEBHOOK_STOPPED,   /* broken off because the process stops: nobody knows */
};

struct webhook_call {
    const char *url;
    const char *secret;     /* "whsec_" and base64 */
    const char *old_secret; /* signs too, while the target is being told the new one; NULL: there is none */
    const char *id;         /* webhook-id: the same whenever this call is made again; letters, digits, '-', '_' */
    const char *body;       /* JSON */
    size_t body_len;
    int64_t
        now_s; /* seconds since 1970 by Postgres' clock: this host's own may be wrong, and who gets the call refuses one
                      whose webhook-timestamp is not of now */
};

struct webhook_answer {
    int status;                   /* 0: none came */
    int64_t wait_s;               /* Retry-After, a day at most; 0: nothing was said */
    char why[320];                /* unless it was delivered, a sentence; it may quote the answer's bytes */
    char body[WEBHOOK_BODY_SIZE]; /* how the answer's body began: any bytes but NUL */
};

/* Appends the value of webhook-signature: "v1," and a base64 HMAC; with two secrets two of them, and a blank between. at_s:
 * the value of webhook-timestamp. False: a secret is malformed, nothing is appended. Any thread. */
bool webhook_sign(const struct webhook_call *call, int64_t at_s, struct buf *out);

/* Where a URL leads: scheme, host and port in a normal form. False: it is no http or https URL. Any thread. */
bool webhook_origin(const char *url, char origin[WEBHOOK_ORIGIN_SIZE]);

/* What a URL's host says it is that no webhook should go to, for people: "a loopback address". NULL: nothing. Only what the URL
 * says is looked at; where a name leads is found out when the connection is opened. Any thread. */
const char *webhook_special(const char *url);

/* WEBHOOK_TIMEOUT_MS, WEBHOOK_ALLOW_PRIVATE. config must outlive it. */
struct webhook *webhook_open(const struct config *config);
void webhook_close(struct webhook *w); /* NULL is fine */

/* Makes one call in at most WEBHOOK_TIMEOUT_MS, less when *stop_at (clock_mono_us, 0 = none) comes before; blocks. When the
 * answer's status is known, the rest of it is waited for for a moment only. */
enum webhook_end webhook_send(struct webhook *w, const struct webhook_call *call, const _Atomic int64_t *stop_at,
                              struct webhook_answer *answer);

#endif
