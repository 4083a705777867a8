/* Blocking statements with a deadline. */
#include "handlers/sql.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/pgexec.h"

#define PARAMS_MAX 16

/* Gives a connection up whose answer did not come: closing would otherwise try to say goodbye to it. */
static void give_up(PGconn *conn)
{
    int fd = PQsocket(conn);
    if (fd >= 0)
        shutdown(fd, SHUT_RDWR);
    PQconsumeInput(conn); /* notices it: PQstatus says CONNECTION_BAD from here on */
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
    PGresult *r = pg_exec(conn, (struct pg_limit){deadline_us, stop_at}, sql, count, values, lengths, formats, 0);
    if (r && PQstatus(conn) == CONNECTION_OK)
        return r;
    PQclear(r);
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
