/* Problem details by RFC 9457: the body of every answer that is an error. Pure. */
#ifndef TIDINGS_HTTP_PROBLEM_H
#define TIDINGS_HTTP_PROBLEM_H

#include "core/buf.h"
#include "core/err.h"

#define PROBLEM_TYPE "application/problem+json"

struct problem {
    enum err err;
    const char *field;  /* the member, parameter or header at fault; NULL: none in particular */
    const char *detail; /* a sentence on this occurrence; NULL: a general one where there is one */
    const char *extra;  /* further members as JSON text, e.g. "\"user_id\":\"…\""; NULL: none */
};

/* Appends {"type":…,"title":…,"status":…,"detail":…,"field":…,"request_id":…, extra}. */
void problem_render(struct buf *out, const struct problem *p, const char *request_id);

/* What can be said without knowing more; NULL for errors whose title says it all. */
const char *problem_detail(enum err err);

/* Seconds for Retry-After; 0: the header is not sent. */
int problem_retry_after(enum err err);

#endif
