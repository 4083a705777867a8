/* The relay's side of Postgres: its session, heads, saved cursors, ranges of events for gaps. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/pg.h"
#include "core/pgbinary.h"
#include "relay/relay_int.h"

static const struct {
    const char *name, *sql;
} statements[] = {
    {"share", "select * from relay_share($1::int)"},
    {"leave", "select relay_leave($1::int[])"},
    {"unknown", "select aggregate, version, id from relay_unknown($1::uuid[], $2::bigint[], $3::uuid[])"},
    {"heads", "select shard, seq from relay_heads($1::int[])"},
    {"read", "select * from relay_read($1::int, $2::bigint, $3::int)"},
    {"save", "select relay_save($1::int[], $2::bigint[], $3::int[])"},
};

#define SESSION_IDLE "'5s'" /* the server ends the session of a relay that hangs, and with it its locks */

/* The locks of the session before may still be held by a backend that has not noticed its end. */
static bool replace_session(PGconn *conn, struct relay *r, char *why, size_t why_size)
{
    char sql[64];
    if (r->key != 0) {
        snprintf(sql, sizeof sql, "select relay_replace(%" PRId32 ") >= 0", r->key);
        if (!pg_run(conn, sql, why, why_size))
            return false;
    }
    r->key = (int32_t)(random_u64() % INT32_MAX) + 1;
    return true;
}

/* Pool thread. */
static bool setup(PGconn *conn, void *arg, char *why, size_t why_size)
{
    if (!pg_require_primary(conn, why, why_size))
        return false;
    if (!pg_run(conn,
                "set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off;"
                "set enable_mergejoin = off; set plan_cache_mode = force_generic_plan;"
                "set idle_session_timeout = " SESSION_IDLE "; set tcp_user_timeout = " SESSION_IDLE,
                why, why_size))
        return false;
    if (!replace_session(conn, arg, why, why_size))
        return false;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (!pg_prepare(conn, statements[i].name, statements[i].sql, why, why_size))
            return false;
    return true;
}

bool outbox_rows_ok(struct relay *r, const struct pglink_answer *answer, const char *what)
{
    if (answer->result && PQresultStatus(answer->result) == PGRES_TUPLES_OK)
        return true;
    if (answer->result) {
        log_warn("a statement of the relay failed", "statement", what, "error",
                 PQresultErrorField(answer->result, PG_DIAG_MESSAGE_PRIMARY));
        pglink_drop(r->link, "a statement of the relay failed"); /* a new session prepares it again, after a back-off */
    }
    return false;
}

bool outbox_ask(struct relay *r, const char *statement, int count, const char *const *values, int format,
                pglink_done done, void *arg)
{
    return pglink_send(r->link, statement, count, values, NULL, NULL, format, done, arg);
}

/* --- heads and cursors ------------------------------------------------------------------------------------------ */

static int64_t text_int(const PGresult *rows, int row, int column)
{
    return strtoll(PQgetvalue(rows, row, column), NULL, 10);
}

/* A row (shard, seq); false: a shard that we do not know. */
static bool shard_row(const struct relay *r, const PGresult *rows, int i, uint32_t *shard, int64_t *seq)
{
    *shard = (uint32_t)text_int(rows, i, 0);
    *seq = text_int(rows, i, 1);
    return *shard < r->shards;
}

static void on_heads(void *arg, const struct pglink_answer *answer)
{
    struct relay *r = arg;
    r->heads_asked = false;
    if (!outbox_rows_ok(r, answer, "heads"))
        return;
    for (int i = 0; i < PQntuples(answer->result); i++) {
        uint32_t shard;
        int64_t seq;
        if (!shard_row(r, answer->result, i, &shard, &seq))
            continue;
        if (seq < r->shard[shard].asked_newest)
            relay_alarm(r, "the database has fewer events than were sent: it went back in time");
        window_saw(r->window, shard, seq);
    }
    outbox_fill(r);
}

