/* The session of a lane, and the search for the outcome of a batch whose answer was lost. Blocks: pool threads only. */
#include "store/lane_session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/pg.h"
#include "store/barrier.h"
#include "store/lane_append.h"
#include "store/lane_call.h"

/* Plans must not depend on statistics: index scans for look-ups, hash joins for the batch's own small sets. */
static const char PINS[] = "set enable_seqscan = off; set enable_bitmapscan = off; set enable_nestloop = off;"
                           "set enable_mergejoin = off; set plan_cache_mode = force_generic_plan;"
                           "set idle_in_transaction_session_timeout = '5s'";

static bool query_one(PGconn *conn, const char *sql, char *value, size_t value_size, char *why, size_t why_size)
{
    PGresult *r = pg_ask(conn, sql);
    bool ok = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1;
    if (ok)
        snprintf(value, value_size, "%s", PQgetvalue(r, 0, 0));
    else
        pg_why(conn, r, why, why_size);
    PQclear(r);
    return ok;
}

/* A transaction pooler hands statements to any backend: session locks and settings would be lost. It shows in the
 * backend's pid. */
static bool check_server(PGconn *conn, char *why, size_t why_size)
{
    char pid[32];
    if (!query_one(conn, "select pg_backend_pid()", pid, sizeof pid, why, why_size))
        return false;
    if (atoi(pid) == PQbackendPID(conn))
        return pg_require_primary(conn, why, why_size);
    snprintf(why, why_size, "DATABASE_URL leads to a connection pooler; lanes need a direct connection");
    return false;
}

static bool read_heads(PGconn *conn, uint32_t shards, int64_t *heads, char *why, size_t why_size)
{
    PGresult *r = pg_ask(conn, "select shard, seq from shard_heads()");
    bool ok = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == (int)shards;
    if (!ok)
        pg_why(conn, r, why, why_size);
    for (int i = 0; ok && i < PQntuples(r); i++)
        heads[i] = strtoll(PQgetvalue(r, i, 1), NULL, 10);
    PQclear(r);
    return ok;
}

bool lane_session_setup(PGconn *conn, const struct config *config, const struct installation *installation, int64_t key,
                        int64_t *heads, char *why, size_t why_size)
{
    char lock[128], timeout[64], ignored[8];
    snprintf(timeout, sizeof timeout, "set lock_timeout = %" PRId64, config->lane_lock_timeout_ms);
    snprintf(lock, sizeof lock, "select pg_advisory_lock(%" PRId64 ") is null", key);
    return schema_check(conn, why, why_size) && check_server(conn, why, why_size) &&
           pg_run(conn, PINS, why, why_size) && pg_run(conn, timeout, why, why_size) &&
           query_one(conn, lock, ignored, sizeof ignored, why, why_size) &&
           read_heads(conn, installation->shards, heads, why, why_size) && barrier_pass(conn, why, why_size) &&
           lane_call_prepare(conn, why, why_size) && lane_append_prepare(conn, why, why_size);
}

/* The session that ran the batch is ended, whoever it is, and its lock taken: nothing of it can commit any more. */
static bool end_old_session(PGconn *conn, int64_t key, char *why, size_t why_size)
{
    char sql[128], ignored[32];
    if (!pg_run(conn, "set lock_timeout = '2s'", why, why_size)) /* the old backend takes a moment to end */
        return false;
    snprintf(sql, sizeof sql, "select end_lane_session(%" PRId64 ")", key);
    if (!query_one(conn, sql, ignored, sizeof ignored, why, why_size))
        return false;
    snprintf(sql, sizeof sql, "select pg_advisory_lock(%" PRId64 ") is null", key);
    return query_one(conn, sql, ignored, sizeof ignored, why, why_size);
}

static PGresult *look_up(PGconn *conn, const struct lost_batch *lost, char *why, size_t why_size)
{
    enum { SHARD, AFTER, EVENT, KEY_SHARD, KEY_CAMPAIGN, KEY, COUNT };
    struct buf arrays[COUNT] = {0};
    const char *values[COUNT];
    for (size_t i = 0; i < lost->count; i++) {
        const struct action_key *key = &lost->keys[i]; /* of zeros without one, which none is */
        char id[UUID_TEXT_SIZE], key_campaign[UUID_TEXT_SIZE], key_id[UUID_TEXT_SIZE];
        const char *separator = i ? "," : "{";
        uuid_format(lost->event_ids[i], id);
        uuid_format(key->campaign, key_campaign);
        uuid_format(key->key, key_id);
        buf_printf(&arrays[SHARD], "%s%" PRIu32, separator, lost->shards[i]);
        buf_printf(&arrays[AFTER], "%s%" PRId64, separator, lost->after[i]);
        buf_printf(&arrays[EVENT], "%s%s", separator, id);
        buf_printf(&arrays[KEY_SHARD], "%s%" PRIu32, separator, key->shard);
        buf_printf(&arrays[KEY_CAMPAIGN], "%s%s", separator, key_campaign);
        buf_printf(&arrays[KEY], "%s%s", separator, key_id);
    }
    for (size_t i = 0; i < COUNT; i++) {
        buf_addc(&arrays[i], '}');
        values[i] = buf_cstr(&arrays[i]);
    }
    PGresult *r = pg_exec(conn, pg_setup_limit(),
                          "select * from lane_outcome($1::int[], $2::bigint[], $3::uuid[], $4::int[], $5::uuid[],"
                          " $6::uuid[])",
                          COUNT, values, NULL, NULL, 1);
    for (size_t i = 0; i < COUNT; i++)
        buf_free(&arrays[i]);
    if (PQresultStatus(r) == PGRES_TUPLES_OK)
        return r;
    pg_why(conn, r, why, why_size);
    PQclear(r);
    return NULL;
}

static PGresult *resolve_once(struct lost_batch *lost, const struct config *config)
{
    PGconn *conn = pg_open(config->database_url, "tidings-resolve", (int)config->db_connect_timeout_s, lost->why,
                           sizeof lost->why);
    if (!conn)
        return NULL;
    PGresult *found = NULL;
    if (check_server(conn, lost->why, sizeof lost->why) && pg_run(conn, PINS, lost->why, sizeof lost->why) &&
        end_old_session(conn, lost->key, lost->why, sizeof lost->why) &&
        barrier_pass(conn, lost->why, sizeof lost->why))
        found = look_up(conn, lost, lost->why, sizeof lost->why);
    PQfinish(conn);
    return found;
}

void lost_batch_resolve(struct lost_batch *lost, const struct config *config)
{
    /* At least once, however late it is. */
    for (int attempt = 0; !lost->found && (attempt == 0 || clock_mono_us() < lost->deadline_us); attempt++) {
        if (attempt > 0)
            clock_sleep_ms(backoff_ms(attempt - 1, 50, 1000));
        lost->found = resolve_once(lost, config);
    }
}
