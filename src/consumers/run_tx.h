/* The transactions of a run: the handler's apply or settle with what belongs into the same commit, the dedupe rows and
 * those of dead_letters. Worker threads. */
#ifndef TIDINGS_CONSUMERS_RUN_TX_H
#define TIDINGS_CONSUMERS_RUN_TX_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/db_pool.h"
#include "consumers/group_metrics.h"
#include "consumers/item.h"
#include "core/config.h"
#include "handlers/handler.h"

/* What all runs of a group share; constant while its workers live. */
struct run_env {
    const struct config *config;
    const struct handler *handler;
    struct db_pool *db;
    const struct group_metrics *metrics;
    struct publisher *publisher;    /* where its runs' output goes; NULL: it has none */
    const _Atomic int64_t *stop_at; /* see struct run */
};

enum tx_end {
    TX_COMMITTED, /* the records' outcomes hold; what is rejected, to be held (hold) or parked has its row */
    TX_BEHIND,    /* rolled back: a record failed for a passing reason while a later one of its key went through; those
                     later ones have result ITEM_BEHIND now, and the others should be tried without them */
    TX_DATA,      /* rolled back: a record's data is at fault */
    TX_AWAY,      /* rolled back, or nobody knows: Postgres is at fault */
};

/* why says what happened with TX_DATA and TX_AWAY. A run's items of one key stand together, in order. */
enum tx_end run_tx_apply(const struct run_env *env, void *worker, struct item *const *items, size_t count, char *why,
                         size_t why_size);
enum tx_end run_tx_settle(const struct run_env *env, void *worker, struct item *const *items, size_t count, char *why,
                          size_t why_size);
/* Writes their rows alone, for items that are rejected or to be held. (apply and settle do that by themselves.) */
enum tx_end run_tx_put_aside(const struct run_env *env, struct item *const *items, size_t count, char *why,
                             size_t why_size);

#endif
