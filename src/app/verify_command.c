/* `tidings verify`: whether what Postgres committed, what Kafka holds and what the groups did agree. */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "bus/kafka.h"
#include "core/clock.h"
#include "core/pg.h"
#include "core/uuid.h"
#include "handlers/handler.h"
#include "store/schema.h"
#include "verify/verify.h"

static const char usage[] =
    "Usage: tidings verify [--campaign ID] [--since TIME] [--no-groups] [--wait SECONDS] [--json]\n"
    "\n"
    "Reads all events in Postgres, all records in Kafka and what the consumer groups have left behind, and counts\n"
    "what does not agree. Changes nothing; may run beside live processes. See docs/verify.md.\n"
    "\n"
    "  --campaign ID   only this campaign\n"
    "  --since TIME    only events of that time or later, RFC 3339, e.g. 2026-01-31T12:00:00Z\n"
    "  --no-groups     leave the consumer groups' effects out\n"
    "  --wait SECONDS  first wait, up to so long, until all that is committed now is in Kafka and the groups have\n"
    "                  finished it\n"
    "  --json          one JSON object instead of a table\n"
    "\n"
    "Exit status: 0 all is right, 1 something is wrong, 2 wrong usage, 3 it could not look.\n";

enum { WAIT_MAX_S = 86400 };

struct arguments {
    struct verify_options options;
    bool json, no_groups;
    char campaign[UUID_TEXT_SIZE];
};

static const char *read_value(struct arguments *a, const char *name, const char *value)
{
    struct uuid id;
    char *end;
    if (strcmp(name, "--campaign") == 0) {
        if (!uuid_parse(value, strlen(value), &id))
            return "--campaign must be a campaign's id";
        uuid_format(id, a->campaign); /* in lower case, as in keys */
        a->options.campaign = a->campaign;
    } else if (strcmp(name, "--since") == 0) {
        if (rfc3339_parse(value, strlen(value), &a->options.since_us) != 0)
            return "--since must be a time like 2026-01-31T12:00:00Z";
        a->options.since = value;
    } else {
        a->options.wait_s = strtoll(value, &end, 10);
        if (end == value || *end || a->options.wait_s < 0 || a->options.wait_s > WAIT_MAX_S)
            return "--wait must be a number of seconds, at most 86400";
    }
    return NULL;
}

/* NULL, or what is wrong. */
static const char *read_arguments(int argc, char **argv, struct arguments *a)
{
    for (int i = 0; i < argc; i++) {
        const char *name = argv[i], *wrong;
        if (strcmp(name, "--json") == 0) {
            a->json = true;
        } else if (strcmp(name, "--no-groups") == 0) {
            a->no_groups = true;
        } else if (strcmp(name, "--campaign") != 0 && strcmp(name, "--since") != 0 && strcmp(name, "--wait") != 0) {
            return "an argument is not known";
        } else {
            if (++i == argc)
                return "an option lacks its value";
            wrong = read_value(a, name, argv[i]);
            if (wrong)
                return wrong;
        }
    }
    return NULL;
}

static PGconn *open_database(const struct config *config, char *why, size_t why_size)
{
    char reason[400];
    PGconn *conn =
        pg_open(config->database_url, "tidings-verify", (int)config->db_connect_timeout_s, reason, sizeof reason);
    if (!conn) {
        snprintf(why, why_size, "cannot reach the database: %.*s", (int)strcspn(reason, "\n"), reason);
        return NULL;
    }
    if (pg_require_primary(conn, why, why_size))
        return conn;
    PQfinish(conn);
    return NULL;
}

static bool look(const struct config *config, struct arguments *a, struct report *report, char *why, size_t why_size)
{
    struct verify_group groups[REPORT_GROUPS];
    struct installation installation;
    PGconn *rows = open_database(config, why, why_size);
    PGconn *ask = rows ? open_database(config, why, why_size) : NULL;
    bool ok = ask && schema_check(ask, why, why_size) && installation_load(ask, &installation, why, why_size);
    if (ok) {
        a->options.shards = installation.shards;
        a->options.partitions = installation.partitions;
        a->options.groups = groups;
        for (const struct handler *const *h = all_handlers; *h && !a->no_groups; h++)
            if (a->options.group_count < REPORT_GROUPS && (!(*h)->enabled || (*h)->enabled(config)))
                groups[a->options.group_count++] = (struct verify_group){(*h)->group, (*h)->types, (*h)->dedupe};
        ok = verify_run(config, &a->options, rows, ask, report, why, why_size);
    }
    PQfinish(rows);
    PQfinish(ask);
    return ok;
}

int command_verify(const struct config *config, int argc, char **argv)
{
    struct arguments a = {.json = false};
    struct report *report;
    char why[512];
    if (argc == 1 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    const char *wrong = read_arguments(argc, argv, &a);
    if (wrong) {
        fprintf(stderr, "tidings: %s\n\n%s", wrong, usage);
        return EXIT_USAGE;
    }
    if (!kafka_check(config, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", why);
        return EXIT_USAGE;
    }
    report = calloc(1, sizeof *report);
    int code = EXIT_UNABLE;
    if (!report || !look(config, &a, report, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", report ? why : "out of memory");
    } else {
        (a.json ? report_json : report_print)(report, stdout);
        code = report_ok(report) ? EXIT_OK : EXIT_FAILED;
    }
    free(report);
    return code;
}
