/* The Postgres connections that all workers of the process share: WORKER_DB_CONNECTIONS at most, opened when they are
 * needed, opened anew with back-off when they are lost. Any thread, except where noted. */
#ifndef TIDINGS_CONSUMERS_DB_POOL_H
#define TIDINGS_CONSUMERS_DB_POOL_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"

struct db_pool;

struct db_pool *db_pool_new(const struct config *config); /* opens nothing yet; config must outlive it */

/* A connection for the caller alone, until db_pool_give. Waits for one at most until deadline_us (clock_mono_us),
 * opening included about DB_CONNECT_TIMEOUT_SECONDS longer. NULL with a sentence in why: none is free, or Postgres is
 * away (at once, while the back-off after a failure lasts). */
PGconn *db_pool_take(struct db_pool *p, int64_t deadline_us, char *why, size_t why_size);
/* Not in a transaction. A connection that is lost is closed. */
void db_pool_give(struct db_pool *p, PGconn *conn);

/* How long one statement may take on these connections, in microseconds, and then some for the way: a deadline for
 * sql_exec. Postgres ends it before (statement_timeout). */
int64_t db_pool_statement_us(const struct db_pool *p);

void db_pool_stop(struct db_pool *p); /* db_pool_take fails from now on; those who wait are woken */
void db_pool_free(struct db_pool *p); /* after all connections were given back */

#endif
