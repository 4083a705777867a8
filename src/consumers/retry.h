/* How long a record that failed for a passing reason is tried, and when next. Pure; worker threads. */
#ifndef TIDINGS_CONSUMERS_RETRY_H
#define TIDINGS_CONSUMERS_RETRY_H

#include <stdint.h>

#include "consumers/item.h"
#include "core/config.h"

/* Says (hold) whether it goes on from Postgres instead of memory: with OUTCOME_LATER as the handler wants it. With
 * OUTCOME_RETRY: notes when it failed first, and either rejects it, since its attempts or its time are spent, or
 * decides likewise. now_us: clock_mono_us(). */
void retry_decide(const struct config *c, struct item *it, int64_t now_us);

/* From now until the next attempt, in ms, at least 1. attempt is the one that failed. */
int64_t retry_wait_ms(const struct config *c, const struct record *r);

#endif
