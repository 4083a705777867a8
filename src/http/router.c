/* The router: patterns cut into segments once, then compared with a path's segments one route after the other. */
#include "http/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

struct segment {
    const char *text; /* of a parameter: its name without the braces */
    size_t len;
    bool param;
};

struct pattern {
    size_t count;
    struct segment segments[ROUTE_SEGMENTS];
};

struct router {
    const struct route *routes;
    size_t count;
    struct pattern patterns[];
};

/* Cuts "/a/b" into "a" and "b". "/a/" has an empty last segment, which no pattern has. Returns false when the path does
 * not start with a slash or has too many segments. */
static bool cut(const char *path, size_t len, struct segment *out, size_t *count)
{
    const char *at = path, *end = path + len;
    *count = 0;
    while (at < end) {
        if (*at != '/' || *count == ROUTE_SEGMENTS)
            return false;
        const char *stop = memchr(at + 1, '/', (size_t)(end - at - 1));
        if (!stop)
            stop = end;
        out[(*count)++] = (struct segment){.text = at + 1, .len = (size_t)(stop - at - 1)};
        at = stop;
    }
    return *count > 0;
}

struct router *router_new(const struct route *routes, size_t count)
{
    struct router *r = xcalloc(1, sizeof *r + count * sizeof r->patterns[0]);
    r->routes = routes;
    r->count = count;
    for (size_t i = 0; i < count; i++) {
        struct pattern *p = &r->patterns[i];
        if (!cut(routes[i].pattern, strlen(routes[i].pattern), p->segments, &p->count))
            abort(); /* the table is ours: a pattern like this is a mistake in it */
        for (size_t k = 0; k < p->count; k++) {
            struct segment *s = &p->segments[k];
            if (s->len < 2 || s->text[0] != '{' || s->text[s->len - 1] != '}')
                continue;
            *s = (struct segment){.text = s->text + 1, .len = s->len - 2, .param = true};
        }
    }
    return r;
}

void router_free(struct router *r)
{
    free(r);
}

static bool fits(const struct pattern *p, const struct segment *segments, size_t count)
{
    if (p->count != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct segment *want = &p->segments[i], *have = &segments[i];
        if (have->len == 0)
            return false;
        if (!want->param && (want->len != have->len || memcmp(want->text, have->text, want->len) != 0))
            return false;
    }
    return true;
}

static bool is_method(const struct route *route, const char *method, size_t len)
{
    if (len == strlen(route->method) && memcmp(method, route->method, len) == 0)
        return true;
    return len == 4 && memcmp(method, "HEAD", 4) == 0 && strcmp(route->method, "GET") == 0;
}

static void take(struct route_match *m, const struct route *route, const struct pattern *p,
                 const struct segment *segments)
{
    m->route = route;
    m->param_count = 0;
    for (size_t i = 0; i < p->count; i++)
        if (p->segments[i].param)
            m->params[m->param_count++] = (struct route_param){
                .name = p->segments[i].text,
                .name_len = p->segments[i].len,
                .value = segments[i].text,
                .value_len = segments[i].len,
            };
}

static void allow(struct route_match *m, const char *method)
{
    size_t used = strlen(m->allow);
    snprintf(m->allow + used, sizeof m->allow - used, "%s, ", strcmp(method, "GET") == 0 ? "GET, HEAD" : method);
}

/* No route took the path; which of them know it, under another method? */
static void find_methods(const struct router *r, const struct segment *segments, size_t count, struct route_match *m)
{
    for (size_t i = 0; i < r->count; i++) {
        if (!fits(&r->patterns[i], segments, count))
            continue;
        m->path_known = true;
        allow(m, r->routes[i].method);
    }
    if (m->path_known) {
        allow(m, "OPTIONS");
        m->allow[strlen(m->allow) - 2] = '\0';
    }
}

void router_match(const struct router *r, const char *method, size_t method_len, const char *path, size_t path_len,
                  struct route_match *m)
{
    struct segment segments[ROUTE_SEGMENTS];
    size_t count;
    m->route = NULL;
    m->path_known = false;
    m->allow[0] = '\0';
    m->param_count = 0;
    if (!cut(path, path_len, segments, &count))
        return;
    for (size_t i = 0; i < r->count; i++) {
        const struct route *route = &r->routes[i];
        if (!is_method(route, method, method_len) || !fits(&r->patterns[i], segments, count))
            continue;
        m->path_known = true;
        take(m, route, &r->patterns[i], segments);
        return;
    }
    find_methods(r, segments, count, m);
}
