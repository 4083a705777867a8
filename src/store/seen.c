/* A set of hashes. */
#include "store/seen.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

void seen_init(struct seen *s, size_t most)
{
    for (s->size = 16; s->size < 2 * most; s->size *= 2)
        ;
    s->hashes = xcalloc(s->size, sizeof *s->hashes);
}

void seen_free(struct seen *s)
{
    free(s->hashes);
}

void seen_clear(struct seen *s)
{
    memset(s->hashes, 0, s->size * sizeof *s->hashes);
}

bool seen_first(struct seen *s, uint64_t hash)
{
    if (hash == 0)
        hash = 1;
    for (size_t i = hash & (s->size - 1);; i = (i + 1) & (s->size - 1)) {
        if (s->hashes[i] == hash)
            return false;
        if (s->hashes[i] == 0) {
            s->hashes[i] = hash;
            return true;
        }
    }
}
