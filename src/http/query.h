/* The parameters of a request's query (?limit=10&status=open), as typed values: like body.h for bodies. All are optional;
 * one that is there must be good: not empty, not repeated, UTF-8 without control characters, '+' standing for a blank.
 * The first thing that is wrong is kept, with the name of the parameter at fault; after it every getter does nothing, so
 * a handler asks for all it knows and checks once, at query_end. Pure; one thread at a time. */
#ifndef TIDINGS_HTTP_QUERY_H
#define TIDINGS_HTTP_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/uuid.h"

#define QUERY_PARAMETERS 16 /* that one query may have at most */

struct query {
    struct {
        const char *name, *value; /* NUL-terminated, in `text` */
        bool asked;
    } parameters[QUERY_PARAMETERS];
    size_t count;
    char *text;     /* all names and values, decoded */
    bool bad;       /* something is wrong: */
    char field[72]; /* "query": a parameter whose name cannot be told */
    char detail[256];
};

/* Reads any bytes. What getters give lives until query_clear. */
void query_open(struct query *q, const char *text, size_t len);

/* Each returns true when the parameter is there and good. Else *out is left alone (text: NULL). */
bool query_text(struct query *q, const char *name, size_t max_chars, const char **out); /* NUL-terminated */
bool query_int(struct query *q, const char *name, int64_t min, int64_t max, int64_t *out);
bool query_choice(struct query *q, const char *name, const char *const choices[], const char **out); /* up to NULL */
bool query_uuid(struct query *q, const char *name, struct uuid *out);
/* The parameter `cursor`: as many numbers as asked for, of 1..2^31-1, with dots between them. */
bool query_cursor(struct query *q, int count, int64_t out[]);

/* For checks that are the caller's own. */
void query_fault(struct query *q, const char *field, const char *detail);

/* Refuses parameters that nobody asked for. True: all is well. */
bool query_end(struct query *q);
void query_clear(struct query *q);

#endif
