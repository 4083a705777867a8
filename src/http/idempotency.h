/* The Idempotency-Key header: the same request sent again under the same key gets the same answer and does nothing more.
 * (draft-ietf-httpapi-idempotency-key-header) Loop thread only. */
#ifndef TIDINGS_HTTP_IDEMPOTENCY_H
#define TIDINGS_HTTP_IDEMPOTENCY_H

#include <stdbool.h>

#include "http/request.h"

/* What a header comes to: hashes. */
struct idempotency {
    bool given;
    struct uuid key;     /* of account, kind of API key, and key */
    struct uuid request; /* of method, path and body */
};

/* Reads the header, if there is one. False: it is not valid, and the request was answered. */
bool idempotency_of(struct request *r, struct idempotency *out);

/* Reads the header, if there is one, into the action's key. False: it is not valid, and the request was answered. */
bool idempotency_read(struct request *r, struct action *a);

#endif
