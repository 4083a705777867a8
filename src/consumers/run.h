/* Runs a list of records through a group's handler: apply, call, settle, by handler.h's rules. Worker threads. */
#ifndef TIDINGS_CONSUMERS_RUN_H
#define TIDINGS_CONSUMERS_RUN_H

#include <stddef.h>

#include "consumers/item.h"
#include "consumers/run_tx.h"

/* Blocks until every item has its result (and due_us where it waits), a committed one where it is ITEM_FINISHED. Items
 * of one key stand together, in order; the order of the array stays. worker: what the handler's worker_open returned. */
void run_items(const struct run_env *env, void *worker, struct item *const *items, size_t count);

#endif
