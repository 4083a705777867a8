/* The last value of each key in STATS_TOPIC, as a reader of committed records has it. Blocks. One thread. */
#ifndef TIDINGS_VERIFY_PUBLISHED_H
#define TIDINGS_VERIFY_PUBLISHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "core/uuid.h"

enum { PUBLISHED_MAX = 2000000 }; /* keys; 64 bytes each */

struct published_key {
    struct published_key *next;
    struct uuid campaign;
    int64_t minute_us; /* since 1970 */
    uint64_t counts;   /* hash of their JSON text; 0: a tombstone */
    bool seen;         /* the caller's */
};

struct published;

/* NULL with a sentence in why: no topic, no broker. config must outlive it. */
struct published *published_open(const struct config *config, char *why, size_t why_size);
void published_close(struct published *p);

/* Reads what has come since. False: it could not, with a sentence in why, or *full: there are too many keys. */
bool published_read(struct published *p, bool *full, char *why, size_t why_size);

struct published_key *published_find(const struct published *p, struct uuid campaign, int64_t minute_us);
/* All keys, in no order: NULL begins; NULL is the end. */
struct published_key *published_next(const struct published *p, const struct published_key *after);

uint64_t published_hash(const char *counts, size_t len); /* never 0 */

#endif
