/* Columns of rows in binary format. A null reads as 0, a zero UUID, an absent text. Any thread. */
#ifndef TIDINGS_CORE_PGBINARY_H
#define TIDINGS_CORE_PGBINARY_H

#include <libpq-fe.h>
#include <stdint.h>

#include "core/uuid.h"

uint64_t pgbinary_int(const PGresult *rows, int row, int column); /* int2, int4 and int8 that are not negative */
struct uuid pgbinary_uuid(const PGresult *rows, int row, int column);
int64_t pgbinary_time(int64_t us); /* microseconds since 2000, as timestamptz has them, to such since 1970 */
int64_t pgbinary_time_us(const PGresult *rows, int row, int column); /* timestamptz: microseconds since 1970 */

#endif
