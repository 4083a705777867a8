/* Event contracts and the envelope: one function makes a record's value. event_read.c reads and checks it. */
#include "domain/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

struct contract {
    const char *name, *email_key;
    size_t name_len;
};

static const struct contract contracts[EVENT_TYPE_MAX] = {
#define EVENT_CONTRACT(id, number, name_, email_key_, uuids, others)                                                   \
    [id] = {.name = name_, .name_len = sizeof name_ - 1, .email_key = email_key_},
    EVENT_TABLE(EVENT_CONTRACT)
#undef EVENT_CONTRACT
};

static bool known(enum event_type t)
{
    return t > EVENT_NONE && t < EVENT_TYPE_MAX && contracts[t].name;
}

const char *event_type_name(enum event_type t)
{
    return known(t) ? contracts[t].name : NULL;
}

const char *event_email_key(enum event_type t)
{
    return known(t) ? contracts[t].email_key : NULL;
}

enum event_type event_type_parse(const char *name, size_t len)
{
    for (int t = EVENT_NONE + 1; t < EVENT_TYPE_MAX; t++)
        if (known((enum event_type)t) && strlen(contracts[t].name) == len && memcmp(contracts[t].name, name, len) == 0)
            return (enum event_type)t;
    return EVENT_NONE;
}

void event_names(struct buf *out)
{
    buf_adds(out, "{");
    for (int t = EVENT_NONE + 1; t < EVENT_TYPE_MAX; t++)
        buf_printf(out, "%s%s", t > EVENT_NONE + 1 ? "," : "", known((enum event_type)t) ? contracts[t].name : "NULL");
    buf_adds(out, "}");
}

/* Bytes that would be wrong for ever must not be sent, and a missing member must not be taken for an empty one. */
static _Noreturn void contract_broken(const char *what, const char *name)
{
    fprintf(stderr, "tidings: event contract broken: %s %s\n", what, name);
    abort();
}

/* --- from the first bytes --- */

/* What event_value writes first. */
#define VALUE_HEAD "{\"id\":\""
#define VALUE_TYPE "\",\"type\":\""
#define VALUE_TYPE_AT (sizeof VALUE_HEAD - 1 + UUID_TEXT_SIZE - 1)

bool event_peek(const char *value, size_t len, enum event_type *type)
{
    const size_t at = VALUE_TYPE_AT + sizeof VALUE_TYPE - 1;
    if (len <= at || memcmp(value, VALUE_HEAD, sizeof VALUE_HEAD - 1) != 0 ||
        memcmp(value + VALUE_TYPE_AT, VALUE_TYPE, sizeof VALUE_TYPE - 1) != 0)
        return false;
    const char *end = memchr(value + at, '"', len - at);
    if (end)
        *type = event_type_parse(value + at, (size_t)(end - (value + at)));
    return end != NULL;
}

/* --- writing --- */

static bool is_zero(struct uuid id)
{
    return uuid_equal(id, (struct uuid){{0}});
}

/* Pieces of a value: the caller has made room. */
static char *put(char *out, const void *piece, size_t len)
{
    memcpy(out, piece, len);
    return out + len;
}

#define PUT(out, literal) put(out, literal, sizeof literal - 1)

void event_text(const struct event_row *row, struct event_text *out)
{
    uuid_format(row->id, out->id);
    event_key(row, out->key);
    rfc3339_format(row->at_us, out->at);
}

static char *put_account(char *out, const struct event_row *row)
{
    out = PUT(out, "\",\"account_id\":\"");
    uuid_format(row->account_id, out);
    return out + UUID_TEXT_SIZE - 1;
}

static char *put_campaign(char *out, const struct event_row *row, const char *text)
{
    if (is_zero(row->campaign_id))
        return PUT(out, "\",\"campaign_id\":null");
    out = PUT(out, "\",\"campaign_id\":\"");
    out = put(out, text, UUID_TEXT_SIZE - 1);
    return PUT(out, "\"");
}

void event_value_of(const struct event_row *row, const struct event_text *text, struct buf *out)
{
    enum { ENVELOPE = 320 }; /* more than all but data takes */
    if (row->format != EVENT_FORMAT)
        contract_broken("row of unknown format, type", known(row->type) ? contracts[row->type].name : "unknown");
    if (!known(row->type))
        contract_broken("row of unknown type", "");
    char *p = buf_grow(out, row->data_len + ENVELOPE);
    p = PUT(p, "{\"id\":\"");
    p = put(p, text->id, UUID_TEXT_SIZE - 1);
    p = PUT(p, "\",\"type\":\"");
    p = put(p, contracts[row->type].name, contracts[row->type].name_len);
    p = put_account(p, row);
    p = put_campaign(p, row, text->key);
    p = PUT(p, ",\"data\":");
    p = put(p, row->data, row->data_len);
    p = PUT(p, ",\"timestamp\":\"");
    p = put(p, text->at, RFC3339_SIZE - 1);
    p = PUT(p, "\",\"version\":");
    out->len = (size_t)(p - out->data);
    buf_add_int(out, row->version);
    buf_addc(out, '}');
}

void event_value(const struct event_row *row, struct buf *out)
{
    struct event_text text;
    event_text(row, &text);
    event_value_of(row, &text, out);
}

size_t event_key(const struct event_row *row, char out[UUID_TEXT_SIZE])
{
    uuid_format(is_zero(row->campaign_id) ? row->account_id : row->campaign_id, out);
    return UUID_TEXT_SIZE - 1;
}
