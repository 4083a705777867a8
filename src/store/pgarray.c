/* One-dimensional arrays in Postgres' binary format. */
#include "store/pgarray.h"

#include <string.h>

enum { OFFSET_DIMENSIONS = 0, OFFSET_FLAGS = 4, OFFSET_SIZE = 12 };

static void put_u32(char *at, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    memcpy(at, b, sizeof b);
}

void pgarray_begin(struct pgarray *a, uint32_t element_oid)
{
    buf_clear(&a->buf);
    a->count = 0;
    buf_add_u32be(&a->buf, 1); /* dimensions */
    buf_add_u32be(&a->buf, 0); /* no nulls so far */
    buf_add_u32be(&a->buf, element_oid);
    buf_add_u32be(&a->buf, 0); /* size: set at the end */
    buf_add_u32be(&a->buf, 1); /* lower bound */
}

void pgarray_int(struct pgarray *a, int32_t value)
{
    buf_add_u32be(&a->buf, sizeof value);
    buf_add_u32be(&a->buf, (uint32_t)value);
    a->count++;
}

void pgarray_uuid(struct pgarray *a, struct uuid id)
{
    buf_add_u32be(&a->buf, sizeof id.b);
    buf_add(&a->buf, id.b, sizeof id.b);
    a->count++;
}

void pgarray_text(struct pgarray *a, struct text text)
{
    a->count++;
    if (!text.data) {
        buf_add_u32be(&a->buf, UINT32_MAX);
        put_u32(a->buf.data + OFFSET_FLAGS, 1);
        return;
    }
    buf_add_u32be(&a->buf, (uint32_t)text.len);
    buf_add(&a->buf, text.data, text.len);
}

void pgarray_end(struct pgarray *a)
{
    put_u32(a->buf.data + OFFSET_SIZE, a->count);
    if (a->count == 0) { /* an empty array has no dimension */
        put_u32(a->buf.data + OFFSET_DIMENSIONS, 0);
        a->buf.len = OFFSET_SIZE;
    }
}

void pgarray_free(struct pgarray *a)
{
    buf_free(&a->buf);
}
