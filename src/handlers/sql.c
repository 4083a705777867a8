/* Blocking statements with a deadline. */
#include "handlers/sql.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/clock.h"

#define PARAMS_MAX 16
#define SLICE_US 200000 /* how soon a stop is noticed while waiting */

/* Gives a connection up whose answer did not come: closing would otherwise try to say goodbye to it. */
static void give_up(PGconn *conn)
{
    int fd = PQsocket(conn);
    if (fd >= 0)
        shutdown(fd, SHUT_RDWR);
    PQconsumeInput(conn); /* notices it: PQstatus says CONNECTION_BAD from here on */
}

/* Waits until the socket can be read, or written if `write`. False: the deadline passed, or the process stops. */
static bool wait_socket(PGconn *conn, bool write, int64_t deadline_us, const _Atomic int64_t *stop_at)
{
    struct pollfd p = {.fd = PQsocket(conn), .events = (short)(POLLIN | (write ? POLLOUT : 0))};
    for (;;) {
        int64_t now = clock_mono_us();
        int64_t stop = stop_at ? atomic_load_explicit(stop_at, memory_order_relaxed) : 0;
        int64_t end = stop != 0 && stop < deadline_us ? stop : deadline_us;
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
static bool wait_result(PGconn *conn, int64_t deadline_us, const _Atomic int64_t *stop_at)
{
    for (int unsent; (unsent = PQflush(conn)) != 0;)
        if (unsent < 0 || !wait_socket(conn, true, deadline_us, stop_at) || !PQconsumeInput(conn))
            return false;
    while (PQisBusy(conn))
        if (!wait_socket(conn, false, deadline_us, stop_at) || !PQconsumeInput(conn))
            return false;
    return true;
}

PGresult *sql_exec(PGconn *conn, int64_t deadline_us, const _Atomic int64_t *stop_at, const char *sql, int count,
                   const struct sql_param *params)
{
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX], formats[PARAMS_MAX];
    for (int i = 0; i < count; i++) {
        values[i] = params[i].data;
        lengths[i] = params[i].len;
        formats[i] = params[i].binary;
    }
    PGresult *last = NULL;
    if (PQstatus(conn) != CONNECTION_OK || PQsetnonblocking(conn, 1) != 0 ||
        !PQsendQueryParams(conn, sql, count, NULL, values, lengths, formats, 0))
        goto lost;
    for (;;) {
        if (!wait_result(conn, deadline_us, stop_at))
            goto lost;
        PGresult *r = PQgetResult(conn);
        if (!r)
            break;
        PQclear(last);
        last = r;
    }
    if (PQstatus(conn) == CONNECTION_OK)
        return last;
lost:
    PQclear(last);
    give_up(conn);
    return NULL;
}

PGresult *run_sql(struct run *run, PGresult **failed, const char *sql, int count, const char *const *values)
{
    struct sql_param params[PARAMS_MAX];
    for (int i = 0; i < count; i++)
        params[i] = (struct sql_param){.data = values[i]};
    PGresult *r = sql_exec(run->conn, run->deadline_us, run->stop_at, sql, count, params);
    if (r && (PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK))
        return r;
    *failed = r;
    return NULL;
}

char *sql_copy(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? NULL : xstrdup(PQgetvalue(r, row, column));
}

char *sql_bytes(const PGresult *r, int row, int column, size_t *len)
{
    *len = 0;
    if (PQgetisnull(r, row, column))
        return NULL;
    char *data = (char *)PQunescapeBytea((const unsigned char *)PQgetvalue(r, row, column), len);
    if (!data)
        abort(); /* as xmalloc */
    return data;
}

void sql_array_begin(struct buf *b)
{
    buf_clear(b);
    buf_addc(b, '{');
}

static void separate(struct buf *b)
{
    if (b->len > 1)
        buf_addc(b, ',');
}

void sql_array_text(struct buf *b, const char *text)
{
    separate(b);
    if (!text) {
        buf_adds(b, "NULL");
        return;
    }
    buf_addc(b, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_addc(b, '\\');
        buf_addc(b, *text);
    }
    buf_addc(b, '"');
}

void sql_array_uuid(struct buf *b, struct uuid id)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    separate(b);
    buf_adds(b, text);
}

void sql_array_int(struct buf *b, int64_t value)
{
    separate(b);
    buf_add_int(b, value);
}

const char *sql_array_end(struct buf *b)
{
    buf_addc(b, '}');
    return buf_cstr(b);
}
