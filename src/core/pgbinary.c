/* Columns of rows in binary format. */
#include "core/pgbinary.h"

#include <string.h>

static const int64_t PG_EPOCH_US = 946684800000000; /* 2000-01-01 in microseconds since 1970 */

uint64_t pgbinary_int(const PGresult *rows, int row, int column)
{
    const uint8_t *p = (const uint8_t *)PQgetvalue(rows, row, column);
    uint64_t v = 0;
    for (int i = 0; i < PQgetlength(rows, row, column); i++)
        v = v << 8 | p[i];
    return v;
}

struct uuid pgbinary_uuid(const PGresult *rows, int row, int column)
{
    struct uuid id = {{0}};
    if (PQgetlength(rows, row, column) == (int)sizeof id.b)
        memcpy(id.b, PQgetvalue(rows, row, column), sizeof id.b);
    return id;
}

int64_t pgbinary_time(int64_t us)
{
    return us + PG_EPOCH_US;
}

int64_t pgbinary_time_us(const PGresult *rows, int row, int column)
{
    return PQgetisnull(rows, row, column) ? 0 : pgbinary_time((int64_t)pgbinary_int(rows, row, column));
}
