/* Deleting old dedupe rows. */
#include "consumers/trim.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "handlers/sql.h"

#define BATCH_ROWS "1000"
#define BATCHES 20

/* One batch, a transaction of its own. -1: failed. */
static int64_t trim_batch(PGconn *conn, int64_t deadline_us, const _Atomic int64_t *stop_at, const char *keep_days)
{
    const struct sql_param params[] = {{.data = keep_days}, {.data = BATCH_ROWS}};
    PGresult *r = sql_exec(conn, deadline_us, stop_at, "select handled_trim($1, $2)", 2, params);
    int64_t rows = PQresultStatus(r) == PGRES_TUPLES_OK ? strtoll(PQgetvalue(r, 0, 0), NULL, 10) : -1;
    if (r && rows < 0)
        log_warn("old rows of handled were not deleted", "error", PQresultErrorMessage(r));
    PQclear(r);
    return rows;
}

int64_t trim_handled(const struct config *config, struct db_pool *db, const _Atomic int64_t *stop_at)
{
    char keep_days[24], why[200];
    int64_t total = 0, now = clock_mono_us();
    snprintf(keep_days, sizeof keep_days, "%lld", (long long)config->handled_keep_days);
    PGconn *conn = db_pool_take(db, now + config->db_stall_ms * 1000, why, sizeof why);
    if (!conn)
        return -1;
    for (int i = 0; i < BATCHES && atomic_load_explicit(stop_at, memory_order_relaxed) == 0; i++) {
        int64_t rows = trim_batch(conn, clock_mono_us() + db_pool_statement_us(db), stop_at, keep_days);
        if (rows < 0)
            total = -1;
        if (rows <= 0)
            break;
        total += rows;
    }
    db_pool_give(db, conn);
    return total;
}

int trim_has_more(int64_t deleted)
{
    return deleted >= atoll(BATCH_ROWS) * BATCHES;
}
