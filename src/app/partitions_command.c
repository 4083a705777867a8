/* `tidings partitions`: how many of the topic's partitions are in use, and taking more into use after the topic has grown.
 *
 * A key's partition depends on their number, so the change must come between two of its events: everything that was sent is
 * handled before anything is sent elsewhere. The relays are held meanwhile; actions are accepted and committed as always. */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/command_db.h"
#include "app/commands.h"
#include "app/relay_hold.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/pg.h"
#include "handlers/handler.h"
#include "store/schema.h"
#include "verify/topic.h"

static const char usage[] =
    "Usage: tidings partitions\n"
    "       tidings partitions set N [--timeout SECONDS]\n"
    "\n"
    "Without `set`: prints how many partitions the topic has and how many of them are in use. A topic that has\n"
    "grown goes on with those in use, until `set` takes more: a multiple of the shards, and no more than the\n"
    "topic has. Processes may be running: they hold events back until the groups have handled all that was\n"
    "sent, and then go on with N. When the groups do not get there in time, nothing is changed.\n"
    "\n"
    "  --timeout SECONDS   for the groups to catch up, 1 to 86400 (default 300)\n";

enum { HOLD_TIMEOUT_S = 30, LOOK_MS = 500, SAY_S = 5, PARTITIONS_MAX = 100000 };

struct options {
    bool set;
    uint32_t partitions;
    int timeout_s;
};

static bool read_number(const char *text, long most, long *out)
{
    if (!*text || strlen(text) > 9 || strspn(text, "0123456789") != strlen(text))
        return false;
    *out = strtol(text, NULL, 10);
    return *out >= 1 && *out <= most;
}

/* NULL, or what is wrong. */
static const char *read_arguments(int argc, char **argv, struct options *o)
{
    long number;
    *o = (struct options){.timeout_s = 300};
    if (argc == 0)
        return NULL;
    if (strcmp(argv[0], "set") != 0)
        return "partitions knows one command: set";
    if (argc < 2 || !read_number(argv[1], PARTITIONS_MAX, &number))
        return "set needs the number of partitions";
    o->set = true;
    o->partitions = (uint32_t)number;
    if (argc == 2)
        return NULL;
    if (argc != 4 || strcmp(argv[2], "--timeout") != 0)
        return "an argument is not known, or an option lacks its value";
    if (!read_number(argv[3], 86400, &number))
        return "--timeout must be a number of seconds from 1 to 86400";
    o->timeout_s = (int)number;
    return NULL;
}

static int fail(const char *why)
{
    fprintf(stderr, "tidings: %s\n", why);
    return EXIT_FAILED;
}

/* Whether the number can be taken into use; a sentence in why when not. */
static bool is_possible(const struct installation *now, uint32_t wanted, uint32_t topic, char *why, size_t why_size)
{
    if (now->partitions == 0)
        snprintf(why, why_size,
                 "the first `tidings serve` takes all partitions of the topic: there is nothing to set yet");
    else if (wanted % now->shards != 0)
        snprintf(why, why_size, "%" PRIu32 " is not a multiple of the %" PRIu32 " shards", wanted, now->shards);
    else if (wanted < now->partitions)
        snprintf(why, why_size,
                 "%" PRIu32 " partitions are in use, and what is in them must stay reachable: fewer cannot be set",
                 now->partitions);
    else if (wanted > topic)
        snprintf(why, why_size,
                 "the topic has %" PRIu32 " partitions: let it grow first (kafka-topics.sh --alter --partitions)",
                 topic);
    else
        return true;
    return false;
}

/* --- the groups --------------------------------------------------------------------------------------------------- */

