/* Bits of events that were not seen. */
#include "verify/unseen.h"

#include <stdlib.h>

#include "core/buf.h"

enum { WORDS = 1024, BITS = 64 * WORDS }; /* of a page: 8 KB */

void unseen_init(struct unseen *u, int64_t after, int64_t to)
{
    u->after = after;
    u->count = to > after ? (size_t)(to - after) / BITS + 1 : 0;
    u->pages = xcalloc(u->count + 1, sizeof *u->pages);
}

void unseen_free(struct unseen *u)
{
    for (size_t i = 0; i < u->count; i++)
        free(u->pages[i]);
    free(u->pages);
    *u = (struct unseen){0};
}

/* The place of an event: its page, and its bit in it. False: it is none of those. */
static bool locate(const struct unseen *u, int64_t seq, size_t *page, size_t *bit)
{
    if (seq <= u->after)
        return false;
    size_t at = (size_t)(seq - u->after - 1);
    *page = at / BITS;
    *bit = at % BITS;
    return *page < u->count;
}

void unseen_add(struct unseen *u, int64_t seq)
{
    size_t page, bit;
    if (!locate(u, seq, &page, &bit))
        return;
    if (!u->pages[page])
        u->pages[page] = xcalloc(WORDS, sizeof(uint64_t));
    u->pages[page][bit / 64] |= UINT64_C(1) << bit % 64;
}

bool unseen_take(struct unseen *u, int64_t seq)
{
    size_t page, bit;
    if (!locate(u, seq, &page, &bit) || !u->pages[page])
        return false;
    uint64_t *word = &u->pages[page][bit / 64], mask = UINT64_C(1) << bit % 64;
    bool there = *word & mask;
    *word &= ~mask;
    return there;
}

int64_t unseen_next(const struct unseen *u, int64_t seq)
{
    size_t page, bit;
    seq = seq < u->after ? u->after + 1 : seq + 1;
    for (; locate(u, seq, &page, &bit); seq += 64 - (int64_t)(bit % 64)) {
        if (!u->pages[page]) {
            seq += BITS - 64 - (int64_t)(bit / 64 * 64); /* to the page's last word */
            continue;
        }
        uint64_t rest = u->pages[page][bit / 64] >> bit % 64;
        if (rest)
            return seq + __builtin_ctzll(rest);
    }
    return 0;
}
