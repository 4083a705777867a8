/* Deletes rows of `handled` that are older than HANDLED_KEEP_DAYS, by Postgres' clock, in small batches,
 * as a job on a worker. */
#ifndef TIDINGS_CONSUMERS_TRIM_H
#define TIDINGS_CONSUMERS_TRIM_H

#include <stdatomic.h>
#include <stdint.h>

#include "consumers/db_pool.h"
#include "core/config.h"

/* One turn: at most some 20,000 rows. Returns how many were deleted, -1 when Postgres is away. Worker thread. */
int64_t trim_handled(const struct config *config, struct db_pool *db, const _Atomic int64_t *stop_at);

/* Whether a turn that deleted so many left more to do. */
int trim_has_more(int64_t deleted);

#endif