/* Records that a group has not finished; 0 for one that has never committed anything: it does not run here. -1: why says. */
static int64_t group_lag(struct topic *topic, const char *group, char *why, size_t why_size)
{
    uint32_t partitions = topic_partitions(topic);
    int64_t *committed = xcalloc(partitions, sizeof *committed), lag = 0;
    bool ok = topic_committed(topic, group, committed, why, why_size), runs = false;
    for (uint32_t i = 0; i < partitions && ok; i++) {
        struct topic_range range;
        ok = topic_range(topic, i, &range, why, why_size);
        runs |= committed[i] >= 0;
        lag += ok ? topic_lag(range, committed[i]) : 0;
    }
    free(committed);
    return !ok ? -1 : runs ? lag : 0;
}

static bool wait_for_groups(struct topic *topic, int timeout_s, char *why, size_t why_size)
{
    int64_t start_us = clock_mono_us(), said_us = start_us;
    for (;;) {
        const char *slowest = NULL;
        int64_t most = 0, now_us = clock_mono_us();
        for (const struct handler *const *h = all_handlers; *h; h++) {
            int64_t lag = group_lag(topic, (*h)->group, why, why_size);
            if (lag < 0)
                return false;
            if (lag > most) {
                most = lag;
                slowest = (*h)->group;
            }
        }
        if (!slowest)
            return true;
        if (now_us - start_us > timeout_s * 1000000LL) {
            snprintf(why, why_size, "%s still has %" PRId64 " records to handle; nothing was changed", slowest, most);
            return false;
        }
        if (now_us - said_us > SAY_S * 1000000LL) {
            said_us = now_us;
            fprintf(stderr, "waiting for %s: %" PRId64 " records\n", slowest, most);
        }
        clock_sleep_ms(LOOK_MS);
    }
}

/* --- the command -------------------------------------------------------------------------------------------------- */

static bool store(PGconn *conn, uint32_t partitions, char *why, size_t why_size)
{
    char sql[64];
    snprintf(sql, sizeof sql, "update installation set partitions = %" PRIu32, partitions);
    return pg_run(conn, sql, why, why_size);
}

static int set(PGconn *conn, struct topic *topic, const struct installation *now, const struct options *o)
{
    char why[512];
    if (!is_possible(now, o->partitions, topic_partitions(topic), why, sizeof why))
        return fail(why);
    if (o->partitions == now->partitions) {
        printf("%" PRIu32 " partitions are in use already\n", now->partitions);
        return EXIT_OK;
    }
    if (!relay_hold(conn, HOLD_TIMEOUT_S))
        return EXIT_FAILED;
    if (!wait_for_groups(topic, o->timeout_s, why, sizeof why) || !store(conn, o->partitions, why, sizeof why))
        return fail(why);
    printf("partitions in use: %" PRIu32 ", before %" PRIu32 "\n", o->partitions, now->partitions);
    return EXIT_OK;
}

static int show(const struct installation *now, uint32_t topic)
{
    printf("shards: %" PRIu32 "\npartitions of the topic: %" PRIu32 "\npartitions in use: %" PRIu32 "\n", now->shards,
           topic, now->partitions);
    return EXIT_OK;
}

int command_partitions(const struct config *config, int argc, char **argv)
{
    struct options o;
    struct installation now;
    struct topic *topic = NULL;
    char why[512];
    if (argc > 0 && (strcmp(argv[argc - 1], "--help") == 0 || strcmp(argv[argc - 1], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    const char *wrong = read_arguments(argc, argv, &o);
    if (wrong) {
        fprintf(stderr, "tidings: %s\n\n%s", wrong, usage);
        return EXIT_USAGE;
    }
    PGconn *conn = command_open(config, "tidings-partitions-command");
    if (!conn)
        return EXIT_FAILED;
    bool ready =
        installation_load(conn, &now, why, sizeof why) && (topic = topic_open(config, 1, why, sizeof why)) != NULL;
    int code = !ready ? fail(why) : o.set ? set(conn, topic, &now, &o) : show(&now, topic_partitions(topic));
    if (topic)
        topic_close(topic);
    PQfinish(conn);
    return code;
}
