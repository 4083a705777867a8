/* The workers' shared Postgres connections. */
#include "consumers/db_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/pg.h"
#include "handlers/sql.h"
#include "store/barrier.h"

#define STATEMENT_STALLS 3 /* a worker's statement may take so many times DB_STALL_MS: it is set-based */
#define BACKOFF_BASE_MS 100
#define BACKOFF_MAX_MS 5000
#define LOG_EVERY_US 30000000

struct db_pool {
    const struct config *config;
    pthread_mutex_t lock;
    pthread_cond_t freed; /* on CLOCK_MONOTONIC */
    PGconn **idle;        /* a stack: the warmest first */
    size_t idle_count;
    size_t open; /* idle, taken, and being opened */
    bool stopped;
    int failures; /* to connect, in a row */
    bool opening; /* while failures > 0: one tries for all */
    int64_t down_until_us;
    int64_t logged_us;
    char why[256]; /* of the last failure */
};

struct db_pool *db_pool_new(const struct config *config)
{
    struct db_pool *p = xcalloc(1, sizeof *p);
    p->config = config;
    p->idle = xcalloc((size_t)config->worker_db_connections, sizeof(PGconn *));
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->freed, &attr);
    pthread_condattr_destroy(&attr);
    return p;
}

int64_t db_pool_statement_us(const struct db_pool *p)
{
    return p->config->db_stall_ms * (STATEMENT_STALLS * 1000 + 500);
}

/* Bounds that the server keeps: a worker that hangs must not hold locks. */
static bool pin_session(const struct db_pool *p, PGconn *conn, char *why, size_t why_size)
{
    char sql[128];
    long long ms = (long long)p->config->db_stall_ms * STATEMENT_STALLS;
    snprintf(sql, sizeof sql,
             "select set_config('statement_timeout', '%lld', false), "
             "set_config('idle_in_transaction_session_timeout', '%lld', false)",
             ms, ms);
    PGresult *r = sql_exec(conn, clock_mono_us() + p->config->db_stall_ms * 1000, NULL, sql, 0, NULL);
    bool ok = r && PQresultStatus(r) == PGRES_TUPLES_OK;
    if (!ok)
        snprintf(why, why_size, "%s", r ? PQresultErrorMessage(r) : "no answer from Postgres");
    PQclear(r);
    return ok;
}

/* Blocks, without the lock. */
static PGconn *open_one(const struct db_pool *p, char *why, size_t why_size)
{
    PGconn *conn =
        pg_open(p->config->database_url, "tidings worker", (int)p->config->db_connect_timeout_s, why, why_size);
    if (conn && (!pin_session(p, conn, why, why_size) || !barrier_pass(conn, why, why_size))) {
        PQfinish(conn);
        conn = NULL;
    }
    return conn;
}

/* With the lock held. */
static void note_failure(struct db_pool *p, const char *why)
{
    int64_t now = clock_mono_us();
    snprintf(p->why, sizeof p->why, "%s", why);
    p->down_until_us = now + backoff_ms(p->failures++, BACKOFF_BASE_MS, BACKOFF_MAX_MS) * 1000;
    if (p->logged_us == 0 || now - p->logged_us >= LOG_EVERY_US) {
        log_warn("workers cannot connect to Postgres, trying on", "error", why);
        p->logged_us = now;
    }
}

static void note_success(struct db_pool *p)
{
    if (p->failures > 0)
        log_info("workers are connected to Postgres again");
    p->failures = 0;
    p->logged_us = 0;
}

/* With the lock held; gives it up while connecting. */
static PGconn *open_slot(struct db_pool *p, char *why, size_t why_size)
{
    p->open++;
    p->opening = true;
    pthread_mutex_unlock(&p->lock);
    PGconn *conn = open_one(p, why, why_size);
    pthread_mutex_lock(&p->lock);
    p->opening = false;
    if (conn) {
        note_success(p);
    } else {
        p->open--;
        note_failure(p, why);
    }
    pthread_cond_broadcast(&p->freed);
    return conn;
}

/* With the lock held. False: deadline. */
static bool wait_freed(struct db_pool *p, int64_t deadline_us)
{
    struct timespec t = {.tv_sec = deadline_us / 1000000, .tv_nsec = deadline_us % 1000000 * 1000};
    return pthread_cond_timedwait(&p->freed, &p->lock, &t) != ETIMEDOUT;
}

/* With the lock held. After a restart of Postgres the idle connections have ended, and their sockets say so. */
static PGconn *still_alive(struct db_pool *p, PGconn *conn)
{
    if (PQconsumeInput(conn) && PQstatus(conn) == CONNECTION_OK)
        return conn;
    PQfinish(conn);
    p->open--;
    return NULL;
}

PGconn *db_pool_take(struct db_pool *p, int64_t deadline_us, char *why, size_t why_size)
{
    PGconn *conn = NULL;
    pthread_mutex_lock(&p->lock);
    for (bool more = true; !conn && more;) {
        if (p->stopped) {
            snprintf(why, why_size, "the process is stopping");
            break;
        }
        if (p->idle_count > 0) {
            conn = still_alive(p, p->idle[--p->idle_count]);
            continue;
        }
        if (p->failures > 0 && clock_mono_us() < p->down_until_us) {
            snprintf(why, why_size, "%s", p->why);
            break;
        }
        if (p->open < (size_t)p->config->worker_db_connections && !(p->failures > 0 && p->opening)) {
            conn = open_slot(p, why, why_size);
            break;
        }
        more = wait_freed(p, deadline_us);
        if (!more)
            snprintf(why, why_size, "no Postgres connection became free in time");
    }
    pthread_mutex_unlock(&p->lock);
    return conn;
}

void db_pool_give(struct db_pool *p, PGconn *conn)
{
    bool usable = PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) == PQTRANS_IDLE;
    pthread_mutex_lock(&p->lock);
    if (usable)
        p->idle[p->idle_count++] = conn;
    else
        p->open--;
    pthread_cond_signal(&p->freed);
    pthread_mutex_unlock(&p->lock);
    if (!usable)
        PQfinish(conn);
}

void db_pool_stop(struct db_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->stopped = true;
    pthread_cond_broadcast(&p->freed);
    pthread_mutex_unlock(&p->lock);
}

void db_pool_free(struct db_pool *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->idle_count; i++)
        PQfinish(p->idle[i]);
    pthread_cond_destroy(&p->freed);
    pthread_mutex_destroy(&p->lock);
    free(p->idle);
    free(p);
}
