/* The transactions of a run. */
#include "consumers/run_tx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/dispatch.h"
#include "consumers/held.h"
#include "consumers/publisher.h"
#include "consumers/retry.h"
#include "core/break.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/pg.h"
#include "handlers/sql.h"

struct tx {
    const struct run_env *env;
    struct item *const *items;
    size_t count;
    struct run run;
    struct outputs outputs;
    PGresult *failed;
    bool behind;
    bool settling;    /* what call was for is done */
    char misdeed[80]; /* what the handler must not do, "": nothing; its transaction is rolled back as for bad data */
};

/* --- dedupe rows --- */

/* Claims the records' events for the group: what is claimed already, or too old to tell, is known. How old it is tells
 * Postgres' clock, which the events' own times are of. */
static bool claim(struct tx *t)
{
    struct run *run = &t->run;
    struct buf ids = {0}, times = {0};
    char keep_days[24];
    snprintf(keep_days, sizeof keep_days, "%lld", (long long)run->config->handled_keep_days);
    sql_array_begin(&ids);
    sql_array_begin(&times);
    for (size_t i = 0; i < run->count; i++) {
        const struct event *e = &run->records[i]->event;
        char at[RFC3339_SIZE];
        rfc3339_format(e->at_us, at);
        sql_array_uuid(&ids, e->id);
        sql_array_text(&times, at);
        run->records[i]->known = true;
    }
    const char *const values[] = {t->env->handler->group, sql_array_end(&ids), sql_array_end(&times),
                                  t->env->handler->any_age ? NULL : keep_days};
    PGresult *r = run_sql(run, &t->failed, "select * from handled_claim($1, $2, $3, $4)", 4, values);
    for (int row = 0; r && row < PQntuples(r); row++) {
        long place = strtol(PQgetvalue(r, row, 0), NULL, 10); /* from 1 */
        if (place >= 1 && (size_t)place <= run->count)
            run->records[place - 1]->known = false;
    }
    PQclear(r);
    buf_free(&ids);
    buf_free(&times);
    return r != NULL;
}

/* A record that is not done has had no effect: its event must not count as handled when it comes again. */
static bool unclaim(struct tx *t)
{
    struct buf ids = {0};
    size_t count = 0;
    sql_array_begin(&ids);
    for (size_t i = 0; i < t->run.count; i++) {
        const struct record *record = t->run.records[i];
        if (record->outcome == OUTCOME_DONE || record->known)
            continue;
        sql_array_uuid(&ids, record->event.id);
        count++;
    }
    const char *const values[] = {t->env->handler->group, sql_array_end(&ids)};
    PGresult *r = NULL;
    if (count > 0)
        r = run_sql(&t->run, &t->failed, "select handled_release($1, $2)", 2, values);
    PQclear(r);
    buf_free(&ids);
    return count == 0 || r != NULL;
}

/* --- handlers that misbehave --- */

/* Whether the handler has left its transaction as it found it: else what it did may not be what is committed. */
static bool left_transaction_good(struct tx *t)
{
    const char *what = NULL;
    switch (PQtransactionStatus(t->run.conn)) {
    case PQTRANS_IDLE: what = "the handler has ended its transaction"; break;
    case PQTRANS_ACTIVE: what = "the handler has left a statement unfinished"; break;
    case PQTRANS_INERROR: what = "the handler went on after a statement of its has failed"; break;
    default: break; /* good; or the connection is lost, which the next statement notices */
    }
    snprintf(t->misdeed, sizeof t->misdeed, "%s", what ? what : "");
    return !what;
}

/* Whether its outcomes are some: one that is none would be taken for finished, and the record would be lost. */
static bool gave_outcomes(struct tx *t)
{
    for (size_t i = 0; i < t->run.count; i++)
        if (!outcome_known(t->run.records[i]->outcome)) {
            snprintf(t->misdeed, sizeof t->misdeed, "the handler gave an outcome that is none: %d",
                     (int)t->run.records[i]->outcome);
            return false;
        }
    return true;
}

