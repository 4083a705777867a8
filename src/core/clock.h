/* Time. Any thread. */
#ifndef TIDINGS_CORE_CLOCK_H
#define TIDINGS_CORE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_mono_us(void); /* CLOCK_MONOTONIC in microseconds: for durations and deadlines */
int64_t clock_wall_us(void); /* microseconds since 1970-01-01T00:00:00Z */
/* As clock_mono_us, up to a tick of the kernel (4 ms) behind it, for a fifth of the price: for time-outs. */
int64_t clock_coarse_us(void);
void clock_sleep_ms(int64_t ms); /* blocks, so never on the loop; a signal may end it early */

#define RFC3339_SIZE 28 /* "2025-01-01T12:00:00.123456Z" and the NUL */
/* Writes RFC 3339 in UTC with six decimals (the only form Tidings emits). Years 1970..9999. */
void rfc3339_format(int64_t wall_us, char out[RFC3339_SIZE]);
/* Reads RFC 3339 (any offset, 0..9 decimals). Returns 0, or -1 when text[0..len) is not a time. */
int rfc3339_parse(const char *text, size_t len, int64_t *wall_us);

/* A back-off with full jitter: uniform in [base/2, min(base * 2^attempt, max)], never below 1. attempt counts from 0. */
int64_t backoff_ms(int attempt, int64_t base_ms, int64_t max_ms);

#endif
