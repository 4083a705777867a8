/* Dead letters on their way to Kafka. */
#include "consumers/mirror.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "handlers/handler.h"
#include "handlers/sql.h"

#define MIRROR_BATCH_TEXT "100"
#define LOG_EVERY_US 60000000

/* dead_letter_unmirrored's columns; the last ones are headers, by the names of the columns */
enum { ID, KEY, VALUE, FIRST_HEADER };

static PGresult *ask(PGconn *conn, const struct db_pool *db, const _Atomic int64_t *stop_at, const char *sql, int count,
                     const char *const *values)
{
    struct sql_param params[2];
    for (int i = 0; i < count; i++)
        params[i] = (struct sql_param){.data = values[i]};
    PGresult *r = sql_exec(conn, clock_mono_us() + db_pool_statement_us(db), stop_at, sql, count, params);
    if (PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK)
        return r;
    PQclear(r);
    return NULL;
}

static void read_record(const PGresult *r, int row, struct mirror_record *out)
{
    out->key = sql_bytes(r, row, KEY, &out->key_len);
    out->value = sql_bytes(r, row, VALUE, &out->value_len);
    for (int i = 0; i < MIRROR_HEADERS && FIRST_HEADER + i < PQnfields(r); i++) {
        int column = FIRST_HEADER + i;
        out->headers[i].name = PQfname(r, column);
        out->headers[i].value = PQgetisnull(r, row, column) ? NULL : PQgetvalue(r, row, column);
    }
}

static bool note_sent(PGconn *conn, const struct db_pool *db, const _Atomic int64_t *stop_at, const PGresult *rows,
                      const struct mirror_record *records, int64_t *sent)
{
    struct buf ids = {0};
    sql_array_begin(&ids);
    *sent = 0;
    for (int i = 0; i < PQntuples(rows); i++)
        if (records[i].sent) {
            sql_array_int(&ids, strtoll(PQgetvalue(rows, i, ID), NULL, 10));
            ++*sent;
        }
    const char *const values[] = {sql_array_end(&ids)};
    PGresult *r = NULL;
    if (*sent > 0)
        r = ask(conn, db, stop_at, "select dead_letter_mirrored($1)", 1, values);
    bool ok = *sent == 0 || r != NULL;
    PQclear(r);
    buf_free(&ids);
    return ok;
}

static void log_failure(const char *topic, const char *why)
{
    static _Atomic int64_t logged_us; /* of all topics: once in a while is enough */
    int64_t now = clock_mono_us(), last = atomic_load(&logged_us);
    if (last != 0 && now - last < LOG_EVERY_US)
        return;
    atomic_store(&logged_us, now);
    log_warn("dead letters cannot be copied to Kafka, trying on", "topic", topic, "reason", why);
}

/* Within a transaction whose lock keeps the other processes away: they would send the same ones. */
static int64_t mirror_group(const struct config *config, struct db_pool *db, PGconn *conn,
                            const _Atomic int64_t *stop_at, const char *group)
{
    char topic[512], why[300];
    int64_t sent = 0;
    const char *const values[] = {group, MIRROR_BATCH_TEXT};
    PGresult *rows = ask(conn, db, stop_at, "select * from dead_letter_unmirrored($1, $2)", 2, values);
    if (!rows)
        return -1;
    size_t count = (size_t)PQntuples(rows);
    struct mirror_record *records = xcalloc(count + 1, sizeof *records);
    for (size_t i = 0; i < count; i++)
        read_record(rows, (int)i, &records[i]);
    snprintf(topic, sizeof topic, "%s.%s.dlq", config->kafka_topic, group);
    if (count > 0 && !mirror_send(config, topic, records, count, stop_at, why, sizeof why))
        log_failure(topic, why);
    if (!note_sent(conn, db, stop_at, rows, records, &sent) || (count > 0 && sent == 0))
        sent = -1;
    for (size_t i = 0; i < count; i++) {
        PQfreemem((char *)(uintptr_t)records[i].key);
        PQfreemem((char *)(uintptr_t)records[i].value);
    }
    free(records);
    PQclear(rows);
    return sent;
}

static bool command(PGconn *conn, const struct db_pool *db, const _Atomic int64_t *stop_at, const char *sql)
{
    PGresult *r = ask(conn, db, stop_at, sql, 0, NULL);
    PQclear(r);
    return r != NULL;
}

int64_t mirror_dead_letters(const struct config *config, struct db_pool *db, const _Atomic int64_t *stop_at)
{
    char why[200];
    int64_t total = 0;
    bool failed = false;
    PGconn *conn = db_pool_take(db, clock_mono_us() + config->db_stall_ms * 1000, why, sizeof why);
    if (!conn)
        return -1;
    for (const struct handler *const *h = all_handlers; *h && atomic_load(stop_at) == 0; h++) {
        int64_t sent = -1;
        if (command(conn, db, stop_at, "begin"))
            sent = mirror_group(config, db, conn, stop_at, (*h)->group);
        if (PQtransactionStatus(conn) != PQTRANS_IDLE && !command(conn, db, stop_at, "commit"))
            sent = -1;
        failed = failed || sent < 0;
        total += sent > 0 ? sent : 0;
    }
    if (PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) != PQTRANS_IDLE)
        command(conn, db, stop_at, "rollback");
    db_pool_give(db, conn);
    return total == 0 && failed ? -1 : total;
}
