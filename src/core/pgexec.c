/* Blocking statements with a deadline. */
#include "core/pgexec.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/clock.h"

enum { SLICE_US = 200000 }; /* how soon a stop is noticed while waiting */

/* Waits until the socket can be read, or written if `write`. False: the deadline passed, or the process stops. */
static bool wait_socket(PGconn *conn, bool write, struct pg_limit limit)
{
    struct pollfd p = {.fd = PQsocket(conn), .events = (short)(POLLIN | (write ? POLLOUT : 0))};
    for (;;) {
        int64_t now = clock_mono_us();
        int64_t stop = limit.stop_at ? atomic_load_explicit(limit.stop_at, memory_order_relaxed) : 0;
        int64_t end = stop != 0 && stop < limit.deadline_us ? stop : limit.deadline_us;
        if (now >= end || p.fd < 0)
            return false;
        int64_t slice = end - now < SLICE_US ? end - now : SLICE_US;
        int n = poll(&p, 1, (int)(slice / 1000) + 1);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

/* Sends what libpq still holds, then reads until a whole result is there. */
static bool wait_result(PGconn *conn, struct pg_limit limit)
{
    for (int unsent; (unsent = PQflush(conn)) != 0;)
        if (unsent < 0 || !wait_socket(conn, true, limit) || !PQconsumeInput(conn))
            return false;
    while (PQisBusy(conn))
        if (!wait_socket(conn, false, limit) || !PQconsumeInput(conn))
            return false;
    return true;
}

static PGresult *last_result(PGconn *conn, struct pg_limit limit)
{
    PGresult *last = NULL;
    while (wait_result(conn, limit)) {
        PGresult *r = PQgetResult(conn);
        if (!r)
            return last;
        PQclear(last);
        last = r;
    }
    PQclear(last);
    return NULL;
}

/* Whether something can be sent; from here on libpq does not block by itself. */
static bool begin(PGconn *conn)
{
    return PQstatus(conn) == CONNECTION_OK && PQsetnonblocking(conn, 1) == 0;
}

/* blocking: as the connection was before, and is again if it goes on. */
static PGresult *end(PGconn *conn, struct pg_limit limit, int sent, bool blocking)
{
    PGresult *r = sent ? last_result(conn, limit) : NULL;
    if (r && blocking)
        PQsetnonblocking(conn, 0);
    return r;
}

PGresult *pg_exec(PGconn *conn, struct pg_limit limit, const char *sql, int count, const char *const *values,
                  const int *lengths, const int *formats, int result_format)
{
    bool blocking = !PQisnonblocking(conn);
    if (!begin(conn))
        return NULL;
    int sent = count == 0 && result_format == 0
                   ? PQsendQuery(conn, sql)
                   : PQsendQueryParams(conn, sql, count, NULL, values, lengths, formats, result_format);
    return end(conn, limit, sent, blocking);
}

PGresult *pg_exec_prepare(PGconn *conn, struct pg_limit limit, const char *name, const char *sql)
{
    bool blocking = !PQisnonblocking(conn);
    return begin(conn) ? end(conn, limit, PQsendPrepare(conn, name, sql, 0, NULL), blocking) : NULL;
}
