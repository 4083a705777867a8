/* Blocking statements with a deadline of our own: the server's do not end a wait for a standby, nor for a server that hangs while its
 * kernel, or a proxy, still acknowledges. Pool and worker threads only. */
#ifndef TIDINGS_CORE_PGEXEC_H
#define TIDINGS_CORE_PGEXEC_H

#include <libpq-fe.h>
#include <stdint.h>

/* Until when to wait. */
struct pg_limit {
    int64_t deadline_us;            /* clock_mono_us() */
    const _Atomic int64_t *stop_at; /* another, set meanwhile: noticed within 0.2 s. NULL or 0: none */
};

/* As PQexecParams; without parameters and in text format several statements may stand in sql, and the last one's result is
 * returned, as by PQexec. NULL: not sent, or no answer in time; the connection is of no use any more then. */
PGresult *pg_exec(PGconn *conn, struct pg_limit limit, const char *sql, int count, const char *const *values,
                  const int *lengths, const int *formats, int result_format);

/* As PQprepare, without types. */
PGresult *pg_exec_prepare(PGconn *conn, struct pg_limit limit, const char *name, const char *sql);

#endif
