/* Output that waits: linear hashing. Of the buckets, `used` is between a power of two and the next one; a key's bucket is its
 * hash modulo the next one, or modulo the power where that bucket is not in use yet. */
#include "consumers/waiting.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/hash.h"

enum { FIRST = 64 }; /* a power of two */

struct waiting *waiting_list(struct outputs *o, uint64_t assignment)
{
    struct waiting *list = NULL, **last = &list;
    for (struct output *out = o->first, *next; out; out = next) {
        next = out->next;
        out->next = NULL;
        struct waiting *w = *last = xmalloc(sizeof *w);
        *w = (struct waiting){.hash = hash64(out->bytes, out->key_len), .assignment = assignment, .output = out};
        last = &w->next;
    }
    *o = (struct outputs){.first = NULL};
    return list;
}

void waiting_free(struct waiting *list)
{
    for (struct waiting *next; list; list = next) {
        next = list->next;
        free(list->output);
        free(list);
    }
}

size_t waiting_size(const struct waiting *w)
{
    return sizeof *w + sizeof *w->output + w->output->key_len + w->output->value_len;
}

static size_t bucket_of(const struct waiting_table *t, uint64_t hash)
{
    size_t bucket = hash & (t->capacity - 1);
    return bucket < t->used ? bucket : hash & (t->capacity / 2 - 1);
}

/* One bucket more, with the keys that belong there now. */
static void grow(struct waiting_table *t)
{
    if (t->used == t->capacity) {
        t->capacity *= 2;
        t->buckets = xrealloc(t->buckets, t->capacity * sizeof t->buckets[0]);
    }
    size_t added = t->used++;
    struct waiting **from = &t->buckets[added - t->capacity / 2], **to = &t->buckets[added];
    *to = NULL;
    for (struct waiting *w; (w = *from);)
        if (bucket_of(t, w->hash) == added) {
            *from = w->next;
            w->next = NULL;
            *to = w;
            to = &w->next;
        } else {
            from = &w->next;
        }
}

static struct waiting **place_of(const struct waiting_table *t, const struct waiting *like)
{
    struct waiting **at = &t->buckets[bucket_of(t, like->hash)];
    const struct output *o = like->output;
    for (struct waiting *w; (w = *at); at = &w->next)
        if (w->hash == like->hash && w->output->key_len == o->key_len &&
            memcmp(w->output->bytes, o->bytes, o->key_len) == 0)
            break;
    return at;
}

struct waiting *waiting_find(const struct waiting_table *t, const struct waiting *like)
{
    return t->count > 0 ? *place_of(t, like) : NULL;
}

struct waiting *waiting_put(struct waiting_table *t, struct waiting *w)
{
    if (!t->buckets) {
        t->buckets = xcalloc(FIRST, sizeof t->buckets[0]);
        t->capacity = t->used = FIRST;
    }
    struct waiting **at = place_of(t, w), *old = *at;
    w->next = old ? old->next : NULL;
    *at = w;
    t->bytes += waiting_size(w);
    if (old) {
        old->next = NULL;
        t->bytes -= waiting_size(old);
    } else if (++t->count > t->used) {
        grow(t);
    }
    return old;
}

struct waiting *waiting_empty(struct waiting_table *t)
{
    struct waiting *list = NULL, **last = &list;
    for (size_t i = 0; i < t->used; i++)
        for (*last = t->buckets[i]; *last; last = &(*last)->next)
            ;
    free(t->buckets);
    *t = (struct waiting_table){.buckets = NULL};
    return list;
}