/* Calls the handler for a step of its. */
static bool take_step(struct tx *t, bool (*step)(struct run *run, PGresult **failed))
{
    return step(&t->run, &t->failed) && left_transaction_good(t) && gave_outcomes(t);
}

/* --- what is done within the transaction --- */

/* Takes those out of the run that must wait behind others of their key; they get their rows in its commit. */
static bool park(struct tx *t)
{
    size_t kept = 0;
    if (!t->env->handler->ordered)
        return true;
    if (!held_find(&t->run, t->env->handler, t->items, t->count, &t->failed))
        return false;
    for (size_t i = 0; i < t->count; i++)
        if (!t->items[i]->bury && !t->items[i]->parked)
            t->run.records[kept++] = &t->items[i]->record;
    t->run.count = kept;
    return true;
}

/* Whether later records of its key must not have their effect now. */
static bool stops(const struct handler *h, const struct item *it)
{
    if (it->hold)
        return h->ordered;
    if (it->record.outcome == OUTCOME_REJECT)
        return h->ordered && h->strict;
    return it->record.outcome != OUTCOME_DONE;
}

/* Order within a key: nothing that comes after a record that must be tried again may stay. */
static bool find_behind(const struct handler *h, struct item *const *items, size_t count)
{
    bool found = false, blocked = false;
    for (size_t i = 0; i < count; i++) {
        blocked = (i > 0 && item_same_key(items[i], items[i - 1]) && blocked) || stops(h, items[i]);
        if (blocked && !stops(h, items[i])) {
            items[i]->result = ITEM_BEHIND;
            found = true;
        }
    }
    return found;
}

static enum held_end end_of(const struct tx *t, const struct item *it)
{
    const struct record *r = &it->record;
    if (r->outcome == OUTCOME_REJECT)
        return HELD_DEAD;
    if (it->parked)
        return HELD_PARKED;
    if (it->hold)
        return HELD_RETRY;
    return r->outcome == OUTCOME_DONE && (!r->call || t->settling) ? HELD_DONE : HELD_NOTHING;
}

/* The rows of what is not simply done, in the commit that makes it so. */
static bool write_held(struct tx *t)
{
    enum held_end *ends = xmalloc((t->count + 1) * sizeof *ends);
    for (size_t i = 0; i < t->count; i++)
        ends[i] = end_of(t, t->items[i]);
    bool ok = held_write(&t->run, t->env->handler, t->items, ends, t->count, &t->failed);
    free(ends);
    return ok;
}

/* The same for records that never come to settle: their own rows must not look as if they were under way. */
static bool give_up_rejected(struct tx *t)
{
    const struct handler *h = t->env->handler;
    struct run run = t->run;
    bool ok = true;
    if (h->give_up) {
        run.records = xmalloc((t->run.count + 1) * sizeof(struct record *));
        run.count = 0;
        for (size_t i = 0; i < t->run.count; i++)
            if (t->run.records[i]->outcome == OUTCOME_REJECT)
                run.records[run.count++] = t->run.records[i];
        ok = run.count == 0 || h->give_up(&run, &t->failed);
        free(run.records);
    }
    return ok && write_held(t);
}

static void decide(struct tx *t)
{
    int64_t now = clock_mono_us();
    for (size_t i = 0; i < t->count; i++)
        retry_decide(t->env->config, t->items[i], now);
}

static bool apply_body(struct tx *t)
{
    const struct handler *h = t->env->handler;
    if (!park(t))
        return false;
    if (t->run.count > 0 && h->dedupe && !claim(t))
        return false;
    if (t->run.count > 0 && !take_step(t, h->apply))
        return false;
    decide(t);
    t->behind = find_behind(h, t->items, t->count);
    return !t->behind && (!h->dedupe || unclaim(t)) && give_up_rejected(t);
}

static bool settle_body(struct tx *t)
{
    t->settling = true;
    decide(t);
    return take_step(t, t->env->handler->settle) && write_held(t);
}

/* --- begin, commit, rollback --- */

static bool command(struct tx *t, const char *sql, const char *tag)
{
    PGresult *r = run_sql(&t->run, &t->failed, sql, 0, NULL);
    bool ok = r && strcmp(PQcmdStatus(r), tag) == 0; /* the commit of a failed transaction answers ROLLBACK */
    PQclear(r);
    return ok;
}

