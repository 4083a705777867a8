/* A JSON object, member by member. */
#include "core/members.h"

#include <string.h>

#include "core/clock.h"

void members_begin(struct buf *b)
{
    buf_addc(b, '{');
}

void members_end(struct buf *b)
{
    buf_addc(b, '}');
}

static void begin(struct buf *b, const char *name)
{
    size_t len = strlen(name);
    char *out = buf_grow(b, len + 4), *start = out;
    if (out[-1] != '{')
        *out++ = ',';
    *out++ = '"';
    memcpy(out, name, len);
    out += len;
    *out++ = '"';
    *out++ = ':';
    b->len += (size_t)(out - start);
}

void member_text(struct buf *b, const char *name, const char *text, size_t len)
{
    begin(b, name);
    if (text)
        buf_add_json(b, text, len);
    else
        buf_adds(b, "null");
}

void member_string(struct buf *b, const char *name, const char *text)
{
    member_text(b, name, text, text ? strlen(text) : 0);
}

void member_int(struct buf *b, const char *name, int64_t value)
{
    begin(b, name);
    buf_add_int(b, value);
}

void member_bool(struct buf *b, const char *name, bool value)
{
    begin(b, name);
    buf_adds(b, value ? "true" : "false");
}

/* Text that has nothing to escape. */
static void member_plain(struct buf *b, const char *name, const char *text, size_t len)
{
    begin(b, name);
    buf_addc(b, '"');
    buf_add(b, text, len);
    buf_addc(b, '"');
}

void member_uuid(struct buf *b, const char *name, struct uuid id)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    member_plain(b, name, text, UUID_TEXT_SIZE - 1);
}

void member_time(struct buf *b, const char *name, int64_t wall_us)
{
    char text[RFC3339_SIZE];
    rfc3339_format(wall_us, text);
    member_plain(b, name, text, RFC3339_SIZE - 1);
}

void member_json(struct buf *b, const char *name, const char *json)
{
    begin(b, name);
    buf_adds(b, json ? json : "null");
}
