/* Effects that no event accounts for: an event done twice shows as one of them, since each effect's row stands under its event's
 * id. And the leaderboard, whose rows must be what the source of truth makes of them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "verify/verify_int.h"

enum {
    MAILS = 50000,
    DELIVERIES = 10000,
    USERS = 10000,
    CANDIDATES = 5000,
    CATCH_UP_MS = 10000,
    SLACK_S = 15, /* between the time in an event's id and its row's, nearly always */
    SLACK_WIDE_S = 3600
};

/* The parameter for a campaign alone: NULL when all are meant. */
static const char *only(const struct verify *v, char text[16])
{
    snprintf(text, 16, "%" PRId32, v->campaign_no);
    return v->campaign_no ? text : NULL;
}

/* The least UUIDv7 of --since: ids begin with their time. */
static void first_id(const struct verify *v, char out[UUID_TEXT_SIZE])
{
    struct uuid id = {{0}};
    int64_t ms = v->options->since ? v->options->since_us / 1000 : 0;
    for (int i = 0; i < 6; i++)
        id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
    uuid_format(id, out);
}

/* --- ids in text arrays --- */

struct ids {
    struct buf list; /* "{…,…" */
    size_t count;
};

static void ids_clear(struct ids *ids)
{
    array_begin(&ids->list);
    ids->count = 0;
}

/* Adds those of "{…,…}". */
static void ids_add(struct ids *ids, const char *array)
{
    struct uuid id;
    for (const char *at = array + 1; uuid_parse(at, strcspn(at, ",}"), &id); at += UUID_TEXT_SIZE) {
        array_uuid(&ids->list, id);
        ids->count++;
        if (at[UUID_TEXT_SIZE - 1] == '}')
            break;
    }
}

static void add_stray(struct verify *v, size_t group, const char *id, const char *note)
{
    struct culprit c = CULPRIT_INIT;
    uuid_parse(id, strcspn(id, ",}"), &c.id);
    snprintf(c.note, sizeof c.note, "%s", note);
    report_add_group(v->report, group, GROUP_DOUBLED, &c);
}

/* --- mails --- */

/* A host's clock may be far off: before a mail is said to be of no event, all events are looked at. */
static bool confirm_mails(struct verify *v, size_t group, struct ids *candidates)
{
    if (candidates->count == 0)
        return true;
    const char *const values[] = {array_end(&candidates->list)};
    PGresult *r = rows_ask_text(v->ask, "select * from verify_unknown($1::uuid[])", 1, values, v->why, v->why_size);
    for (int i = 0; r && i < PQntuples(r); i++)
        add_stray(v, group, PQgetvalue(r, i, 0), "a mail of no event");
    PQclear(r);
    ids_clear(candidates);
    return r != NULL;
}

static PGresult *mails_page(struct verify *v, const char *after, int slack_s)
{
    char limit[16], campaign[16], slack[16];
    const char *const values[] = {after, limit, only(v, campaign), slack};
    snprintf(limit, sizeof limit, "%d", MAILS);
    snprintf(slack, sizeof slack, "%d", slack_s);
    return rows_ask_text(v->ask, "select * from verify_mails($1::uuid, $2::int, $3::int, $4::int)", 4, values, v->why,
                         v->why_size);
}

static bool verify_mails(struct verify *v, size_t group)
{
    char after[UUID_TEXT_SIZE];
    struct ids candidates = {{0}, 0};
    bool ok = true, more = true;
    first_id(v, after);
    ids_clear(&candidates);
    while (ok && more) {
        PGresult *r = mails_page(v, after, SLACK_S);
        if (r && strcmp(PQgetvalue(r, 0, 2), "{}") != 0) {
            PQclear(r);
            r = mails_page(v, after, SLACK_WIDE_S);
        }
        ok = r != NULL;
        if (!ok)
            break;
        int count = (int)strtol(PQgetvalue(r, 0, 1), NULL, 10);
        more = count == MAILS;
        snprintf(after, sizeof after, "%s", PQgetvalue(r, 0, 0));
        ids_add(&candidates, PQgetvalue(r, 0, 2));
        PQclear(r);
        progress_add(&v->progress, count);
        if (candidates.count >= CANDIDATES)
            ok = confirm_mails(v, group, &candidates);
    }
    ok = ok && confirm_mails(v, group, &candidates);
    buf_free(&candidates.list);
    return ok;
}

