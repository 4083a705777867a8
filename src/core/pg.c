/* Postgres connections: how one is opened, what its session is pinned to, and what an error means. */
#include "core/pg.h"

#include <stdio.h>
#include <string.h>

#include "core/break.h"
#include "core/clock.h"
#include "core/log.h"

/* What correctness rests on does not depend on the server's or the role's defaults. */
static const char session_settings[] = "SET default_transaction_isolation = 'read committed';"
                                       "SET synchronous_commit = on;"
                                       "SET TimeZone = 'UTC';"
                                       "SET search_path = tidings;"
                                       "SET client_encoding = 'UTF8';"
                                       "SET client_min_messages = warning;"
                                       "SET jit = off";

/* libpq's messages end in a newline and may have several lines; a sentence for a log has neither. */
static void copy_message(const char *message, char *why, size_t why_size)
{
    snprintf(why, why_size, "%s", message && *message ? message : "no message from libpq");
    size_t len = strlen(why);
    while (len > 0 && (why[len - 1] == '\n' || why[len - 1] == ' '))
        why[--len] = '\0';
}

static bool state_is(const char *state, const char *prefix)
{
    return strncmp(state, prefix, strlen(prefix)) == 0;
}

static bool state_in(const char *state, const char *const *prefixes)
{
    for (; *prefixes; prefixes++)
        if (state_is(state, *prefixes))
            return true;
    return false;
}

static enum pg_failure classify_state(const char *state)
{
    static const char *const connection[] = {"08", "57P01", "57P02", "57P03", "57P04", "57P05", NULL};
    static const char *const data[] = {"22", "23", "54", NULL};
    static const char *const transient[] = {"25006", "40", "53", "55", "57014", "58", "72", NULL};
    if (state_in(state, connection))
        return PG_CONNECTION;
    if (state_in(state, data))
        return PG_DATA;
    if (state_in(state, transient))
        return PG_TRANSIENT;
    return PG_BUG;
}

static bool is_broken(const PGconn *conn)
{
    return conn && PQstatus(conn) != CONNECTION_OK;
}

enum pg_failure pg_classify(const PGconn *conn, const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_EMPTY_QUERY:
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
    case PGRES_PIPELINE_SYNC: return PG_OK;
    case PGRES_PIPELINE_ABORTED: /* not run because an earlier statement failed: that one's result tells whose fault */
        return is_broken(conn) ? PG_CONNECTION : PG_TRANSIENT;
    default: break;
    }
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!state || is_broken(conn))
        return PG_CONNECTION;
    /* After these the server hangs up, whatever the reason; libpq notices only when it reads again. */
    if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
        return PG_CONNECTION;
    return classify_state(state);
}

struct pg_limit pg_setup_limit(void)
{
    return (struct pg_limit){.deadline_us = clock_mono_us() + PG_SETUP_MS * 1000};
}

bool pg_judge(PGconn *conn, PGresult *r, char *why, size_t why_size)
{
    bool ok = r && pg_classify(conn, r) == PG_OK;
    if (!ok)
        pg_why(conn, r, why, why_size);
    PQclear(r);
    return ok;
}

void pg_why(const PGconn *conn, const PGresult *r, char *why, size_t why_size)
{
    const char *message = r ? PQresultErrorMessage(r) : PQerrorMessage(conn);
    copy_message(r || *message ? message : "no answer from Postgres in time", why, why_size);
}

static void on_notice(void *arg, const char *message)
{
    char text[512];
    (void)arg;
    copy_message(message, text, sizeof text);
    log_warn("Postgres sent a notice", "notice", text);
}

PGconn *pg_open(const char *url, const char *application_name, int connect_timeout_s, char *why, size_t why_size)
{
    char timeout[16];
    snprintf(timeout, sizeof timeout, "%d", connect_timeout_s);
    /* What stands before dbname is a default that the URL may override; what stands after it holds. */
    const char *const settings[][2] = {
        {"fallback_application_name", application_name},
        {"keepalives", "1"},
        {"keepalives_idle", "10"},
        {"keepalives_interval", "5"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "10000"},
        {"dbname", url},
        {"connect_timeout", timeout},
        {NULL, NULL},
    };
    const char *names[sizeof settings / sizeof settings[0]], *values[sizeof settings / sizeof settings[0]];
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        names[i] = settings[i][0];
        values[i] = settings[i][1];
    }
    PGconn *conn = PQconnectdbParams(names, values, 1);
    if (!conn || PQstatus(conn) != CONNECTION_OK) {
        copy_message(PQerrorMessage(conn), why, why_size);
        PQfinish(conn);
        return NULL;
    }
    PQsetNoticeProcessor(conn, on_notice, NULL);
    if (!pg_run(conn, session_settings, why, why_size) ||
        (broken("ack-before-commit") && !pg_run(conn, "SET synchronous_commit = off", why, why_size))) {
        PQfinish(conn);
        return NULL;
    }
    return conn;
}

PGresult *pg_ask(PGconn *conn, const char *sql)
{
    return pg_exec(conn, pg_setup_limit(), sql, 0, NULL, NULL, NULL, 0);
}

bool pg_run(PGconn *conn, const char *sql, char *why, size_t why_size)
{
    return pg_judge(conn, pg_ask(conn, sql), why, why_size);
}

bool pg_require_primary(PGconn *conn, char *why, size_t why_size)
{
    PGresult *r = pg_ask(conn, "select pg_is_in_recovery()");
    bool standby = PQresultStatus(r) == PGRES_TUPLES_OK && PQgetvalue(r, 0, 0)[0] == 't';
    if (!pg_judge(conn, r, why, why_size))
        return false;
    if (standby)
        snprintf(why, why_size, "DATABASE_URL leads to a standby (add target_session_attrs=read-write)");
    return !standby;
}

bool pg_prepare(PGconn *conn, const char *name, const char *sql, char *why, size_t why_size)
{
    return pg_judge(conn, pg_exec_prepare(conn, pg_setup_limit(), name, sql), why, why_size);
}

bool pg_prepare_call(PGconn *conn, const char *function, int params, char *why, size_t why_size)
{
    char sql[256];
    snprintf(sql, sizeof sql, "select * from %s(", function);
    for (int i = 1; i <= params; i++) {
        size_t used = strlen(sql);
        snprintf(sql + used, sizeof sql - used, "$%d%c", i, i < params ? ',' : ')');
    }
    return pg_prepare(conn, function, sql, why, why_size);
}
