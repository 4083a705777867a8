/* The contiguous watermark of one partition over records that finish out of order. */
#include "consumers/watermark.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

static struct watermark_slot *slot_at(const struct watermark *w, uint64_t ticket)
{
    return &w->slots[ticket & (w->cap - 1)];
}

static void grow(struct watermark *w)
{
    size_t cap = w->cap ? w->cap * 2 : 64;
    struct watermark_slot *slots = xmalloc(cap * sizeof *slots);
    for (uint64_t t = w->head; t < w->tail; t++)
        slots[t & (cap - 1)] = *slot_at(w, t);
    free(w->slots);
    w->slots = slots;
    w->cap = cap;
}

static void note_first(struct watermark *w, int64_t offset)
{
    if (w->first < 0)
        w->first = offset;
}

static uint64_t push(struct watermark *w, int64_t offset, bool done)
{
    note_first(w, offset);
    if (w->tail - w->head == w->cap)
        grow(w);
    if (w->next < 0)
        w->next = offset;
    *slot_at(w, w->tail) = (struct watermark_slot){.next = offset + 1, .done = done};
    return w->tail++;
}

/* A commit never goes back, even if the topic lost its end and offsets repeat. */
static void rise(struct watermark *w, int64_t next)
{
    if (next > w->next)
        w->next = next;
}

uint64_t watermark_add(struct watermark *w, int64_t offset)
{
    return push(w, offset, false);
}

void watermark_add_done(struct watermark *w, int64_t offset)
{
    note_first(w, offset);
    if (w->head == w->tail)
        rise(w, offset + 1);
    else if (slot_at(w, w->tail - 1)->done)
        slot_at(w, w->tail - 1)->next = offset + 1;
    else
        push(w, offset, true);
}

void watermark_done(struct watermark *w, uint64_t ticket)
{
    slot_at(w, ticket)->done = true;
    while (w->head < w->tail && slot_at(w, w->head)->done)
        rise(w, slot_at(w, w->head++)->next);
}

size_t watermark_open(const struct watermark *w)
{
    return (size_t)(w->tail - w->head);
}

void watermark_init(struct watermark *w)
{
    memset(w, 0, sizeof *w);
    w->first = w->next = -1;
}

void watermark_free(struct watermark *w)
{
    free(w->slots);
    watermark_init(w);
}
