/* Committed rows that wait a moment to be sent together. Pure data, no I/O; the relay has the timer. Loop thread only. */
#ifndef TIDINGS_RELAY_HOLD_H
#define TIDINGS_RELAY_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "domain/event.h"

struct hold {
    uint32_t shards;
    size_t count, size;
    struct event_row *rows; /* as they came, data apart */
    struct link {
        size_t row; /* the shard's next row, counted from 1; 0: none */
        size_t data_at;
    } * next;
    struct chain {
        size_t first, last;
    } * chains; /* by shard */
    struct buf data;
    struct event_row *sorted;
};

void hold_open(struct hold *h, uint32_t shards);
void hold_free(struct hold *h);

/* How long rows shall wait at this rate of events; 0: not at all. */
int64_t hold_wait_ms(int64_t per_s, uint32_t partitions, int64_t max_ms);

/* Copies rows. False: it is full, they must be taken now. */
bool hold_add(struct hold *h, const struct event_row *rows, size_t count);

/* All that is held, shard by shard, each in the order in which it came; valid until the next hold_add. */
size_t hold_take(struct hold *h, const struct event_row **rows);

#endif
