/* Output that waits for a Kafka transaction: of each key the newest. A hash table that grows by one bucket with one key, so
 * that no call takes long; without a lock of its own. */
#ifndef TIDINGS_CONSUMERS_WAITING_H
#define TIDINGS_CONSUMERS_WAITING_H

#include <stddef.h>
#include <stdint.h>

#include "handlers/outputs.h"

struct waiting {
    struct waiting *next;
    uint64_t hash; /* the key's */
    uint64_t assignment;
    struct output *output;
};

struct waiting_table {
    struct waiting **buckets;
    size_t capacity, used; /* buckets: that there is memory for, and that have keys */
    size_t count;
    size_t bytes; /* memory of what is in it, about */
};

/* Wraps all of them, in their order, and empties o. */
struct waiting *waiting_list(struct outputs *o, uint64_t assignment);
void waiting_free(struct waiting *list); /* with the outputs; NULL is fine */
size_t waiting_size(const struct waiting *w);

/* Puts w in. What it takes the place of, the caller's to free; NULL: the key is new. */
struct waiting *waiting_put(struct waiting_table *t, struct waiting *w);
struct waiting *waiting_find(const struct waiting_table *t, const struct waiting *like); /* NULL: not there */
/* Takes all out, in no order; the table is a new one then. */
struct waiting *waiting_empty(struct waiting_table *t);

#endif
