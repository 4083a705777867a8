/* What happens to every request before its handler: framing, route, key, parameters of the path. Loop thread only. */
#ifndef TIDINGS_HTTP_GATE_H
#define TIDINGS_HTTP_GATE_H

#include <h2o.h>

struct http;

/* Makes the room's handler and filter part of libh2o's configuration. */
void gate_install(struct http *h, h2o_pathconf_t *everything);

#endif
