/* One-dimensional arrays in Postgres' binary format, as parameters of a prepared statement and in its rows. Not thread-safe.
 * Layout (network order): dimensions, has-null flag, element type; then size and lower bound; then length and bytes of
 * each element, length -1 for null. (src/backend/utils/adt/arrayfuncs.c, array_recv) */
#ifndef TIDINGS_STORE_PGARRAY_H
#define TIDINGS_STORE_PGARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/uuid.h"
#include "store/action.h"

enum { PG_OID_INT8 = 20, PG_OID_INT4 = 23, PG_OID_TEXT = 25, PG_OID_UUID = 2950 };

struct pgarray {
    struct buf buf;
    uint32_t count;
};

void pgarray_begin(struct pgarray *a, uint32_t element_oid); /* keeps the memory of an earlier use */
void pgarray_int(struct pgarray *a, int32_t value);
void pgarray_bigint(struct pgarray *a, int64_t value);
void pgarray_uuid(struct pgarray *a, struct uuid id);
void pgarray_text(struct pgarray *a, struct text text); /* data NULL: null */
void pgarray_end(struct pgarray *a);                    /* then buf holds the parameter */
void pgarray_free(struct pgarray *a);

/* Ends `count` arrays and enters them as the parameters of a statement. */
void pgarray_params(struct pgarray *arrays, int count, const char **values, int *lengths, int *formats);

/* The elements of an array in a row. The bytes must outlive it. */
struct pgarray_elements {
    const uint8_t *at, *end;
    size_t left; /* how many there are still */
};

/* False: not a one-dimensional array in binary format. A null column (data NULL) reads as an empty array. */
bool pgarray_read(struct pgarray_elements *e, const char *data, size_t len);

/* The next element: its bytes, NULL for a null. False: there is none, or it is cut off. */
bool pgarray_next(struct pgarray_elements *e, const uint8_t **value, size_t *len);

/* An integer of the present element, 0 for a null; two's complement of 4 or 8 bytes. */
int64_t pgarray_int_of(const uint8_t *value, size_t len);

#endif
