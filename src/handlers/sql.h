/* Statements from a worker thread: blocking, but never for ever, and parameters that are arrays. */
#ifndef TIDINGS_HANDLERS_SQL_H
#define TIDINGS_HANDLERS_SQL_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/uuid.h"
#include "handlers/handler.h"

/* A parameter: text, or bytes for a bytea. data NULL: SQL null. */
struct sql_param {
    const char *data; /* text is NUL-terminated */
    int len;          /* of bytes */
    int binary;       /* 1: bytes */
};

/* Runs one statement and returns its result, the caller's to clear. NULL: no answer by deadline_us (clock_mono_us), or
 * the connection is lost; either way it can be used no more. stop_at: see struct run; may be NULL. */
PGresult *sql_exec(PGconn *conn, int64_t deadline_us, const _Atomic int64_t *stop_at, const char *sql, int count,
                   const struct sql_param *params);

/* For handlers: runs a statement with text parameters (NULL: SQL null) on run->conn. Returns the result when it
 * succeeded; else NULL, with what failed in *failed (NULL: the connection). */
PGresult *run_sql(struct run *run, PGresult **failed, const char *sql, int count, const char *const *values);

/* A copy of a value, NULL for SQL null; the caller's to free. */
char *sql_copy(const PGresult *r, int row, int column);
/* The bytes of a bytea, NULL for SQL null; to be freed with PQfreemem. */
char *sql_bytes(const PGresult *r, int row, int column, size_t *len);

/* Array literals as text: sql_array_begin, elements, sql_array_end; then buf_cstr is the parameter. */
void sql_array_begin(struct buf *b);
void sql_array_text(struct buf *b, const char *text); /* NULL: a null element */
void sql_array_uuid(struct buf *b, struct uuid id);
void sql_array_int(struct buf *b, int64_t value);
const char *sql_array_end(struct buf *b);

#endif
