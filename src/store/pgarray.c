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

void pgarray_bigint(struct pgarray *a, int64_t value)
{
    buf_add_u32be(&a->buf, sizeof value);
    buf_add_u64be(&a->buf, (uint64_t)value);
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

void pgarray_params(struct pgarray *arrays, int count, const char **values, int *lengths, int *formats)
{
    for (int i = 0; i < count; i++) {
        pgarray_end(&arrays[i]);
        values[i] = arrays[i].buf.data;
        lengths[i] = (int)arrays[i].buf.len;
        formats[i] = 1;
    }
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool pgarray_read(struct pgarray_elements *e, const char *data, size_t len)
{
    enum { HEAD_SIZE = 20 };
    const uint8_t *p = (const uint8_t *)data;
    *e = (struct pgarray_elements){0};
    if (!data || (len >= OFFSET_SIZE && get_u32(p) == 0))
        return true;
    if (len < HEAD_SIZE || get_u32(p) != 1)
        return false;
    e->left = get_u32(p + OFFSET_SIZE);
    e->at = p + HEAD_SIZE;
    e->end = p + len;
    return true;
}

bool pgarray_next(struct pgarray_elements *e, const uint8_t **value, size_t *len)
{
    *value = NULL;
    *len = 0;
    if (e->left == 0 || e->end - e->at < 4)
        return false;
    uint32_t size = get_u32(e->at);
    e->at += 4;
    e->left--;
    if (size == UINT32_MAX)
        return true;
    if (size > (size_t)(e->end - e->at))
        return false;
    *value = e->at;
    *len = size;
    e->at += size;
    return true;
}

int64_t pgarray_int_of(const uint8_t *value, size_t len)
{
    uint64_t v = len > 0 && value[0] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = 0; i < len; i++)
        v = v << 8 | value[i];
    return (int64_t)v;
}
