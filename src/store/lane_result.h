/* What a batch brought about: the committed events, and what became of each action. Buffers are reused from batch to batch.
 * Zero-initialise; lane_result_free. Loop thread. */
#ifndef TIDINGS_STORE_LANE_RESULT_H
#define TIDINGS_STORE_LANE_RESULT_H

#include <stdbool.h>
#include <stddef.h>

#include "domain/event.h"
#include "store/action.h"

struct lane_result {
    struct event_row *rows; /* in seq order per shard once sorted; their text belongs to whoever decoded them */
    size_t row_count, row_size;
    struct action_result *results; /* one per action of the batch */
    bool *again;                   /* the action was not applied and must come again */
    size_t result_size;
};

/* Empty, with room for `rows` events; each of `count` actions has ERR_INTERNAL until it is said otherwise. */
void lane_result_begin(struct lane_result *r, size_t rows, size_t count);

/* Counts an event that was added to rows for its action. */
void lane_result_count(struct action_result *result, const struct event_row *row);

void lane_result_sort(struct lane_result *r);
void lane_result_free(struct lane_result *r);

#endif
