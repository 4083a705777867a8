/* Records that a run's handler makes for its output topic. A plain list; one thread at a time. */
#ifndef TIDINGS_HANDLERS_OUTPUTS_H
#define TIDINGS_HANDLERS_OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>

struct output {
    struct output *next;
    size_t key_len, value_len;
    bool tombstone; /* Kafka's null for a value: the key is gone */
    char bytes[];   /* the key, then the value */
};

struct outputs {
    struct output *first, *last;
};

/* Appends a copy. value NULL: a tombstone. */
void outputs_add(struct outputs *o, const char *key, size_t key_len, const char *value, size_t value_len);
void outputs_clear(struct outputs *o); /* frees them all */

#endif
