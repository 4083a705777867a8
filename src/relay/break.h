/* The relay's deliberate bugs: core/break.h. Loop thread only. */
#ifndef TIDINGS_RELAY_BREAK_H
#define TIDINGS_RELAY_BREAK_H

#include "core/break.h"
#include "domain/event.h"

#ifdef TIDINGS_BREAKABLE
static const struct event_row *break_rows;
static size_t break_count;

static inline bool break_neighbours(const struct event_row *a, const struct event_row *b)
{
    return a->type != EVENT_NONE && b->type != EVENT_NONE && a->shard == b->shard && a->seq + 1 == b->seq &&
           memcmp(&a->campaign_id, &b->campaign_id, sizeof a->campaign_id) == 0;
}

/* Before the rows are sent one by one. */
static inline void break_begin(const struct event_row *rows, size_t count)
{
    break_rows = rows;
    break_count = count;
}

/* What is sent in the place of a row: itself, or a neighbour of its campaign whose seq is beside its own. Of 10 seqs, the last
 * but one and the last are a pair. */
static inline const struct event_row *break_row(const struct event_row *row)
{
    size_t at = (size_t)(row - break_rows);
    int64_t place = row->seq % 10;
    if (place == 9 && at > 0 && (broken("skip-event") || broken("swap-events")) && break_neighbours(row - 1, row))
        return row - 1;
    if (place == 8 && at + 1 < break_count && broken("swap-events") && break_neighbours(row, row + 1))
        return row + 1;
    return row;
}
#else
static inline void break_begin(const struct event_row *rows, size_t count)
{
    (void)rows, (void)count;
}

static inline const struct event_row *break_row(const struct event_row *row)
{
    return row;
}
#endif

#endif
