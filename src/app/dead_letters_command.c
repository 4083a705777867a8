/* `tidings dead-letters`: the records that groups hold, for operators: list, show, retry, discard. */
#include <inttypes.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/command_db.h"
#include "app/commands.h"
#include "core/buf.h"
#include "core/json.h"
#include "handlers/handler.h"

static const char usage[] =
    "Usage: tidings dead-letters list [--group GROUP] [--state STATE] [--limit N] [--before ID] [--json]\n"
    "       tidings dead-letters show ID [--json]\n"
    "       tidings dead-letters retry ID… | --group GROUP --all\n"
    "       tidings dead-letters discard ID… | --group GROUP --all [--yes]\n"
    "\n"
    "The records that a consumer group could not finish. STATE is dead (given up; the default), retry (will be tried\n"
    "again), parked (waits for an earlier record of its key) or all.\n"
    "\n"
    "  list      newest first, 50 unless --limit says otherwise; --before ID goes on below one\n"
    "  show      one with its record and all times\n"
    "  retry     tried again now, from its first attempt on; in groups that keep the order of a key, records of the\n"
    "            key that come meanwhile wait for it\n"
    "  discard   forgotten for good; those parked behind it go on. It asks before it takes all, unless --yes is given\n"
    "\n"
    "--all takes the dead ones of the group. Running processes see either within seconds. --json: one object a line.\n";

enum { IDS_MAX = 1000 };

struct options {
    const char *group, *state, *limit, *before;
    bool json, all, yes;
    const char *ids[IDS_MAX];
    int id_count;
};

static int usage_error(const char *what)
{
    fprintf(stderr, "tidings dead-letters: %s\n\n%s", what, usage);
    return EXIT_USAGE;
}

/* --- arguments --- */

static bool is_group(const char *name)
{
    for (const struct handler *const *h = all_handlers; *h; h++)
        if (strcmp((*h)->group, name) == 0)
            return true;
    return false;
}

/* The option's value, a switch, or an id. Returns what is wrong, or NULL. */
static const char *parse(struct options *o, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const char **value = strcmp(argv[i], "--group") == 0    ? &o->group
                             : strcmp(argv[i], "--state") == 0  ? &o->state
                             : strcmp(argv[i], "--limit") == 0  ? &o->limit
                             : strcmp(argv[i], "--before") == 0 ? &o->before
                                                                : NULL;
        bool *on = strcmp(argv[i], "--json") == 0  ? &o->json
                   : strcmp(argv[i], "--all") == 0 ? &o->all
                   : strcmp(argv[i], "--yes") == 0 ? &o->yes
                                                   : NULL;
        if (value && ++i == argc)
            return "an option lacks its value";
        if (value)
            *value = argv[i];
        else if (on)
            *on = true;
        else if (argv[i][0] == '-')
            return "an option is not known";
        else if (!command_is_number(argv[i]))
            return "an ID is a number, see `tidings dead-letters list`";
        else if (o->id_count == IDS_MAX)
            return "at most 1000 IDs at a time";
        else
            o->ids[o->id_count++] = argv[i];
    }
    return NULL;
}

static bool is_state(const char *word)
{
    return strcmp(word, "dead") == 0 || strcmp(word, "retry") == 0 || strcmp(word, "parked") == 0 ||
           strcmp(word, "all") == 0;
}

static const char *check(const char *verb, const struct options *o)
{
    bool list = strcmp(verb, "list") == 0, show = strcmp(verb, "show") == 0, discard = strcmp(verb, "discard") == 0;
    if (o->group && !is_group(o->group))
        return "--group is no consumer group";
    if (!list && (o->state || o->limit || o->before))
        return "--state, --limit and --before are for list";
    if (o->json && !list && !show)
        return "--json is for list and show";
    if (o->yes && !discard)
        return "--yes is for discard";
    if (list) {
        if (o->id_count > 0 || o->all)
            return "list takes options alone";
        if (o->state && !is_state(o->state))
            return "--state must be dead, retry, parked or all";
        if ((o->limit && !command_is_number(o->limit)) || (o->before && !command_is_number(o->before)))
            return "--limit and --before must be numbers";
        return NULL;
    }
    if (show)
        return o->id_count == 1 && !o->group && !o->all ? NULL : "show takes one ID";
    if (o->id_count > 0)
        return o->group || o->all ? "give either IDs or --group and --all" : NULL;
    return o->group && o->all ? NULL : "give IDs, or --group and --all";
}

