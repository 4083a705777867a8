/* What can be seen may be on this server alone: ending a backend that waits for a standby makes its commit visible without being
 * replicated. A commit of our own, later in the WAL and fully acknowledged, vouches for everything that was seen before it.
 * Without a synchronous standby it is one small commit. */
#ifndef TIDINGS_STORE_BARRIER_H
#define TIDINGS_STORE_BARRIER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* False, with a sentence in why: commits do not come through at the moment. A session that writes begins with one, so that
 * sessions do not pile up, each waiting in its commit, while the standby is away. A try that is given up leaves a session
 * behind that waits; the next try, of any process, ends those. Blocks, 10 s at most. */
bool barrier_pass(PGconn *conn, char *why, size_t why_size);

#endif