void outbox_poll_heads(struct relay *r)
{
    if (!r->window || !r->shared || r->heads_asked || r->stopping || r->ours.len <= sizeof "{}" - 1)
        return;
    for (uint32_t i = 0; i < r->shards; i++) {
        struct uuid id;
        window_newest(r->window, i, &r->shard[i].asked_newest, &id);
    }
    const char *values[1] = {buf_cstr(&r->ours)};
    r->heads_asked = outbox_ask(r, "heads", 1, values, 0, on_heads, r);
}

static void on_saved(void *arg, const struct pglink_answer *answer)
{
    struct relay *r = arg;
    r->saving = false;
    outbox_rows_ok(r, answer, "save");
}

void outbox_save(struct relay *r)
{
    if (!r->window || !r->shared || r->saving || r->alarm || !pglink_room(r->link))
        return;
    struct buf shards = {0}, seqs = {0}, rewinds = {0};
    int moved = 0;
    for (uint32_t s = 0; s < r->shards; s++) {
        int64_t cursor = window_cursor(r->window, s);
        enum tenure tenure = r->shard[s].tenure;
        if ((tenure != SHARD_OURS && tenure != SHARD_LEAVING) || cursor <= r->shard[s].saved)
            continue;
        buf_printf(&shards, "%s%" PRIu32, moved ? "," : "{", s);
        buf_printf(&seqs, "%s%" PRId64, moved ? "," : "{", cursor);
        buf_printf(&rewinds, "%s%" PRId32, moved ? "," : "{", r->shard[s].rewinds);
        r->shard[s].saved = cursor; /* if the save is lost, the next move saves more; a restart sends a little again */
        moved++;
    }
    if (moved) {
        buf_addc(&shards, '}');
        buf_addc(&seqs, '}');
        buf_addc(&rewinds, '}');
        const char *values[3] = {buf_cstr(&shards), buf_cstr(&seqs), buf_cstr(&rewinds)};
        r->saving = outbox_ask(r, "save", 3, values, 0, on_saved, r);
    }
    buf_free(&shards);
    buf_free(&seqs);
    buf_free(&rewinds);
}

/* --- gaps ------------------------------------------------------------------------------------------------------- */

/* Columns of relay_read; their types are fixed, and with that their lengths in binary format. */
enum { C_SEQ, C_VERSION, C_TYPE, C_FORMAT, C_AT, C_ID, C_ACCOUNT_ID, C_CAMPAIGN_ID, C_DATA, COLUMNS };

static uint64_t get_int(const PGresult *rows, int i, int column, int bytes)
{
    const uint8_t *p = (const uint8_t *)PQgetvalue(rows, i, column);
    uint64_t v = 0;
    for (int k = 0; k < bytes; k++)
        v = v << 8 | p[k];
    return v;
}

static struct uuid get_uuid(const PGresult *rows, int i, int column)
{
    struct uuid id;
    memcpy(id.b, PQgetvalue(rows, i, column), sizeof id.b);
    return id;
}

static struct event_row decode(const PGresult *rows, int i, uint32_t shard)
{
    struct event_row row = {.shard = shard, .seq = (int64_t)get_int(rows, i, C_SEQ, 8)};
    if (PQgetisnull(rows, i, C_ID))
        return row; /* purged: EVENT_NONE */
    row.version = (int64_t)get_int(rows, i, C_VERSION, 8);
    row.type = (enum event_type)get_int(rows, i, C_TYPE, 2);
    row.format = (int)get_int(rows, i, C_FORMAT, 2);
    row.at_us = pgbinary_time_us(rows, i, C_AT);
    row.id = get_uuid(rows, i, C_ID);
    row.account_id = get_uuid(rows, i, C_ACCOUNT_ID);
    if (!PQgetisnull(rows, i, C_CAMPAIGN_ID))
        row.campaign_id = get_uuid(rows, i, C_CAMPAIGN_ID);
    row.data = PQgetvalue(rows, i, C_DATA);
    row.data_len = (size_t)PQgetlength(rows, i, C_DATA);
    return row;
}