/* --- rows --- */

#define TIME(column) "to_char(" column ", 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
#define COLUMNS                                                                                                        \
    "id, grp, state, type, event_id, topic, partition, \"offset\", attempts, reason, " TIME("created_at") ", " TIME(   \
        "failed_at") ", " TIME("tried_at") ", " TIME("next_at") ", " TIME("leased_until")
enum {
    ID,
    GROUP,
    STATE,
    TYPE,
    EVENT,
    TOPIC,
    PARTITION,
    OFFSET,
    ATTEMPTS,
    REASON,
    CREATED,
    FAILED,
    TRIED,
    NEXT,
    LEASED,
    KEY,
    VALUE,
    COLUMN_COUNT
};

static const char *const names[COLUMN_COUNT] = {
    "id",     "group",      "state",     "type",     "event_id", "topic",        "partition", "offset", "attempts",
    "reason", "created_at", "failed_at", "tried_at", "next_at",  "leased_until", "key",       "value"};

static bool is_integer(int column)
{
    return column == ID || column == PARTITION || column == OFFSET || column == ATTEMPTS;
}

/* Bytes as JSON where they are that, else as text, else as "\x" and hex digits. */
static json_t *json_bytes(const char *escaped, bool parse_json)
{
    char why[200];
    size_t len;
    char *data = (char *)PQunescapeBytea((const unsigned char *)escaped, &len);
    json_t *value = parse_json ? json_read(data, len, why, sizeof why) : NULL;
    if (!value)
        value = json_stringn(data, len); /* NULL when it is not UTF-8 */
    PQfreemem(data);
    return value ? value : json_string(escaped);
}

static json_t *json_cell(const PGresult *r, int row, int column)
{
    const char *text = PQgetvalue(r, row, column);
    if (PQgetisnull(r, row, column))
        return json_null();
    if (is_integer(column))
        return json_integer(strtoll(text, NULL, 10));
    return column == KEY || column == VALUE ? json_bytes(text, column == VALUE) : json_string(text);
}

static void print_json(const PGresult *r, int row)
{
    json_t *object = json_object();
    for (int column = 0; column < PQnfields(r); column++)
        json_object_set_new(object, names[column], json_cell(r, row, column));
    char *line = json_dumps(object, JSON_COMPACT);
    puts(line);
    free(line);
    json_decref(object);
}

/* --- the commands --- */

static int list(PGconn *conn, const struct options *o)
{
    const char *state = !o->state ? "dead" : strcmp(o->state, "all") == 0 ? NULL : o->state;
    const char *values[4] = {o->group, state, o->before, o->limit ? o->limit : "50"};
    PGresult *r = command_ask(conn, "select " COLUMNS " from dead_letter_list($1, $2, $3::bigint, $4::int)", 4, values);
    if (!r)
        return EXIT_FAILED;
    if (!o->json)
        printf("%-10s  %-6s  %-16s  %-26s  %8s  %-24s  %-24s  %s\n", "id", "state", "group", "type", "attempts",
               "created", "next", "reason");
    for (int i = 0; i < PQntuples(r); i++)
        if (o->json)
            print_json(r, i);
        else
            printf("%-10s  %-6s  %-16s  %-26s  %8s  %-24s  %-24s  %s\n", PQgetvalue(r, i, ID), PQgetvalue(r, i, STATE),
                   PQgetvalue(r, i, GROUP), PQgetisnull(r, i, TYPE) ? "-" : PQgetvalue(r, i, TYPE),
                   PQgetvalue(r, i, ATTEMPTS), PQgetvalue(r, i, CREATED),
                   PQgetisnull(r, i, NEXT) ? "-" : PQgetvalue(r, i, NEXT), PQgetvalue(r, i, REASON));
    PQclear(r);
    return EXIT_OK;
}

