/* Reads and small changes for HTTP: connections in pipeline mode, a bounded queue in front of them. */
#include "store/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/pg.h"
#include "core/pglink.h"
#include "store/barrier.h"
#include "store/schema.h"

enum { PIPELINE = 64, STALL_SLACK_MS = 500, LOG_EVERY_US = 10000000 };

/* Plans are made once, must not depend on statistics, and walk along indexes from one look-up to the next. */
#define PINNED                                                                                                         \
    "set plan_cache_mode = force_generic_plan; set jit = off; set max_parallel_workers_per_gather = 0;"                \
    "set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off;"    \
    "set enable_sort = off; set enable_incremental_sort = off"

struct read {
    struct read *next;
    struct reader *reader;
    enum read_query query;
    read_done on_done;
    void *arg;
    int64_t started_us;
    int count;
    const char *params[READ_MAX_PARAMS];
    char text[];
};

struct link {
    struct pool *pool;
    struct pglink *pg;
    char name[40];
};

/* A queue and the connections that serve it. */
struct pool {
    struct reader *reader;
    struct link *links;
    size_t link_count, turn;
    struct read *head, **tail;
};

struct reader {
    const struct config *config;
    struct pool reads, changes;
    size_t waiting;    /* queued and in flight */
    int64_t logged_us; /* a failed statement */
    uv_timer_t timer;
    uv_check_t check;
    bool stopping;
    int open_handles;
    int64_t deadline_us;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
    struct metric_series *m_seconds[READ_COUNT];
};

static const char *const labels[] = {
#define READ_LABEL(id, label, sql) [id] = label,
    READ_TABLE(READ_LABEL) CHANGE_TABLE(READ_LABEL)
#undef READ_LABEL
};

static const char *const statements[] = {
#define READ_SQL(id, label, sql) [id] = sql,
    READ_TABLE(READ_SQL) CHANGE_TABLE(READ_SQL)
#undef READ_SQL
};

static void finish(struct read *q, enum err err, const PGresult *rows)
{
    q->reader->waiting--;
    metric_observe(q->reader->m_seconds[q->query], clock_mono_us() - q->started_us);
    q->on_done(q->arg, err, rows);
    free(q);
}

/* Not each one: where one fails, many do. */
static void log_failure(struct read *q, const PGresult *rows)
{
    struct reader *r = q->reader;
    int64_t now = clock_mono_us();
    if (r->logged_us != 0 && now - r->logged_us < LOG_EVERY_US)
        return;
    r->logged_us = now;
    log_warn("a statement for HTTP failed", "query", labels[q->query], "sqlstate",
             PQresultErrorField(rows, PG_DIAG_SQLSTATE), "error", PQresultErrorField(rows, PG_DIAG_MESSAGE_PRIMARY));
}

static void on_answer(void *arg, const struct pglink_answer *answer)
{
    struct read *q = arg;
    const PGresult *rows = answer->result;
    bool change = q->query >= READ_CHANGES;
    enum pg_failure failure = rows ? pg_classify(NULL, rows) : PG_CONNECTION;
    if (failure == PG_OK && !(change && answer->warned)) { /* warned: it may not be on the standby */
        finish(q, ERR_NONE, rows);
        return;
    }
    if (failure != PG_OK && failure != PG_CONNECTION)
        log_failure(q, rows);
    if (failure == PG_BUG || failure == PG_DATA)
        finish(q, ERR_INTERNAL, NULL);
    else if (failure == PG_TRANSIENT || !change)
        finish(q, ERR_DB_UNAVAILABLE, NULL);
    else
        finish(q, ERR_OUTCOME_UNKNOWN, NULL);
}

/* Connections take turns, so that slow and quick reads spread evenly. */
static struct pglink *next_link(struct pool *p)
{
    for (size_t i = 0; i < p->link_count; i++) {
        size_t at = (p->turn + i) % p->link_count;
        if (!pglink_room(p->links[at].pg))
            continue;
        p->turn = at + 1;
        return p->links[at].pg;
    }
    return NULL;
}