static void on_rows(void *arg, const struct pglink_answer *answer);

/* The rows after `from`; and the row at it, which tells whether the database still has the past that we know. */
static void read_page(struct relay_shard *s, int64_t from, size_t count)
{
    char shard[16], seq[24], limit[24];
    s->read_from = from;
    s->read_count = count < RELAY_PAGE ? count : RELAY_PAGE;
    snprintf(shard, sizeof shard, "%" PRIu32, s->no);
    snprintf(seq, sizeof seq, "%" PRId64, from);
    snprintf(limit, sizeof limit, "%zu", s->read_count + 1);
    const char *values[3] = {shard, seq, limit};
    s->reading = outbox_ask(s->relay, "read", 3, values, 1, on_rows, s);
}

/* A full page has come and there is room for one more: Postgres shall make it while this one is sent. */
static void read_ahead(struct relay_shard *s, int rows, int64_t last_seq)
{
    int64_t from;
    size_t count, here = s->read_count;
    if ((size_t)rows > here && window_gap(s->relay->window, s->no, 2 * RELAY_PAGE, &from, &count) &&
        from == s->read_from && count >= here + RELAY_PAGE / 2 && pglink_room(s->relay->link))
        read_page(s, last_seq, count - here);
}

/* Numbers of a shard are dense; past a hole the relay does not go. */
static void check_dense(struct relay *r, size_t rows)
{
    for (size_t i = 1; i < rows; i++)
        if (r->page[i].seq != r->page[i - 1].seq + 1) {
            metric_add(r->m_holes, 1);
            relay_alarm(r, "an event is missing in the database: the numbers of a shard have a hole");
            return;
        }
}

static void on_rows(void *arg, const struct pglink_answer *answer)
{
    struct relay_shard *s = arg;
    struct relay *r = s->relay;
    s->reading = false;
    if (!outbox_rows_ok(r, answer, "read") || r->alarm || !past_is_ours(r, s, answer->result))
        return;
    int64_t from, was;
    size_t count, rows = 0;
    bool gap = window_gap(r->window, s->no, 2 * RELAY_PAGE, &was, &count);
    for (int i = 0; i < PQntuples(answer->result) && rows < RELAY_PAGE + 1; i++)
        r->page[rows++] = decode(answer->result, i, s->no);
    check_dense(r, rows);
    if (rows > 0)
        read_ahead(s, (int)rows, r->page[rows - 1].seq);
    relay_send_rows(r, r->page, rows, true);
    if (gap && window_gap(r->window, s->no, 2 * RELAY_PAGE, &from, &count) && from == was)
        return; /* no progress, the producer takes nothing: the timer tries again */
    outbox_fill(r);
}

void outbox_fill(struct relay *r)
{
    if (!r->window || !r->shared || !r->producer || r->alarm || r->closing)
        return;
    for (uint32_t i = 0; i < r->shards; i++) {
        struct relay_shard *s = &r->shard[i];
        int64_t from;
        size_t count;
        if (!s->reading && pglink_room(r->link) && window_gap(r->window, i, 2 * RELAY_PAGE, &from, &count))
            read_page(s, from, count);
    }
}

/* --- connection ------------------------------------------------------------------------------------------------- */

static void on_up(void *arg)
{
    struct relay *r = arg;
    past_verify(r);
    shares_tick(r, clock_mono_us());
}

static void on_down(void *arg, const char *why)
{
    struct relay *r = arg;
    (void)why;
    r->verified = false;
    shares_forget(r);
}

void outbox_open(struct relay *r)
{
    r->link = pglink_open(r->loop, &(struct pglink_options){
                                       .url = r->config->database_url,
                                       .application_name = "tidings-relay",
                                       .connect_timeout_s = (int)r->config->db_connect_timeout_s,
                                       .stall_ms = r->config->db_stall_ms,
                                       .max_pending = r->shards + 4,
                                       .setup = setup,
                                       .on_up = on_up,
                                       .on_down = on_down,
                                       .arg = r,
                                   });
}
