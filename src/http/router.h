/* Finds the route of a request in a table. A pattern is a path whose segments are literals or parameters in braces, as
 * in /v1/campaigns/{campaign_id}/users. Where two patterns match one path, the one that stands first in the table is
 * taken: put literals before parameters. Pure, any thread; a router is constant once made. */
#ifndef TIDINGS_HTTP_ROUTER_H
#define TIDINGS_HTTP_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#define ROUTE_SEGMENTS 8 /* at most, in a pattern */
#define ROUTE_ALLOW_SIZE 64

struct request;

/* Whose requests are let in. */
enum route_access {
    ACCESS_OPEN,    /* no key is asked for */
    ACCESS_ANY_KEY, /* a publishable key will do */
    ACCESS_SECRET,  /* a secret key is needed */
    ACCESS_OPS,     /* OPS_TOKEN; where that is not set, there is no such path */
};

enum route_answers { ANSWERS_JSON, ANSWERS_PAGE }; /* what errors look like: problem+json, or a page for people */

struct route {
    const char *method; /* a GET route also takes HEAD */
    const char *pattern;
    const char *name; /* in metrics and logs */
    enum route_access access;
    enum route_answers answers;
    void (*handle)(struct request *r); /* loop thread; answers now or later */
};

struct router;
struct router *router_new(const struct route *routes, size_t count); /* the table must outlive the router */
void router_free(struct router *r);

/* A parameter's value is not decoded and not NUL-terminated; it points into the path. */
struct route_param {
    const char *name; /* as in the pattern, not NUL-terminated */
    size_t name_len;
    const char *value;
    size_t value_len;
};

struct route_match {
    const struct route *route;    /* NULL: none */
    bool path_known;              /* some route has this path; with route NULL the method is wrong */
    char allow[ROUTE_ALLOW_SIZE]; /* with path_known and no route: the methods of the path, as for an Allow header */
    size_t param_count;
    struct route_param params[ROUTE_SEGMENTS];
};

void router_match(const struct router *r, const char *method, size_t method_len, const char *path, size_t path_len,
                  struct route_match *m);

#endif
