/* When a delivery that failed is tried again: a list of waits, "5s,5m,2h". Pure, any thread. */
#ifndef TIDINGS_DELIVERY_SCHEDULE_H
#define TIDINGS_DELIVERY_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHEDULE_WAITS 30

struct schedule {
    size_t count;
    int64_t waits_ms[SCHEDULE_WAITS];
};

/* Comma-separated numbers with ms, s, m or h, each of 1 ms to 40 h. False with a sentence in why. */
bool schedule_read(const char *text, struct schedule *out, char *why, size_t why_size);

/* How long to wait after an attempt that failed, the first being 0; -1: there is no further one. Up to a fifth is added by
 * chance, so that what failed together does not come back together. at_least_ms: as the far side asked. */
int64_t schedule_wait_ms(const struct schedule *s, int64_t attempt, int64_t at_least_ms);

#endif
