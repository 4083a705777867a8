/* The consumer groups of this process: per group one Kafka consumer on the loop, dispatch by key, a pool of worker
 * threads, contiguous offsets, retries, dead letters. Loop thread only, except where noted. */
#ifndef TIDINGS_CONSUMERS_CONSUMERS_H
#define TIDINGS_CONSUMERS_CONSUMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "core/config.h"
#include "core/inbox.h"
#include "handlers/handler.h"

struct consumers;

/* Whether GROUPS_ENABLED names groups that there are; false with a sentence in why. Any thread. */
bool consumers_check(const struct config *config, char *why, size_t why_size);

/* Starts the groups that GROUPS_ENABLED names. Kafka and Postgres may be absent: each part keeps trying with back-off.
 * NULL with a sentence in why when a name in GROUPS_ENABLED is unknown or a thread cannot be made. config, loop and
 * inbox must outlive it. */
struct consumers *consumers_start(uv_loop_t *loop, struct inbox *inbox, const struct config *config, char *why,
                                  size_t why_size);

/* Why a group gets no records from Kafka (no broker, no right), for people; "" when all do. For /readyz. */
const char *consumers_trouble(const struct consumers *c);

/* Stops taking records, lets running handlers end, commits offsets, leaves the groups, then calls on_stopped on the
 * loop and frees everything. What has not ended by deadline_us (clock_mono_us) is abandoned: its offsets stay
 * uncommitted. A worker that hangs then (the log says so) still reads config: the process should end without freeing
 * it. */
void consumers_stop(struct consumers *c, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg);

/* For the start-up listing: calls each(arg, group, workers, processes) for every group that would run. */
void consumers_describe(const struct config *config,
                        void (*each)(void *arg, const char *group, int64_t workers, const char *processes), void *arg);

#endif
