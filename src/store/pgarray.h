/* One-dimensional arrays in Postgres' binary format, as parameters of a prepared statement. Not thread-safe.
 * Layout (network order): dimensions, has-null flag, element type; then size and lower bound; then length and bytes of
 * each element, length -1 for null. (src/backend/utils/adt/arrayfuncs.c, array_recv) */
#ifndef TIDINGS_STORE_PGARRAY_H
#define TIDINGS_STORE_PGARRAY_H

#include <stdint.h>

#include "core/buf.h"
#include "core/uuid.h"
#include "store/action.h"

enum { PG_OID_INT4 = 23, PG_OID_TEXT = 25, PG_OID_UUID = 2950 };

struct pgarray {
    struct buf buf;
    uint32_t count;
};

void pgarray_begin(struct pgarray *a, uint32_t element_oid); /* keeps the memory of an earlier use */
void pgarray_int(struct pgarray *a, int32_t value);
void pgarray_uuid(struct pgarray *a, struct uuid id);
void pgarray_text(struct pgarray *a, struct text text); /* data NULL: null */
void pgarray_end(struct pgarray *a);                    /* then buf holds the parameter */
void pgarray_free(struct pgarray *a);

#endif
