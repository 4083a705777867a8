/* A growable byte buffer. Not thread-safe. Aborts when memory is exhausted (the process is restarted, nothing is lost). */
#ifndef TIDINGS_CORE_BUF_H
#define TIDINGS_CORE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
    char *data; /* NULL while cap is 0; not NUL-terminated unless buf_cstr was called */
    size_t len, cap;
};

void buf_free(struct buf *b);                  /* and back to empty */
void buf_clear(struct buf *b);                 /* keeps the memory */

/* The small ones are inline: an answer or an event is put together from dozens of them. */
char *buf_enlarge(struct buf *b, size_t extra); /* buf_grow's slow half */

/* Room for extra bytes past len; returns data + len; len unchanged. */
static inline char *buf_grow(struct buf *b, size_t extra)
{
    return b->data && extra <= b->cap - b->len ? b->data + b->len : buf_enlarge(b, extra);
}

static inline void buf_add(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return;
    memcpy(buf_grow(b, len), data, len);
    b->len += len;
}

static inline void buf_adds(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

static inline void buf_addc(struct buf *b, char c)
{
    *buf_grow(b, 1) = c;
    b->len++;
}

void buf_add_int(struct buf *b, int64_t value);
void buf_add_u32be(struct buf *b, uint32_t v); /* network order, as Postgres' binary format has it */
void buf_add_u64be(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; text must be UTF-8. Escapes ", \ and control characters only. */
void buf_add_json(struct buf *b, const char *text, size_t len);
/* Text for HTML, in element content and in quoted attributes. */
void buf_add_html(struct buf *b, const char *text, size_t len);
const char *buf_cstr(struct buf *b);           /* NUL-terminates (len unchanged) */

/* malloc family that aborts with a message instead of returning NULL. */
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);

#endif
