/* Requests that libh2o refuses by itself (a body that is too large, broken chunks): made to look like our own answers.
 * What is not HTTP at all gets libh2o's bare 400 and a close. Loop thread only. */
#ifndef TIDINGS_HTTP_REFUSAL_H
#define TIDINGS_HTTP_REFUSAL_H

#include <h2o.h>

struct http;
void refusal_install(struct http *h, h2o_pathconf_t *everything);

#endif
