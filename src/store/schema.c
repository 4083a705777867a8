/* Migrations: numbered files once each, functions anew each time, all in one transaction under one lock. Blocking. */
#include "store/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/embed.h"
#include "core/hash.h"
#include "core/pg.h"
#include "core/uuid.h"

/* Hosts that migrate at the same time wait for each other here; released at the end of the transaction. */
static const char BEGIN[] = "begin; select pg_advisory_xact_lock(1953064037, -1);"
                            "create schema if not exists tidings; set local search_path = tidings;"
                            "create table if not exists schema_files (name text primary key, hash text not null,"
                            " applied_at timestamptz not null default now())";

static void file_hash(const struct embedded_file *f, char out[17])
{
    snprintf(out, 17, "%016" PRIx64, hash64(f->data, f->size));
}

static bool is_function_file(const struct embedded_file *f)
{
    return strncmp(f->name, "fn_", 3) == 0;
}

static PGresult *exec2(PGconn *conn, const char *sql, const char *a, const char *b)
{
    const char *values[2] = {a, b};
    return pg_exec(conn, pg_setup_limit(), sql, b ? 2 : 1, values, NULL, NULL, 0);
}

static bool fail(PGconn *conn, PGresult *r, const char *what, char *why, size_t why_size)
{
    char text[256];
    pg_why(conn, r, text, sizeof text);
    snprintf(why, why_size, "%s: %.*s", what, (int)strcspn(text, "\n"), text);
    PQclear(r);
    return false;
}

/* A file of the database that this binary does not have comes from a newer one. */
static bool refuse_newer(PGconn *conn, char *why, size_t why_size)
{
    PGresult *r = pg_ask(conn, "select name from schema_files where name !~ '^fn_' order by name desc limit 1");
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        return fail(conn, r, "cannot read the schema's version", why, why_size);
    const char *theirs = PQntuples(r) ? PQgetvalue(r, 0, 0) : "";
    const char *ours = "";
    for (size_t i = 0; i < embedded_sql_count; i++)
        if (!is_function_file(&embedded_sql[i]) && strcmp(embedded_sql[i].name, ours) > 0)
            ours = embedded_sql[i].name;
    bool newer = strcmp(theirs, ours) > 0;
    if (newer)
        snprintf(why, why_size, "the database's schema (%s) is newer than this binary (%s): install a newer tidings",
                 theirs, ours);
    PQclear(r);
    return !newer;
}

/* 1: there with this content; 0: not there, or with other content; -1: error. */
static int is_applied(PGconn *conn, const struct embedded_file *f, bool *there, char *why, size_t why_size)
{
    char hash[17];
    file_hash(f, hash);
    PGresult *r = exec2(conn, "select hash from schema_files where name = $1", f->name, NULL);
    if (PQresultStatus(r) != PGRES_TUPLES_OK) {
        fail(conn, r, f->name, why, why_size);
        return -1;
    }
    *there = PQntuples(r) == 1;
    int same = *there && strcmp(PQgetvalue(r, 0, 0), hash) == 0;
    PQclear(r);
    return same;
}

static bool apply(PGconn *conn, const struct embedded_file *f, void (*progress)(const char *), char *why,
                  size_t why_size)
{
    char hash[17];
    file_hash(f, hash);
    if (progress)
        progress(f->name);
    PGresult *r = PQexec(conn, (const char *)f->data);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        return fail(conn, r, f->name, why, why_size);
    PQclear(r);
    r = exec2(conn,
              "insert into schema_files (name, hash) values ($1, $2)"
              " on conflict (name) do update set hash = excluded.hash, applied_at = now()",
              f->name, hash);
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return fail(conn, r, f->name, why, why_size);
    PQclear(r);
    return true;
}

static bool apply_all(PGconn *conn, void (*progress)(const char *), char *why, size_t why_size)
{
    /* Function files after the tables they speak of. */
    for (int functions = 0; functions <= 1; functions++)
        for (size_t i = 0; i < embedded_sql_count; i++) {
            const struct embedded_file *f = &embedded_sql[i];
            bool there = false;
            if (is_function_file(f) != (functions == 1))
                continue;
            int same = is_applied(conn, f, &there, why, why_size);
            if (same < 0)
                return false;
            if (there && !functions && !same) {
                snprintf(why, why_size,
                         "%s was applied with other content: this binary and the database do not belong together",
                         f->name);
                return false;
            }
            if (!same && !apply(conn, f, progress, why, why_size))
                return false;
        }
    return true;
}

