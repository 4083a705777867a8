/* Tries the records again that a group holds in dead_letters: looks every second, claims what is due and runs it like any
 * record, on workers that are free. All processes of a group share the work, whatever partitions they have. A claim is a lease:
 * what a process had when it died is due again when that ends; if its effect is there already, the handler finds it
 * known, and the row goes. Loop thread only. */
#ifndef TIDINGS_CONSUMERS_RETRIER_H
#define TIDINGS_CONSUMERS_RETRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/run_tx.h"
#include "consumers/workers.h"

struct retrier;

/* env and workers must outlive it. run_max: records of one run. gathers: see struct handler. on_done: a worker is free
 * again. */
struct retrier *retrier_new(const struct run_env *env, struct workers *workers, size_t run_max, bool gathers,
                            void (*on_done)(void *arg), void *arg);
void retrier_free(struct retrier *r); /* when its workers have ended */

void retrier_tick(struct retrier *r, int64_t now_us); /* starts what is due; now_us: clock_mono_us */
int64_t retrier_due(const struct retrier *r); /* when the next tick is wanted; INT64_MAX: when a worker is free */

/* The group finished a record: what could not be tried before that may itself be the reason (item.h: suspect). */
void retrier_note_good(struct retrier *r);

#endif
