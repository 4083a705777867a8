/* What was seen in a batch: a set of hashes. Two things with one hash count as the same, so it is for what may err on that
 * side. Loop thread. */
#ifndef TIDINGS_STORE_SEEN_H
#define TIDINGS_STORE_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seen {
    uint64_t *hashes; /* an open table; 0: an empty place */
    size_t size;      /* a power of two, at least twice as many as are entered */
};

void seen_init(struct seen *s, size_t most); /* at most so many are entered */
void seen_free(struct seen *s);
void seen_clear(struct seen *s);
bool seen_first(struct seen *s, uint64_t hash); /* enters it; true when it was not there */

#endif
