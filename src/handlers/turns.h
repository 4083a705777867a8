/* Turns: how many calls go to one target at a time in this process, whichever worker makes them. A target that is slow
 * must not have all workers, and those who are sent away must come back in time, not all at once. Any thread. */
#ifndef TIDINGS_HANDLERS_TURNS_H
#define TIDINGS_HANDLERS_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True: make the call, then turns_give. False: `limit` others are at it, or the target is held; wait_ms says when to ask
 * again: as many are told the same time as the target will have room for, by how long its last call took. */
bool turns_take(const char *target, size_t limit, int64_t *wait_ms);
/* started_us: clock_mono_us when the call began. good: it got through. */
void turns_give(const char *target, int64_t started_us, bool good);

/* Nobody gets a turn for so long. */
void turns_hold(const char *target, int64_t ms);
/* When a call last got through (clock_mono_us); 0: not known. */
int64_t turns_good_us(const char *target);

#endif
