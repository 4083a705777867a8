/* Actions: one allocation each, with its ids and text. */
#include "store/action.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

struct action *action_new(enum action_kind kind, size_t text_bytes)
{
    struct action *a = xmalloc(sizeof *a + text_bytes);
    memset(a, 0, sizeof *a);
    a->kind = kind;
    a->text_size = text_bytes;
    a->bytes = sizeof *a + text_bytes;
    a->object_id = uuid_v7();
    a->event_id = uuid_v7();
    a->event_id.b[15] = 0; /* the k-th event of the action puts k there */
    if (kind == ACTION_CREATE_CAMPAIGN)
        a->campaign_id = a->object_id;
    return a;
}

struct text action_text(struct action *a, const char *data, size_t len)
{
    if (!data)
        return (struct text){NULL, 0};
    if (len > a->text_size - a->text_used)
        abort();
    char *copy = a->text + a->text_used;
    memcpy(copy, data, len);
    a->text_used += len;
    return (struct text){copy, len};
}

void action_free(struct action *a)
{
    free(a);
}
