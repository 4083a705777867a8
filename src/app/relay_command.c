/* `tidings relay`: what a person does when Kafka lost events, or the database did. */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/command_db.h"
#include "app/commands.h"
#include "app/relay_hold.h"
#include "bus/probe.h"
#include "bus/tail.h"
#include "core/buf.h"
#include "core/clock.h"

static const char usage[] =
    "Usage: tidings relay rewind (--since TIME | --to SEQ --shard N) [--shard N]\n"
    "       tidings relay accept [--yes]\n"
    "\n"
    "rewind: for when Kafka lost events. Moves the relay's saved cursors back, so that events are sent to Kafka again: "
    "after Kafka lost some. They\n"
    "have the same keys and bytes as before, and groups do nothing twice. Processes may be running: they stop\n"
    "relaying for that moment, and go on from there. Cursors are never moved forwards, nor to events older\n"
    "than HANDLED_KEEP_DAYS.\n"
    "\n"
    "  --since TIME   to the first event of that time or later, RFC 3339, e.g. 2026-01-31T12:00:00Z\n"
    "  --to SEQ       to the event after SEQ of one shard; 0: from its beginning\n"
    "  --shard N      only this shard; with --since all unless told\n"
    "\n"
    "accept: for when the database lost events (it was restored, or a standby took over that had not got all).\n"
    "Relays then stop with an alarm. Prints which of the topic's last events the database does not have; with\n"
    "--yes, notes them as lost, and processes that are started after that relay again. New events then have\n"
    "versions that lost ones had: docs/high-availability.md says what that means.\n";

enum { HOLD_TIMEOUT_S = 30, KAFKA_TIMEOUT_MS = 5000 };

struct rewind {
    const char *since, *to, *shard;
};

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
    if (o->to && (!command_is_number(o->to) || !o->shard))
        return "--to must be a number, and needs --shard";
    if (o->shard && (!command_is_number(o->shard) || strlen(o->shard) > 4))
        return "--shard must be the number of a shard";
    return NULL;
}

static int rewind_cursors(PGconn *conn, const struct config *config, const struct rewind *o)
{
    char keep[24];
    snprintf(keep, sizeof keep, "%" PRId64, config->handled_keep_days);
    const char *values[4] = {o->shard, o->to, o->since, keep};
    if (!relay_hold(conn, HOLD_TIMEOUT_S))
        return EXIT_FAILED;
    PGresult *r = command_ask(conn,
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

static int accept(PGconn *conn, const struct config *config, bool yes)
{
    struct topic_facts facts;
    struct topic_tail tail;
    struct buf arrays[TAIL_ARRAYS] = {{0}};
    const char *values[TAIL_ARRAYS];
    char why[512];
    if (!topic_probe(config, KAFKA_TIMEOUT_MS, &facts, why, sizeof why) ||
        !topic_tail_read(config, facts.partitions, KAFKA_TIMEOUT_MS, &tail, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", why);
        return EXIT_FAILED;
    }
    topic_tail_arrays(&tail, arrays);
    for (int i = 0; i < TAIL_ARRAYS; i++)
        values[i] = buf_cstr(&arrays[i]);
    PGresult *lost =
        command_ask(conn, "select * from relay_unknown($1::uuid[], $2::bigint[], $3::uuid[])", TAIL_ARRAYS, values);
    for (int i = 0; lost && i < PQntuples(lost); i++)
        printf("%s version %s, event %s\n", PQgetvalue(lost, i, 0), PQgetvalue(lost, i, 1), PQgetvalue(lost, i, 2));
    PGresult *done =
        lost && yes && PQntuples(lost) > 0
            ? command_ask(conn, "select relay_accept($1::uuid[], $2::bigint[], $3::uuid[])", TAIL_ARRAYS, values)
            : NULL;
    bool good = lost && (!yes || done || PQntuples(lost) == 0);
    if (good && PQntuples(lost) == 0)
        printf("the database has the topic's last events: there is nothing to accept\n");
    else if (good)
        printf(done ? "noted as lost; start the processes again\n" : "these would be noted as lost, with --yes\n");
    PQclear(lost);
    PQclear(done);
    topic_tail_free(&tail);
    for (int i = 0; i < TAIL_ARRAYS; i++)
        buf_free(&arrays[i]);
    return good ? EXIT_OK : EXIT_FAILED;
}

/* NULL, or what is wrong. */
static const char *read_command(int argc, char **argv, struct rewind *o, bool *accepts, bool *yes)
{
    *accepts = argc > 0 && strcmp(argv[0], "accept") == 0;
    *yes = *accepts && argc == 2 && strcmp(argv[1], "--yes") == 0;
    if (*accepts)
        return argc == 1 || *yes ? NULL : "an argument is not known";
    if (argc > 0 && strcmp(argv[0], "rewind") == 0)
        return read_arguments(argc - 1, argv + 1, o);
    return "relay knows two commands: rewind and accept";
}

int command_relay(const struct config *config, int argc, char **argv)
{
    struct rewind o = {NULL, NULL, NULL};
    if (argc > 0 && (strcmp(argv[argc - 1], "--help") == 0 || strcmp(argv[argc - 1], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    bool accepts, yes;
    const char *wrong = read_command(argc, argv, &o, &accepts, &yes);
    if (wrong) {
        fprintf(stderr, "tidings: %s\n\n%s", wrong, usage);
        return EXIT_USAGE;
    }
    PGconn *conn = command_open(config, "tidings-relay-command");
    int code = !conn ? EXIT_FAILED : accepts ? accept(conn, config, yes) : rewind_cursors(conn, config, &o);
    PQfinish(conn);
    return code;
}