static void pump(struct pool *p)
{
    while (p->head) {
        struct pglink *pg = next_link(p);
        if (!pg)
            return;
        struct read *q = p->head;
        if (!pglink_send(pg, labels[q->query], q->count, q->params, NULL, NULL, 0, on_answer, q)) {
            pglink_drop(pg, "cannot send");
            continue;
        }
        p->head = q->next;
        if (!p->head)
            p->tail = &p->head;
    }
}

static void on_check(uv_check_t *check)
{
    struct reader *r = check->data;
    pump(&r->reads);
    pump(&r->changes);
}

static bool any_up(const struct pool *p)
{
    for (size_t i = 0; i < p->link_count; i++)
        if (pglink_up(p->links[i].pg))
            return true;
    return false;
}

bool reader_ready(const struct reader *r)
{
    return any_up(&r->reads) && any_up(&r->changes);
}

const char *reader_trouble(const struct reader *r)
{
    return any_up(&r->reads) ? pglink_trouble(r->changes.links[0].pg) : pglink_trouble(r->reads.links[0].pg);
}

static void fail_queue(struct pool *p, enum err err)
{
    struct read *q = p->head;
    p->head = NULL;
    p->tail = &p->head;
    while (q) {
        struct read *next = q->next;
        finish(q, err, NULL);
        q = next;
    }
}

/* Postgres gives a statement up before we give its connection up: else each one left behind would go on, and the next would
 * come to wait for it, until no connection is left. What is still under way when a connection is given up ends soon. */
static bool pin_time(PGconn *conn, const struct config *config, char *why, size_t why_size)
{
    char sql[160];
    snprintf(sql, sizeof sql, "set statement_timeout = %lld; set client_connection_check_interval = '1s'",
             (long long)config->db_stall_ms);
    return pg_run(conn, sql, why, why_size);
}

static bool prepare(PGconn *conn, int from, int to, char *why, size_t why_size)
{
    for (int i = from; i < to; i++)
        if (!pg_prepare(conn, labels[i], statements[i], why, why_size))
            return false;
    return true;
}

/* Pool thread, as the next two. */
static bool setup_any(PGconn *conn, const struct link *link, char *why, size_t why_size)
{
    return pg_require_primary(conn, why, why_size) && schema_check(conn, why, why_size) &&
           pg_run(conn, PINNED, why, why_size) && pin_time(conn, link->pool->reader->config, why, why_size);
}

static bool setup_reads(PGconn *conn, void *arg, char *why, size_t why_size)
{
    return setup_any(conn, arg, why, why_size) && prepare(conn, 0, READ_CHANGES, why, why_size);
}

static bool setup_changes(PGconn *conn, void *arg, char *why, size_t why_size)
{
    return setup_any(conn, arg, why, why_size) && barrier_pass(conn, why, why_size) &&
           prepare(conn, READ_CHANGES, READ_COUNT, why, why_size);
}

static void on_up(void *arg)
{
    struct link *link = arg;
    pump(link->pool);
}

static void on_down(void *arg, const char *why)
{
    struct link *link = arg;
    (void)why;
    if (!any_up(link->pool))
        fail_queue(link->pool, ERR_DB_UNAVAILABLE);
}

static void open_pool(struct pool *p, struct reader *r, uv_loop_t *loop, const char *name, size_t count,
                      bool (*setup)(PGconn *conn, void *arg, char *why, size_t why_size))
{
    p->reader = r;
    p->tail = &p->head;
    p->link_count = count;
    p->links = xcalloc(count, sizeof *p->links);
    for (size_t i = 0; i < count; i++) {
        struct link *link = &p->links[i];
        link->pool = p;
        snprintf(link->name, sizeof link->name, "tidings-%s-%zu", name, i);
        link->pg = pglink_open(loop, &(struct pglink_options){
                                         .url = r->config->database_url,
                                         .application_name = link->name,
                                         .connect_timeout_s = (int)r->config->db_connect_timeout_s,
                                         .stall_ms = r->config->db_stall_ms + STALL_SLACK_MS,
                                         .max_pending = PIPELINE,
                                         .setup = setup,
                                         .on_up = on_up,
                                         .on_down = on_down,
                                         .arg = link,
                                     });
    }
}