static void print_cell(const PGresult *r, int column)
{
    json_t *cell = json_cell(r, 0, column);
    char *text =
        json_is_string(cell) ? xstrdup(json_string_value(cell)) : json_dumps(cell, JSON_ENCODE_ANY | JSON_INDENT(2));
    printf("%-13s %s\n", names[column], PQgetisnull(r, 0, column) ? "-" : text);
    free(text);
    json_decref(cell);
}

static int show(PGconn *conn, const struct options *o)
{
    const char *values[1] = {o->ids[0]};
    PGresult *r =
        command_ask(conn, "select " COLUMNS ", key, value from dead_letters where id = $1::bigint", 1, values);
    if (!r)
        return EXIT_FAILED;
    bool found = PQntuples(r) == 1;
    if (!found)
        fprintf(stderr, "tidings: there is no dead letter %s\n", o->ids[0]);
    else if (o->json)
        print_json(r, 0);
    for (int column = 0; found && !o->json && column < COLUMN_COUNT; column++)
        print_cell(r, column);
    PQclear(r);
    return found ? EXIT_OK : EXIT_FAILED;
}

/* Says which of the ids that were given a statement did not take. */
static int report(const PGresult *r, const struct options *o, const char *done, const char *why_not)
{
    int code = EXIT_OK;
    for (int i = 0; i < o->id_count; i++) {
        bool taken = false;
        for (int row = 0; row < PQntuples(r); row++)
            taken = taken || strtoll(PQgetvalue(r, row, 0), NULL, 10) == strtoll(o->ids[i], NULL, 10);
        if (!taken) {
            fprintf(stderr, "tidings: %s: %s\n", o->ids[i], why_not);
            code = EXIT_FAILED;
        }
    }
    printf("%d %s\n", PQntuples(r), done);
    return code;
}

static int change(PGconn *conn, const struct options *o, const char *sql, const char *done, const char *why_not)
{
    struct buf ids = {0};
    for (int i = 0; i < o->id_count; i++)
        buf_printf(&ids, "%s%s", i == 0 ? "{" : ",", o->ids[i]);
    buf_addc(&ids, '}');
    const char *values[2] = {o->id_count > 0 ? buf_cstr(&ids) : NULL, o->group};
    PGresult *r = command_ask(conn, sql, 2, values);
    int code = r ? report(r, o, done, why_not) : EXIT_FAILED;
    PQclear(r);
    buf_free(&ids);
    return code;
}

static int retry(PGconn *conn, const struct options *o)
{
    return change(conn, o, "select dead_letter_retry($1::bigint[], $2)", "will be tried again",
                  "it is not there, is being tried at the moment, or is parked behind another one");
}

static bool sure(const struct options *o)
{
    char answer[16] = "";
    printf("Discard all dead letters of %s for good? [y/N] ", o->group);
    fflush(stdout);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int discard(PGconn *conn, const struct options *o)
{
    if (o->all && !o->yes && !isatty(STDIN_FILENO))
        return usage_error("discard --all needs --yes where nobody can be asked");
    if (o->all && !o->yes && !sure(o)) {
        puts("nothing was discarded");
        return EXIT_FAILED;
    }
    return change(conn, o, "select dead_letter_discard($1::bigint[], $2)", "discarded",
                  "it is not there, or is being tried at the moment");
}

int command_dead_letters(const struct config *config, int argc, char **argv)
{
    static struct options o;
    if (argc > 0 && (strcmp(argv[argc - 1], "--help") == 0 || strcmp(argv[argc - 1], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    const char *verb = argc > 0 ? argv[0] : "";
    int (*run)(PGconn *, const struct options *) = strcmp(verb, "list") == 0      ? list
                                                   : strcmp(verb, "show") == 0    ? show
                                                   : strcmp(verb, "retry") == 0   ? retry
                                                   : strcmp(verb, "discard") == 0 ? discard
                                                                                  : NULL;
    if (!run)
        return usage_error("list, show, retry or discard?");
    const char *wrong = parse(&o, argc - 1, argv + 1);
    if (!wrong)
        wrong = check(verb, &o);
    if (wrong)
        return usage_error(wrong);
    PGconn *conn = command_open(config, "tidings-dead-letters");
    int code = conn ? run(conn, &o) : EXIT_FAILED;
    PQfinish(conn);
    return code;
}
