/* A growable byte buffer, and allocation that never fails. */
#include "core/buf.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void out_of_memory(void)
{
    static const char text[] = "tidings: out of memory\n";
    /* write, not stdio or the log: both may allocate. Nothing is to be done about a failure. */
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        abort();
    abort();
}

void *xmalloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p)
        out_of_memory();
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p)
        out_of_memory();
    return p;
}

void *xrealloc(void *p, size_t size)
{
    void *q = realloc(p, size ? size : 1);
    if (!q)
        out_of_memory();
    return q;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t len)
{
    len = strnlen(s, len);
    char *copy = xmalloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

char *buf_enlarge(struct buf *b, size_t extra)
{
    if (extra > SIZE_MAX / 4 - b->len)
        out_of_memory();
    size_t need = b->len + extra, cap = b->cap < 64 ? 64 : b->cap * 2;
    b->cap = cap < need ? need : cap;
    b->data = xrealloc(b->data, b->cap);
    return b->data + b->len;
}

void buf_add_int(struct buf *b, int64_t value)
{
    char digits[20], *end = digits + sizeof digits, *p = end;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--p = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        *--p = '-';
    buf_add(b, p, (size_t)(end - p));
}

void buf_add_u32be(struct buf *b, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_add(b, bytes, sizeof bytes);
}

void buf_add_u64be(struct buf *b, uint64_t v)
{
    buf_add_u32be(b, (uint32_t)(v >> 32));
    buf_add_u32be(b, (uint32_t)v);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    size_t room = b->cap - b->len;
    int len = vsnprintf(room ? b->data + b->len : NULL, room, fmt, args);
    if (len < 0)
        out_of_memory();
    if ((size_t)len >= room)
        vsnprintf(buf_grow(b, (size_t)len + 1), (size_t)len + 1, fmt, again);
    b->len += (size_t)len;
    va_end(again);
    va_end(args);
}

static void add_escaped(struct buf *b, unsigned char c)
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *p = short_forms; *p; p += 2)
        if ((unsigned char)*p == c) {
            buf_addc(b, '\\');
            buf_addc(b, p[1]);
            return;
        }
    buf_printf(b, "\\u%04x", c);
}

/* Whether one of eight bytes is a control character, a quote or a backslash. */
static bool needs_escape(uint64_t bytes)
{
    const uint64_t ones = UINT64_MAX / 255, highs = ones * 128;
    uint64_t quote = bytes ^ ones * '"', backslash = bytes ^ ones * '\\';
    return (((bytes - ones * 0x20) & ~bytes) | ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash)) & highs;
}

/* How many bytes at the start of the text stand for themselves. */
static size_t plain_length(const char *text, size_t len)
{
    size_t i = 0;
    for (uint64_t bytes; len - i >= sizeof bytes; i += sizeof bytes) {
        memcpy(&bytes, text + i, sizeof bytes);
        if (needs_escape(bytes))
            break;
    }
    for (; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == '"' || c == '\\')
            break;
    }
    return i;
}

void buf_add_json(struct buf *b, const char *text, size_t len)
{
    buf_grow(b, len + 2);
    buf_addc(b, '"');
    for (;;) {
        size_t plain = plain_length(text, len);
        buf_add(b, text, plain);
        if (plain == len)
            break;
        add_escaped(b, (unsigned char)text[plain]);
        text += plain + 1;
        len -= plain + 1;
    }
    buf_addc(b, '"');
}

void buf_add_html(struct buf *b, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        switch (text[i]) {
        case '&': buf_adds(b, "&amp;"); break;
        case '<': buf_adds(b, "&lt;"); break;
        case '>': buf_adds(b, "&gt;"); break;
        case '"': buf_adds(b, "&quot;"); break;
        case '\'': buf_adds(b, "&#39;"); break;
        default: buf_addc(b, text[i]);
        }
    }
}

const char *buf_cstr(struct buf *b)
{
    *buf_grow(b, 1) = '\0';
    return b->data;
}