static bool make_installation(PGconn *conn, uint32_t shards, char *why, size_t why_size)
{
    uint8_t key[16];
    char hex[2 * sizeof key + 1], count[16];
    random_bytes(key, sizeof key);
    for (size_t i = 0; i < sizeof key; i++)
        snprintf(hex + 2 * i, 3, "%02x", key[i]);
    snprintf(count, sizeof count, "%" PRIu32, shards);
    PGresult *r = exec2(conn,
                        "insert into installation (shards, referral_code_key) values ($1::int, decode($2, 'hex'))"
                        " on conflict do nothing",
                        count, hex);
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return fail(conn, r, "cannot store the installation's row", why, why_size);
    PQclear(r);
    return pg_run(conn,
                  "insert into relay_cursors (shard) select s from installation i, generate_series(0, i.shards - 1) s"
                  " on conflict do nothing",
                  why, why_size);
}

/* What may take its time: locks of other hosts, a table's rewriting. */
static bool run_long(PGconn *conn, const char *sql, char *why, size_t why_size)
{
    return pg_judge(conn, PQexec(conn, sql), why, why_size);
}

bool schema_migrate(PGconn *conn, uint32_t shards, void (*progress)(const char *what), char *why, size_t why_size)
{
    bool ok = run_long(conn, BEGIN, why, why_size) && refuse_newer(conn, why, why_size) &&
              apply_all(conn, progress, why, why_size) && make_installation(conn, shards, why, why_size);
    char ignored[64];
    if (!ok) {
        run_long(conn, "rollback", ignored, sizeof ignored);
        return false;
    }
    return run_long(conn, "commit", why, why_size);
}

bool schema_check(PGconn *conn, char *why, size_t why_size)
{
    PGresult *r = pg_ask(conn, "select to_regclass('tidings.schema_files') is not null");
    bool there = PQresultStatus(r) == PGRES_TUPLES_OK && PQgetvalue(r, 0, 0)[0] == 't';
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        return fail(conn, r, "cannot read the schema", why, why_size);
    PQclear(r);
    if (!there) {
        snprintf(why, why_size, "the database has no schema yet: run `tidings migrate`");
        return false;
    }
    if (!refuse_newer(conn, why, why_size))
        return false;
    for (size_t i = 0; i < embedded_sql_count; i++) {
        bool known = false;
        int same = is_applied(conn, &embedded_sql[i], &known, why, why_size);
        if (same < 0)
            return false;
        if (!same) {
            snprintf(why, why_size, "the database's %s is not this binary's: run `tidings migrate`",
                     embedded_sql[i].name);
            return false;
        }
    }
    return true;
}

static bool read_installation(PGconn *conn, PGresult *r, struct installation *out, char *why, size_t why_size)
{
    if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1)
        return fail(conn, r, "cannot read the installation's row (run `tidings migrate`)", why, why_size);
    out->shards = (uint32_t)strtoul(PQgetvalue(r, 0, 0), NULL, 10);
    out->partitions = (uint32_t)strtoul(PQgetvalue(r, 0, 1), NULL, 10);
    const char *hex = PQgetvalue(r, 0, 2);
    for (size_t i = 0; i < sizeof out->referral_code_key; i++) {
        unsigned byte = 0;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return fail(conn, r, "the installation's referral_code_key is damaged", why, why_size);
        out->referral_code_key[i] = (uint8_t)byte;
    }
    PQclear(r);
    return true;
}

bool installation_load(PGconn *conn, struct installation *out, char *why, size_t why_size)
{
    PGresult *r =
        pg_ask(conn, "select shards, coalesce(partitions, 0), encode(referral_code_key, 'hex') from installation");
    return read_installation(conn, r, out, why, why_size);
}

bool installation_set_partitions(PGconn *conn, uint32_t partitions, struct installation *out, char *why,
                                 size_t why_size)
{
    char n[16];
    snprintf(n, sizeof n, "%" PRIu32, partitions);
    PGresult *r = exec2(conn, "update installation set partitions = $1::int where partitions is null", n, NULL);
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return fail(conn, r, "cannot store the topic's partitions", why, why_size);
    PQclear(r);
    return installation_load(conn, out, why, why_size);
}
