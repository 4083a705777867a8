/* A group's output on its way to Kafka: collected from the runs, the last of each key, and committed in one transaction with
 * the offsets of the records that it came from, some times a second. If it is much, in several: the last one has the offsets.
 *
 * What makes it exact: a run's output says all that its key has to say, as of the run's commit in Postgres. It is added here
 * before the run's records count as finished, so a transaction that has their offsets has their output too, or an earlier
 * one had it. If the transaction fails, or this process dies, the records come again, are known, and emit their keys again.
 * Kafka takes offsets only from a member of the group's present generation; so of a process whose partitions are another's
 * by now nothing is committed, and of each key the last value in the topic is the newest. That holds for each of several
 * transactions, since those before the last one have offsets too: the ones that stand already. What they bring is what the
 * keys have to say; should the rest fail, the records come again and say it again.
 *
 * An assignment of partitions has a number; what runs of an earlier one bring comes to nothing. */
#ifndef TIDINGS_CONSUMERS_PUBLISHER_H
#define TIDINGS_CONSUMERS_PUBLISHER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "consumers/source.h"
#include "core/config.h"
#include "core/inbox.h"
#include "handlers/outputs.h"

struct publisher;

/* group and topic must outlive it. on_committed: once for each publisher_commit that returned true. NULL: no thread can be
 * made. Loop thread, as all of these of which nothing else is said. */
struct publisher *publisher_start(uv_loop_t *loop, struct inbox *inbox, const struct config *config, const char *group,
                                  const char *topic, void (*on_committed)(void *arg, bool ok), void *arg);

#define PUBLISHER_ANY 0 /* output of records that came from Postgres: of no assignment */

/* The number of the present assignment, from 1. */
uint64_t publisher_assignment(const struct publisher *p);
/* The partitions are given up: forgets their output; the next assignment has another number. */
void publisher_forget(struct publisher *p);

/* Takes the output of a run, in the order in which its keys' runs are committed. Any thread. */
void publisher_add(struct publisher *p, uint64_t assignment, struct outputs *o);

bool publisher_full(struct publisher *p);  /* as much waits as may: no more runs should begin. Any thread */
bool publisher_waits(struct publisher *p); /* there is output that no transaction has yet */

/* Commits all that waits, with these offsets. standing: of the same partitions, those that were committed before, or at which
 * the assignment began. Both are copied. False: not now, a transaction is under way or the last one failed a
 * moment ago. membership: source_membership's. */
bool publisher_commit(struct publisher *p, struct membership *membership, const struct source_offset *offsets,
                      const struct source_offset *standing, size_t count);
/* Opens the producer, which ends what a process before this one left open, and the topic; does nothing once that is done. */
void publisher_open(struct publisher *p);

/* Lets a transaction end that is under way, at deadline_us (clock_mono_us) at the latest; then on_stopped, and p is gone.
 * in_use: a worker hangs and may still call publisher_add, so p is not freed. left_behind: so is its own thread, and still
 * uses what it was given. */
void publisher_stop(struct publisher *p, bool in_use, int64_t deadline_us,
                    void (*on_stopped)(void *arg, bool left_behind), void *arg);

#endif
