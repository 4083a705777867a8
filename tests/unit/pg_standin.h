/* The wire of a server that stands in for Postgres where a test wants a failure at one exact moment (the real one is met in
 * the end-to-end tests). Any thread; what should not happen fails the test. */
#ifndef TIDINGS_TESTS_PG_STANDIN_H
#define TIDINGS_TESTS_PG_STANDIN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

struct standin {
    int listener; /* the caller closes it */
    int port;
};

void standin_listen(struct standin *s);

/* False: the client has hung up. The body, of len bytes, is NUL-terminated. */
bool standin_read_startup(int fd, char *body, size_t size, size_t *len); /* encryption is declined */
bool standin_read_message(int fd, char *type, char *body, size_t size, size_t *len);

void standin_add(struct buf *out, char type, const void *body, size_t len);
void standin_send(int fd, struct buf *out); /* and empties it */
void standin_welcome(int fd);               /* the start-up is accepted, a query may come */

#endif
