/* Output of runs. */
#include "handlers/outputs.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

void outputs_add(struct outputs *o, const char *key, size_t key_len, const char *value, size_t value_len)
{
    struct output *out = xmalloc(sizeof *out + key_len + value_len);
    *out = (struct output){.key_len = key_len, .value_len = value ? value_len : 0, .tombstone = !value};
    memcpy(out->bytes, key, key_len);
    if (value)
        memcpy(out->bytes + key_len, value, value_len);
    *(o->last ? &o->last->next : &o->first) = out;
    o->last = out;
}

void outputs_clear(struct outputs *o)
{
    for (struct output *out = o->first, *next; out; out = next) {
        next = out->next;
        free(out);
    }
    *o = (struct outputs){.first = NULL};
}
