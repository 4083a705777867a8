/* Which records of one partition are finished, and up to where all of them are: the offset that may be committed.
 * Records are added in delivery order and finish in any order. A plain data structure; one thread at a time. */
#ifndef TIDINGS_CONSUMERS_WATERMARK_H
#define TIDINGS_CONSUMERS_WATERMARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watermark {
    struct watermark_slot {
        int64_t next; /* the offset after the record */
        bool done;
    } * slots;  /* a ring; records head..tail are not covered by `next` yet */
    size_t cap; /* a power of two, or 0 */
    uint64_t head, tail;
    int64_t first; /* offset of the first record; -1 before it */
    int64_t next;  /* offset to commit: all taken before it is finished; -1 before the first record */
};

void watermark_init(struct watermark *w);
void watermark_free(struct watermark *w);

/* Adds a record that has yet to finish; returns the ticket to give to watermark_done. Offsets go up. */
uint64_t watermark_add(struct watermark *w, int64_t offset);
/* Adds a record that is finished already. A row of such records takes one slot. */
void watermark_add_done(struct watermark *w, int64_t offset);
void watermark_done(struct watermark *w, uint64_t ticket); /* once per ticket */

size_t watermark_open(const struct watermark *w); /* slots past the watermark, in use */

#endif