/* --- deliveries and sagas --- */

/* Goes through pages of earned rewards' rows: sql's are those of verify_deliveries. note: what the strays are. */
static bool verify_pages(struct verify *v, size_t group, const char *sql, const char *note)
{
    char after[UUID_TEXT_SIZE], limit[16], campaign[16];
    const char *const values[] = {after, limit, only(v, campaign)};
    struct ids strays = {{0}, 0};
    bool more = true;
    first_id(v, after);
    snprintf(limit, sizeof limit, "%d", DELIVERIES);
    while (more) {
        PGresult *r = rows_ask_text(v->ask, sql, 3, values, v->why, v->why_size);
        if (!r)
            break;
        int count = (int)strtol(PQgetvalue(r, 0, 1), NULL, 10);
        more = count == DELIVERIES;
        snprintf(after, sizeof after, "%s", PQgetvalue(r, 0, 0));
        ids_clear(&strays);
        ids_add(&strays, PQgetvalue(r, 0, 2));
        for (size_t i = 0; i < strays.count; i++)
            add_stray(v, group, strays.list.data + 1 + i * UUID_TEXT_SIZE, note);
        PQclear(r);
        progress_add(&v->progress, count);
    }
    buf_free(&strays.list);
    return !more;
}

static bool verify_rewards(struct verify *v, size_t group)
{
    return verify_pages(v, group, "select * from verify_deliveries($1::uuid, $2::int, $3::int)",
                        "a delivery of nothing that was earned") &&
           verify_pages(v, group, "select * from verify_sagas($1::uuid, $2::int, $3::int)",
                        "a saga whose end is not what the delivery and the stock say");
}

static bool verify_webhooks(struct verify *v, size_t group)
{
    char webhook[16] = "0", event[UUID_TEXT_SIZE] = "00000000-0000-0000-0000-000000000000", limit[16], campaign[16],
         since[UUID_TEXT_SIZE];
    const char *const values[] = {webhook, event, limit, only(v, campaign), since};
    struct ids strays = {{0}, 0};
    bool more = true;
    first_id(v, since);
    snprintf(limit, sizeof limit, "%d", DELIVERIES);
    while (more) {
        PGresult *r = rows_ask_text(v->ask,
                                    "select * from verify_webhook_deliveries($1::int, $2::uuid, $3::int, $4::int,"
                                    " $5::uuid)",
                                    5, values, v->why, v->why_size);
        if (!r)
            break;
        int count = (int)strtol(PQgetvalue(r, 0, 2), NULL, 10);
        more = count == DELIVERIES;
        snprintf(webhook, sizeof webhook, "%s", PQgetvalue(r, 0, 0));
        snprintf(event, sizeof event, "%s", PQgetvalue(r, 0, 1));
        ids_clear(&strays);
        ids_add(&strays, PQgetvalue(r, 0, 3));
        for (size_t i = 0; i < strays.count; i++)
            add_stray(v, group, strays.list.data + 1 + i * UUID_TEXT_SIZE, "a webhook's delivery of no event");
        PQclear(r);
        progress_add(&v->progress, count);
    }
    buf_free(&strays.list);
    return !more;
}

/* --- the leaderboard --- */

enum { BOARD_ARRAYS = 4 }; /* campaigns, places, verified referrals, points */

struct board {
    struct verify *verify;
    size_t group;
    struct buf arrays[BOARD_ARRAYS]; /* rows that are wrong, unless their events are on their way */
    size_t count;
};

static void board_clear(struct board *b)
{
    for (int i = 0; i < BOARD_ARRAYS; i++)
        array_begin(&b->arrays[i]);
    b->count = 0;
}

