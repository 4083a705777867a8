/* Answering: every request gets exactly one of these, and is not to be touched after it. Headers, CORS, metrics and the
 * log are seen to here. Loop thread only. */
#ifndef TIDINGS_HTTP_ANSWER_H
#define TIDINGS_HTTP_ANSWER_H

#include "core/buf.h"
#include "core/err.h"
#include "http/problem.h"
#include "http/request.h"

#define ALLOWED_HEADERS "Authorization, Content-Type, X-Request-Id, Idempotency-Key"
#define EXPOSED_HEADERS "X-Request-Id, Retry-After, Location, Idempotency-Replayed"

/* An empty buffer for the body, the server's own: use it before anything else answers. */
struct buf *answer_body(struct request *r);
/* A header of the answer; the value is copied, the name must be a constant in lower case. */
void answer_header(struct request *r, const char *name, const char *value);
/* The connection is closed after the answer. */
void answer_and_close(struct request *r);

void answer_send(struct request *r, int status, const char *content_type, const struct buf *body);
void answer_json(struct request *r, int status, const struct buf *body);
void answer_empty(struct request *r, int status); /* 204 */

void answer_problem(struct request *r, const struct problem *p);
void answer_error(struct request *r, enum err err);
void answer_fault(struct request *r, enum err err, const char *field, const char *detail);

const char *answer_reason(int status); /* "Not Found" */

void answers_open(struct http *h);
void answers_close(struct http *h);
/* Counts an answer that libh2o makes by itself. */
void answers_count(struct http *h, const struct request *r, int status, int64_t us);

#endif
