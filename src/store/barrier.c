#include "store/barrier.h"

#include <stdio.h>
#include <string.h>

#include "core/pg.h"

static void count_warning(void *arg, const PGresult *notice)
{
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity && strcmp(severity, "WARNING") == 0)
        ++*(int *)arg;
}

bool barrier_pass(PGconn *conn, char *why, size_t why_size)
{
    int warnings = 0;
    if (!pg_run(conn, "select end_old_barriers()", why, why_size))
        return false;
    PQnoticeReceiver before = PQsetNoticeReceiver(conn, count_warning, &warnings);
    PGresult *r = pg_ask(conn, "select pg_logical_emit_message(true, 'tidings', 'barrier')");
    PQsetNoticeReceiver(conn, before, NULL);
    bool ok = PQresultStatus(r) == PGRES_TUPLES_OK && warnings == 0;
    if (PQstatus(conn) == CONNECTION_OK && (!r || warnings > 0))
        snprintf(why, why_size, "commits are not confirmed: is the synchronous standby away?");
    else if (!ok)
        pg_why(conn, r, why, why_size);
    PQclear(r);
    return ok;
}
