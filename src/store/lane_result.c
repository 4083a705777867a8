/* The result of a batch. */
#include "store/lane_result.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

void lane_result_begin(struct lane_result *r, size_t rows, size_t count)
{
    if (rows > r->row_size) {
        r->row_size = rows;
        r->rows = xrealloc(r->rows, rows * sizeof *r->rows);
    }
    if (count > r->result_size) {
        r->result_size = count;
        r->results = xrealloc(r->results, count * sizeof *r->results);
        r->again = xrealloc(r->again, count * sizeof *r->again);
    }
    r->row_count = 0;
    for (size_t i = 0; i < count; i++) {
        r->results[i] = (struct action_result){.err = ERR_INTERNAL};
        r->again[i] = false;
    }
}

void lane_result_count(struct action_result *result, const struct event_row *row)
{
    result->events++;
    result->at_us = row->at_us;
    if (row->version > result->version)
        result->version = row->version;
}

static int compare_rows(const void *a, const void *b)
{
    const struct event_row *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

void lane_result_sort(struct lane_result *r)
{
    if (r->row_count > 1) /* with none there may be no array either */
        qsort(r->rows, r->row_count, sizeof *r->rows, compare_rows);
}

void lane_result_free(struct lane_result *r)
{
    free(r->rows);
    free(r->results);
    free(r->again);
    memset(r, 0, sizeof *r);
}
