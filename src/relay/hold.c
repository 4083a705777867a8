/* Under load, committed rows wait a few ms before they are sent, so that Kafka gets fewer and fuller batches: every produce
 * request costs client and broker some 100 µs of CPU, however little is in it. With few events they do not wait. */
#include "relay/hold.h"

#include <string.h>

enum {
    HELD_ROWS = 2000,       /* more are sent at once */
    HELD_BYTES = 512 << 10, /* of data, likewise */
    EASY_PER_S = 4000,      /* up to this rate of events nothing waits */
    BUSY_PER_S = 8000,      /* from this rate on, as long as it takes to fill batches, within KAFKA_LINGER_MS */
    FULL_BATCH = 16,        /* events in a request from which on more of them save little */
};

int64_t hold_wait_ms(int64_t per_s, uint32_t partitions, int64_t max_ms)
{
    if (per_s <= EASY_PER_S)
        return 0;
    int64_t fill_ms = INT64_C(1000) * FULL_BATCH * partitions / per_s + 1;
    int64_t wait_ms = fill_ms < max_ms ? fill_ms : max_ms;
    return per_s >= BUSY_PER_S ? wait_ms : wait_ms * (per_s - EASY_PER_S) / (BUSY_PER_S - EASY_PER_S);
}

void hold_open(struct hold *h, uint32_t shards)
{
    memset(h, 0, sizeof *h);
    h->shards = shards;
    h->chains = xcalloc(shards, sizeof *h->chains);
}

void hold_free(struct hold *h)
{
    free(h->chains);
    free(h->rows);
    free(h->next);
    free(h->sorted);
    buf_free(&h->data);
}

static void add(struct hold *h, const struct event_row *row)
{
    if (h->count == h->size) {
        h->size = h->size ? h->size * 2 : 64;
        h->rows = xrealloc(h->rows, h->size * sizeof *h->rows);
        h->next = xrealloc(h->next, h->size * sizeof *h->next);
        h->sorted = xrealloc(h->sorted, h->size * sizeof *h->sorted);
    }
    size_t i = h->count++;
    struct chain *chain = &h->chains[row->shard];
    h->rows[i] = *row;
    h->rows[i].data = NULL; /* the buffer may move: where in it is known by data_at */
    h->rows[i].data_len = row->data_len;
    h->next[i].row = 0;
    h->next[i].data_at = h->data.len;
    buf_add(&h->data, row->data, row->data_len);
    if (chain->last)
        h->next[chain->last - 1].row = i + 1;
    else
        chain->first = i + 1;
    chain->last = i + 1;
}

bool hold_add(struct hold *h, const struct event_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add(h, &rows[i]);
    return h->count < HELD_ROWS && h->data.len < HELD_BYTES;
}

size_t hold_take(struct hold *h, const struct event_row **rows)
{
    size_t n = 0;
    for (size_t i = 0; i < h->count; i++) {
        struct chain *chain = &h->chains[h->rows[i].shard];
        for (size_t at = chain->first; at; at = h->next[at - 1].row) {
            h->sorted[n] = h->rows[at - 1];
            h->sorted[n++].data = h->data.data + h->next[at - 1].data_at;
        }
        *chain = (struct chain){0, 0};
    }
    h->count = 0;
    buf_clear(&h->data);
    *rows = h->sorted;
    return n;
}
