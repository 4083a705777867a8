/* `tidings migrate`: waits a little for the database, then brings the schema up. */
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "core/pg.h"
#include "store/schema.h"

static void progress(const char *what)
{
    printf("applied %s\n", what);
    fflush(stdout);
}

int command_migrate(const struct config *config, int argc, char **argv)
{
    if (argc > 0) {
        bool help = strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0;
        fputs("Usage: tidings migrate\n"
              "Brings the schema `tidings` of DATABASE_URL up to this binary. SHARDS is fixed by the first run.\n",
              help ? stdout : stderr);
        return help ? EXIT_OK : EXIT_USAGE;
    }
    char why[512];
    PGconn *conn = pg_open(config->database_url, "tidings-migrate", (int)config->db_connect_timeout_s, why, sizeof why);
    if (!conn) {
        fprintf(stderr, "tidings: cannot reach the database: %s\n", why);
        return EXIT_FAILED;
    }
    bool ok = schema_migrate(conn, (uint32_t)config->shards, progress, why, sizeof why);
    PQfinish(conn);
    if (!ok) {
        fprintf(stderr, "tidings: the migration failed, nothing was changed: %s\n", why);
        return EXIT_FAILED;
    }
    puts("the schema is up to date");
    return EXIT_OK;
}