static void add_wrong(struct board *b, const PGresult *r)
{
    for (int i = 0; i < BOARD_ARRAYS; i++) {
        char *at = PQgetvalue(r, 0, 3 + i) + 1; /* "{1,2}" */
        while (*at && *at != '}') {
            array_int(&b->arrays[i], strtol(at, &at, 10));
            b->count += i == 0;
            at += *at == ',';
        }
    }
}

static bool has_committed(const struct verify *v, size_t group)
{
    uint32_t partitions = topic_partitions(v->topic);
    for (uint32_t p = 0; p < partitions; p++)
        if (v->committed[group * partitions + p] >= 0)
            return true;
    return false;
}

/* Rows that are still wrong when the group has finished all that was committed when they were seen. */
static bool board_confirm(struct board *b)
{
    struct verify *v = b->verify;
    struct report_group *g = &v->report->group[b->group];
    int64_t wait_ms = v->options->wait_s * 1000 > CATCH_UP_MS ? v->options->wait_s * 1000 : CATCH_UP_MS;
    bool done = false;
    if (b->count == 0)
        return true;
    if (!g->unjudged && has_committed(v, b->group) && !cut_wait(v, b->group, 1, wait_ms, &done))
        return false;
    g->unjudged = !done;
    const char *values[BOARD_ARRAYS];
    PGresult *r = NULL;
    for (int i = 0; i < BOARD_ARRAYS; i++)
        values[i] = array_end(&b->arrays[i]);
    if (done)
        r = rows_ask_text(v->ask, "select * from verify_positions_again($1::int[], $2::int[], $3::int[], $4::int[])",
                          BOARD_ARRAYS, values, v->why, v->why_size);
    for (int i = 0; r && i < PQntuples(r); i++) {
        struct culprit c = CULPRIT_INIT;
        uuid_parse(PQgetvalue(r, i, 0), UUID_TEXT_SIZE - 1, &c.aggregate);
        snprintf(c.note, sizeof c.note, "the leaderboard's row of place %s is wrong", PQgetvalue(r, i, 1));
        report_add_group(v->report, b->group, GROUP_DOUBLED, &c);
    }
    PQclear(r);
    board_clear(b);
    return !done || r;
}

/* on_board: goes through the leaderboard's rows; else through those who should have one. */
static bool board_pass(struct board *b, const char *on_board)
{
    struct verify *v = b->verify;
    char after[2][16] = {"0", "0"}, limit[16], campaign[16];
    const char *const values[] = {on_board, after[0], after[1], limit, only(v, campaign)};
    bool ok = true, more = true;
    snprintf(limit, sizeof limit, "%d", USERS);
    while (ok && more && !v->report->group[b->group].unjudged) {
        PGresult *r =
            rows_ask_text(v->ask, "select * from verify_positions($1::boolean, $2::int, $3::int, $4::int, $5::int)", 5,
                          values, v->why, v->why_size);
        if (!r)
            return false;
        int count = (int)strtol(PQgetvalue(r, 0, 2), NULL, 10);
        more = count == USERS;
        for (int i = 0; i < 2; i++)
            snprintf(after[i], sizeof after[i], "%s", PQgetvalue(r, 0, i));
        add_wrong(b, r);
        PQclear(r);
        progress_add(&v->progress, count);
        if (b->count >= CANDIDATES)
            ok = board_confirm(b);
    }
    return ok && board_confirm(b);
}

static bool verify_board(struct verify *v, size_t group)
{
    struct board b = {.verify = v, .group = group};
    board_clear(&b);
    bool ok = board_pass(&b, "false") && board_pass(&b, "true");
    for (int i = 0; i < BOARD_ARRAYS; i++)
        buf_free(&b.arrays[i]);
    return ok;
}

bool strays_verify(struct verify *v, size_t group)
{
    const char *name = v->options->groups[group].name;
    if (strcmp(name, "email-workers") == 0)
        return verify_mails(v, group);
    if (strcmp(name, "reward-workers") == 0)
        return verify_rewards(v, group);
    if (strcmp(name, "webhook-workers") == 0)
        return verify_webhooks(v, group);
    if (strcmp(name, "analytics-workers") == 0)
        return counts_verify(v, group, has_committed(v, group));
    return strcmp(name, "position-workers") != 0 || verify_board(v, group);
}
