/* `tidings relay rewind`: moves the saved cursors back, so that the relay sends events again. */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "core/clock.h"
#include "core/pg.h"
#include "store/schema.h"

static const char usage[] =
    "Usage: tidings relay rewind (--since TIME | --to SEQ --shard N) [--shard N]\n"
    "\n"
    "Moves the relay's saved cursors back, so that the next start sends events to Kafka again: after Kafka lost\n"
    "some. They have the same keys and bytes as before, and groups do nothing twice. All processes must be\n"
    "stopped first. Cursors are never moved forwards, nor to events older than HANDLED_KEEP_DAYS.\n"
    "\n"
    "  --since TIME   to the first event of that time or later, RFC 3339, e.g. 2026-01-31T12:00:00Z\n"
    "  --to SEQ       to the event after SEQ of one shard; 0: from its beginning\n"
    "  --shard N      only this shard; with --since all unless told\n";

struct rewind {
    const char *since, *to, *shard;
};

static bool is_number(const char *text)
{
    return *text && strlen(text) <= 18 && strspn(text, "0123456789") == strlen(text);
}

/* NULL, or what is wrong. */
static const char *read_arguments(int argc, char **argv, struct rewind *o)
{
    for (int i = 0; i < argc; i += 2) {
        const char **value = strcmp(argv[i], "--since") == 0   ? &o->since
                             : strcmp(argv[i], "--to") == 0    ? &o->to
                             : strcmp(argv[i], "--shard") == 0 ? &o->shard
                                                               : NULL;
        if (!value)
            return "an argument is not known";
        if (i + 1 == argc)
            return "an option lacks its value";
        *value = argv[i + 1];
    }
    int64_t at;
    if (!o->since == !o->to)
        return "give either --since or --to";
    if (o->since && rfc3339_parse(o->since, strlen(o->since), &at) != 0)
        return "--since must be a time like 2026-01-31T12:00:00Z";
    if (o->to && (!is_number(o->to) || !o->shard))
        return "--to must be a number, and needs --shard";
    if (o->shard && (!is_number(o->shard) || strlen(o->shard) > 4))
        return "--shard must be the number of a shard";
    return NULL;
}

/* The rows of a statement, or NULL with the reason said. */
static PGresult *ask(PGconn *conn, const char *sql, int count, const char *const *values)
{
    PGresult *r = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(r) == PGRES_TUPLES_OK)
        return r;
    fprintf(stderr, "tidings: %s", PQresultErrorMessage(r));
    PQclear(r);
    return NULL;
}

static bool nobody_relays(PGconn *conn)
{
    PGresult *r = ask(conn, "select name from relays_running()", 0, NULL);
    bool none = r && PQntuples(r) == 0;
    if (r && !none)
        fprintf(stderr,
                "tidings: %s is running on this database, or was until a moment ago: stop all processes, and wait"
                " 15 seconds\n",
                PQgetvalue(r, 0, 0));
    PQclear(r);
    return none;
}

static int rewind_cursors(PGconn *conn, const struct config *config, const struct rewind *o)
{
    char keep[24];
    snprintf(keep, sizeof keep, "%" PRId64, config->handled_keep_days);
    const char *values[4] = {o->shard, o->to, o->since, keep};
    if (!nobody_relays(conn))
        return EXIT_FAILED;
    PGresult *r = ask(conn,
                      "select shard, was, now from relay_rewind($1::int, $2::bigint, $3::timestamptz, $4::int)"
                      " order by shard",
                      4, values);
    if (!r)
        return EXIT_FAILED;
    int64_t again = 0;
    for (int i = 0; i < PQntuples(r); i++) {
        int64_t events = strtoll(PQgetvalue(r, i, 1), NULL, 10) - strtoll(PQgetvalue(r, i, 2), NULL, 10);
        printf("shard %s: from %s to %s\n", PQgetvalue(r, i, 0), PQgetvalue(r, i, 1), PQgetvalue(r, i, 2));
        again += events;
    }
    bool known = PQntuples(r) > 0;
    PQclear(r);
    if (!known) {
        fprintf(stderr, "tidings: there is no shard %s\n", o->shard);
        return EXIT_FAILED;
    }
    printf("%" PRId64 " events will be sent again\n", again);
    return EXIT_OK;
}

int command_relay(const struct config *config, int argc, char **argv)
{
    struct rewind o = {NULL, NULL, NULL};
    if (argc > 0 && (strcmp(argv[argc - 1], "--help") == 0 || strcmp(argv[argc - 1], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    const char *wrong = argc > 0 && strcmp(argv[0], "rewind") == 0 ? read_arguments(argc - 1, argv + 1, &o)
                                                                   : "relay knows one command: rewind";
    if (wrong) {
        fprintf(stderr, "tidings: %s\n\n%s", wrong, usage);
        return EXIT_USAGE;
    }
    char why[512];
    PGconn *conn =
        pg_open(config->database_url, "tidings-relay-rewind", (int)config->db_connect_timeout_s, why, sizeof why);
    if (!conn) {
        fprintf(stderr, "tidings: cannot reach the database: %s\n", why);
        return EXIT_FAILED;
    }
    int code = EXIT_FAILED;
    if (schema_check(conn, why, sizeof why))
        code = rewind_cursors(conn, config, &o);
    else
        fprintf(stderr, "tidings: %s\n", why);
    PQfinish(conn);
    return code;
}