static enum tx_end explain(struct tx *t, char *why, size_t why_size)
{
    if (t->misdeed[0]) {
        snprintf(why, why_size, "%s", t->misdeed);
        return TX_DATA;
    }
    const char *text = t->failed ? PQresultErrorField(t->failed, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    snprintf(why, why_size, "%s", text ? text : "the connection to Postgres was lost");
    if (!t->failed)
        return TX_AWAY;
    switch (pg_classify(t->run.conn, t->failed)) {
    case PG_DATA: return TX_DATA;
    case PG_BUG:
        log_error("a group's statement is refused by Postgres", "group", t->env->handler->group, "error", why);
        return TX_AWAY;
    default: return TX_AWAY;
    }
}

/* Before the run's records count as finished. */
static void pass_on_output(struct tx *t, enum tx_end end)
{
    if (end != TX_COMMITTED || !t->env->publisher) {
        outputs_clear(&t->outputs);
        return;
    }
    break_die("die-applied");
    for (size_t i = 0; i < t->count; i++)
        t->items[i]->record.progress = t->items[i]->record.progress_next;
    const struct partition *p = t->items[0]->partition; /* all of one assignment */
    publisher_add(t->env->publisher, p ? p->assignment : PUBLISHER_ANY, &t->outputs);
}

static enum tx_end transaction(struct tx *t, bool (*body)(struct tx *), char *why, size_t why_size)
{
    const struct run_env *env = t->env;
    int64_t start = clock_mono_us();
    t->run.config = env->config;
    t->run.stop_at = env->stop_at;
    t->run.outputs = env->publisher ? &t->outputs : NULL;
    t->run.conn = db_pool_take(env->db, start + env->config->db_stall_ms * 1000, why, why_size);
    if (!t->run.conn)
        return TX_AWAY;
    t->run.deadline_us = clock_mono_us() + db_pool_statement_us(env->db);
    enum tx_end end = TX_COMMITTED;
    if (!command(t, "begin", "BEGIN") || !body(t) || !command(t, "commit", "COMMIT")) {
        end = t->behind ? TX_BEHIND : explain(t, why, why_size);
        PQclear(t->failed);
        t->failed = NULL;
        if (PQtransactionStatus(t->run.conn) != PQTRANS_IDLE)
            command(t, "rollback", "ROLLBACK"); /* a statement that was left unfinished costs the connection */
    }
    PQclear(t->failed);
    db_pool_give(env->db, t->run.conn);
    pass_on_output(t, end);
    return end;
}

/* The records that the handler shall see. The array is the caller's to free. */
static struct record **records_of(struct item *const *items, size_t count, size_t *record_count)
{
    struct record **records = xmalloc((count + 1) * sizeof(struct record *));
    *record_count = 0;
    for (size_t i = 0; i < count; i++)
        if (!items[i]->bury)
            records[(*record_count)++] = &items[i]->record;
    return records;
}

static enum tx_end run_tx(const struct run_env *env, void *worker, struct item *const *items, size_t count,
                          bool (*body)(struct tx *), char *why, size_t why_size)
{
    struct tx t = {.env = env, .items = items, .count = count, .run.worker = worker};
    t.run.records = records_of(items, count, &t.run.count);
    enum tx_end end = transaction(&t, body, why, why_size);
    free(t.run.records);
    return end;
}

enum tx_end run_tx_apply(const struct run_env *env, void *worker, struct item *const *items, size_t count, char *why,
                         size_t why_size)
{
    return run_tx(env, worker, items, count, apply_body, why, why_size);
}

enum tx_end run_tx_settle(const struct run_env *env, void *worker, struct item *const *items, size_t count, char *why,
                          size_t why_size)
{
    return run_tx(env, worker, items, count, settle_body, why, why_size);
}

enum tx_end run_tx_put_aside(const struct run_env *env, struct item *const *items, size_t count, char *why,
                             size_t why_size)
{
    return run_tx(env, NULL, items, count, give_up_rejected, why, why_size);
}
