/* The events of a shard that were passed without having been seen in Kafka, by seq: they are missing unless they are seen later
 * (out of order). A bit an event, in pages that are there only where something was unseen. One thread. */
#ifndef TIDINGS_VERIFY_UNSEEN_H
#define TIDINGS_VERIFY_UNSEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unseen {
    int64_t after;
    uint64_t **pages;
    size_t count;
};

/* For events after one seq up to another. */
void unseen_init(struct unseen *u, int64_t after, int64_t to);
void unseen_free(struct unseen *u);

void unseen_add(struct unseen *u, int64_t seq);
/* It is seen after all. False: it was not among the unseen. */
bool unseen_take(struct unseen *u, int64_t seq);
/* The first one after a seq; 0: there is none. */
int64_t unseen_next(const struct unseen *u, int64_t seq);

#endif
