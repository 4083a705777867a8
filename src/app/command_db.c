/* Opening the database and asking it, for subcommands. */
#include "app/command_db.h"

#include <stdio.h>
#include <string.h>

#include "core/pg.h"
#include "store/schema.h"

PGconn *command_open(const struct config *config, const char *application_name)
{
    char why[512];
    PGconn *conn = pg_open(config->database_url, application_name, (int)config->db_connect_timeout_s, why, sizeof why);
    if (!conn) {
        fprintf(stderr, "tidings: cannot reach the database: %s\n", why);
        return NULL;
    }
    if (schema_check(conn, why, sizeof why))
        return conn;
    fprintf(stderr, "tidings: %s\n", why);
    PQfinish(conn);
    return NULL;
}

PGresult *command_ask(PGconn *conn, const char *sql, int count, const char *const *values)
{
    PGresult *r = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(r) == PGRES_TUPLES_OK)
        return r;
    fprintf(stderr, "tidings: %s", PQresultErrorMessage(r));
    PQclear(r);
    return NULL;
}

bool command_is_number(const char *text)
{
    return *text && strlen(text) <= 18 && strspn(text, "0123456789") == strlen(text);
}