struct reader *reader_start(uv_loop_t *loop, const struct config *config)
{
    struct reader *r = xcalloc(1, sizeof *r);
    r->config = config;
    for (int i = 0; i < READ_COUNT; i++)
        r->m_seconds[i] = metric_get(M_READ_SECONDS, labels[i], NULL);
    uv_timer_init(loop, &r->timer);
    r->timer.data = r;
    uv_check_init(loop, &r->check);
    r->check.data = r;
    uv_check_start(&r->check, on_check);
    open_pool(&r->reads, r, loop, "read", (size_t)config->readers, setup_reads);
    open_pool(&r->changes, r, loop, "change", 1, setup_changes);
    return r;
}

enum err reader_submit(struct reader *r, enum read_query query, int count, const char *const params[],
                       read_done on_done, void *arg)
{
    struct pool *p = query < READ_CHANGES ? &r->reads : &r->changes;
    if (r->stopping)
        return ERR_SHUTTING_DOWN;
    if (!any_up(p))
        return ERR_DB_UNAVAILABLE;
    if (r->waiting >= (size_t)r->config->read_queue)
        return ERR_OVERLOADED;
    size_t text = 0;
    for (int i = 0; i < count; i++)
        text += params[i] ? strlen(params[i]) + 1 : 0;
    struct read *q = xmalloc(sizeof *q + text);
    *q = (struct read){
        .reader = r, .query = query, .on_done = on_done, .arg = arg, .started_us = clock_mono_us(), .count = count};
    char *at = q->text;
    for (int i = 0; i < count; i++) {
        size_t size = params[i] ? strlen(params[i]) + 1 : 0;
        if (size == 0)
            continue; /* null, as all of q is */
        q->params[i] = memcpy(at, params[i], size);
        at += size;
    }
    *p->tail = q;
    p->tail = &q->next;
    r->waiting++;
    return ERR_NONE;
}

/* --- stop ------------------------------------------------------------------------------------------------------- */

static void on_part_closed(struct reader *r)
{
    if (--r->open_handles > 0)
        return;
    void (*on_stopped)(void *) = r->on_stopped;
    void *arg = r->stopped_arg;
    free(r->reads.links);
    free(r->changes.links);
    free(r);
    on_stopped(arg);
}

static void on_link_closed(void *arg)
{
    on_part_closed(arg);
}

static void on_handle_closed(uv_handle_t *handle)
{
    on_part_closed(handle->data);
}

static void close_pool(struct pool *p)
{
    for (size_t i = 0; i < p->link_count; i++)
        pglink_close(p->links[i].pg, on_link_closed, p->reader); /* what is in flight is answered as lost */
}

static void on_stop_timer(uv_timer_t *timer)
{
    struct reader *r = timer->data;
    if (clock_mono_us() >= r->deadline_us) {
        fail_queue(&r->reads, ERR_SHUTTING_DOWN);
        fail_queue(&r->changes, ERR_SHUTTING_DOWN);
    }
    if (r->reads.head || r->changes.head || (r->waiting > 0 && clock_mono_us() < r->deadline_us))
        return;
    uv_timer_stop(&r->timer);
    uv_check_stop(&r->check);
    r->open_handles = (int)(r->reads.link_count + r->changes.link_count) + 2;
    uv_close((uv_handle_t *)&r->timer, on_handle_closed);
    uv_close((uv_handle_t *)&r->check, on_handle_closed);
    close_pool(&r->reads);
    close_pool(&r->changes);
}

void reader_stop(struct reader *r, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg)
{
    r->stopping = true;
    r->deadline_us = deadline_us;
    r->on_stopped = on_stopped;
    r->stopped_arg = arg;
    uv_timer_start(&r->timer, on_stop_timer, 0, 10);
}
