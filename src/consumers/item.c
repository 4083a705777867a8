/* Records in memory. */
#include "consumers/item.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

/* A parsed event takes about as much as its text, on top of the text itself. */
#define PARSED_FACTOR 2

struct item *item_new(const struct source_record *r)
{
    size_t raw = r->key_len + r->value_len;
    struct item *it = xmalloc(sizeof *it + raw);
    memset(it, 0, sizeof *it);
    it->record.partition = r->partition;
    it->record.offset = r->offset;
    it->raw_key_null = !r->key;
    it->raw_value_null = !r->value;
    it->raw_key_len = r->key_len;
    it->raw_value_len = r->value_len;
    if (r->key_len)
        memcpy(it->raw, r->key, r->key_len);
    if (r->value_len)
        memcpy(it->raw + r->key_len, r->value, r->value_len);
    it->bytes = sizeof *it + PARSED_FACTOR * raw;
    return it;
}

const char *item_raw_key(const struct item *it)
{
    return it->raw;
}

const char *item_raw_value(const struct item *it)
{
    return it->raw + it->raw_key_len;
}

void item_free(struct item *it)
{
    if (!it)
        return;
    event_clear(&it->record.event);
    free(it);
}
