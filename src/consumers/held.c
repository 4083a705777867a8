/* Rows of dead_letters, from and to items. */
#include "consumers/held.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/intake.h"
#include "consumers/keys.h"
#include "consumers/retry.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/uuid.h"
#include "handlers/sql.h"

#define PARKED_REASON "waits for an earlier record of its key"

static const char *bool_text(bool value)
{
    return value ? "t" : "f";
}

/* --- who must wait --- */

/* Whether anything is held at all. */
static bool find_any(struct run *run, const struct handler *h, bool *any, PGresult **failed)
{
    const char *const values[] = {h->group, bool_text(h->strict)};
    PGresult *r = run_sql(run, failed, "select held_any($1, $2)", 2, values);
    *any = r && PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    return r != NULL;
}

static void add_bytes(struct buf *array, const char *data, size_t len)
{
    struct buf hex = {0};
    buf_adds(&hex, "\\x");
    for (size_t i = 0; i < len; i++)
        buf_printf(&hex, "%02x", (unsigned char)data[i]);
    sql_array_text(array, buf_cstr(&hex));
    buf_free(&hex);
}

static bool find_keys(struct run *run, const struct handler *h, struct item *const *items, size_t count,
                      PGresult **failed)
{
    struct buf keys = {0};
    sql_array_begin(&keys);
    for (size_t i = 0; i < count; i++)
        if (items[i]->key && !items[i]->bury)
            add_bytes(&keys, items[i]->key->key, items[i]->key->len);
        else
            sql_array_text(&keys, NULL);
    const char *const values[] = {h->group, sql_array_end(&keys), bool_text(h->strict)};
    PGresult *r = run_sql(run, failed, "select held_keys($1, $2, $3)", 3, values);
    for (int row = 0; r && row < PQntuples(r); row++) {
        long place = strtol(PQgetvalue(r, row, 0), NULL, 10); /* from 1 */
        if (place >= 1 && (size_t)place <= count)
            items[place - 1]->parked = true;
    }
    PQclear(r);
    buf_free(&keys);
    return r != NULL;
}

bool held_find(struct run *run, const struct handler *h, struct item *const *items, size_t count, PGresult **failed)
{
    bool any = false, from_kafka = false;
    for (size_t i = 0; i < count; i++) {
        items[i]->parked = false;
        from_kafka = from_kafka || (items[i]->held_id == 0 && !items[i]->bury);
    }
    if (!from_kafka)
        return true;
    if (!find_any(run, h, &any, failed))
        return false;
    return !any || find_keys(run, h, items, count, failed);
}

/* --- what becomes of them --- */

static const char *const states[] = {[HELD_NOTHING] = NULL,
                                     [HELD_DONE] = "done",
                                     [HELD_RETRY] = "retry",
                                     [HELD_DEAD] = "dead",
                                     [HELD_PARKED] = "parked"};

static struct sql_param bytes(const char *data, size_t len, bool null)
{
    return (struct sql_param){.data = null ? NULL : data, .len = (int)len, .binary = 1};
}

/* A row for a record from Kafka. */
static bool add_row(struct run *run, const struct handler *h, const struct item *it, enum held_end end,
                    PGresult **failed)
{
    const struct record *r = &it->record;
    char partition[16], offset[24], attempts[16], id[UUID_TEXT_SIZE], failed_us[24], wait_ms[24];
    bool parsed = r->event.type != EVENT_NONE, untried = end == HELD_PARKED || r->outcome == OUTCOME_LATER,
         has_key = it->key && !it->bury;
    snprintf(partition, sizeof partition, "%d", (int)r->partition);
    snprintf(offset, sizeof offset, "%lld", (long long)r->offset);
    snprintf(attempts, sizeof attempts, "%d", untried ? r->attempt : r->attempt + 1);
    snprintf(wait_ms, sizeof wait_ms, "%lld", (long long)retry_wait_ms(run->config, r));
    snprintf(failed_us, sizeof failed_us, "%lld", (long long)(r->failed_us ? clock_mono_us() - r->failed_us : 0));
    uuid_format(r->event.id, id);
    const struct sql_param params[] = {
        {.data = h->group},
        {.data = states[end]},
        {.data = run->config->kafka_topic},
        {.data = partition},
        {.data = offset},
        bytes(item_raw_key(it), it->raw_key_len, it->raw_key_null),
        bytes(item_raw_value(it), it->raw_value_len, it->raw_value_null),
        {.data = parsed ? id : NULL},
        {.data = event_type_name(r->event.type)},
        {.data = end == HELD_PARKED ? PARKED_REASON : r->reason},
        {.data = attempts},
        bytes(has_key ? it->key->key : NULL, has_key ? it->key->len : 0, !has_key),
        {.data = untried && r->failed_us == 0 ? NULL : failed_us},
        {.data = wait_ms},
    };
    PGresult *result = sql_exec(run->conn, run->deadline_us, run->stop_at,
                                "select held_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
                                (int)(sizeof params / sizeof params[0]), params);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        *failed = result;
        return false;
    }
    PQclear(result);
    return true;
}

/* The items that were read from rows. */
static bool settle_rows(struct run *run, const struct handler *h, struct item *const *items, const enum held_end *ends,
                        size_t count, PGresult **failed)
{
    struct buf ids = {0}, words = {0}, reasons = {0}, waits = {0};
    sql_array_begin(&ids);
    sql_array_begin(&words);
    sql_array_begin(&reasons);
    sql_array_begin(&waits);
    for (size_t i = 0; i < count; i++)
        if (items[i]->held_id != 0 && ends[i] != HELD_NOTHING) {
            sql_array_int(&ids, items[i]->held_id);
            sql_array_text(&words, states[ends[i]]);
            sql_array_text(&reasons, items[i]->record.reason);
            sql_array_int(&waits, retry_wait_ms(run->config, &items[i]->record));
        }
    const char *const values[] = {h->group,
                                  sql_array_end(&ids),
                                  sql_array_end(&words),
                                  sql_array_end(&reasons),
                                  sql_array_end(&waits),
                                  bool_text(h->ordered),
                                  bool_text(h->strict)};
    PGresult *r = run_sql(run, failed, "select held_settle($1, $2, $3, $4, $5, $6, $7)", 7, values);
    PQclear(r);
    buf_free(&ids);
    buf_free(&words);
    buf_free(&reasons);
    buf_free(&waits);
    return r != NULL;
}

bool held_write(struct run *run, const struct handler *h, struct item *const *items, const enum held_end *ends,
                size_t count, PGresult **failed)
{
    bool rows = false;
    for (size_t i = 0; i < count; i++) {
        if (ends[i] == HELD_NOTHING)
            continue;
        if (items[i]->held_id != 0)
            rows = true;
        else if (ends[i] != HELD_DONE && !add_row(run, h, items[i], ends[i], failed))
            return false;
    }
    return !rows || settle_rows(run, h, items, ends, count, failed);
}

/* --- rows that are due --- */

/* The rows of a statement; NULL: Postgres is away, or does not like it, which is then in the log. */
static PGresult *ask(const struct held_session *s, const char *sql, int count, const char *const *values)
{
    struct sql_param params[8];
    for (int i = 0; i < count; i++)
        params[i] = (struct sql_param){.data = values[i]};
    PGresult *r = sql_exec(s->conn, s->deadline_us, s->stop_at, sql, count, params);
    if (PQresultStatus(r) == PGRES_TUPLES_OK)
        return r;
    if (r)
        log_warn("held records cannot be looked at", "group", s->handler->group, "error",
                 PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
    PQclear(r);
    return NULL;
}

/* held_claim's columns */
enum { ID, PARTITION, OFFSET, KEY, VALUE, ATTEMPTS, FAILED, BLOCKED, NOW };

static int64_t number(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? 0 : strtoll(PQgetvalue(r, row, column), NULL, 10);
}

/* What was so many us ago, by this host's own clock_mono_us: never 0, which means never. */
static int64_t ago(int64_t us)
{
    int64_t at = clock_mono_us() - us;
    return at != 0 ? at : -1;
}

static struct item *read_item(const struct handler *h, const PGresult *r, int row, struct buf *key)
{
    int series;
    struct source_record record = {.partition = (int32_t)number(r, row, PARTITION), .offset = number(r, row, OFFSET)};
    char *raw_key = sql_bytes(r, row, KEY, &record.key_len), *value = sql_bytes(r, row, VALUE, &record.value_len);
    record.key = raw_key;
    record.value = value;
    struct item *it = intake_read(h, &record, key, &series);
    if (!it) {
        it = item_new(&record);
        it->bury = true;
        record_reason(&it->record, "the group does not handle records of this type any more");
    }
    it->held_id = number(r, row, ID);
    it->record.waited = true;
    it->record.attempt = (int)number(r, row, ATTEMPTS);
    if (!PQgetisnull(r, row, FAILED))
        it->record.failed_us = ago(number(r, row, NOW) - number(r, row, FAILED));
    PQfreemem(raw_key);
    PQfreemem(value);
    return it;
}

int held_claim(const struct held_session *s, size_t max, int64_t lease_ms, struct item **items, int64_t *blocked_us)
{
    char limit[24], lease[24];
    struct buf key = {0};
    snprintf(limit, sizeof limit, "%zu", max);
    snprintf(lease, sizeof lease, "%lld", (long long)lease_ms);
    const char *const values[] = {s->handler->group, limit, lease, bool_text(s->handler->ordered),
                                  bool_text(s->handler->strict)};
    PGresult *r = ask(s, "select * from held_claim($1, $2, $3, $4, $5)", 5, values);
    if (!r)
        return -1;
    int count = PQntuples(r);
    for (int row = 0; row < count; row++) {
        items[row] = read_item(s->handler, r, row, &key);
        blocked_us[row] = PQgetisnull(r, row, BLOCKED) ? 0 : ago(number(r, row, BLOCKED));
    }
    PQclear(r);
    buf_free(&key);
    return count;
}

void held_release(const struct held_session *s, struct item *const *items, size_t count)
{
    struct buf ids = {0}, waits = {0}, blocked = {0};
    int64_t now = clock_mono_us();
    size_t rows = 0;
    sql_array_begin(&ids);
    sql_array_begin(&waits);
    sql_array_begin(&blocked);
    for (size_t i = 0; i < count; i++)
        if (items[i]->result == ITEM_BLOCKED || items[i]->result == ITEM_AGAIN) {
            sql_array_int(&ids, items[i]->held_id);
            sql_array_int(&waits, items[i]->due_us > now ? (items[i]->due_us - now) / 1000 : 0);
            sql_array_text(&blocked, bool_text(items[i]->result == ITEM_BLOCKED));
            rows++;
        }
    const char *const values[] = {sql_array_end(&ids), sql_array_end(&waits), sql_array_end(&blocked)};
    if (rows > 0)
        PQclear(ask(s, "select held_release($1, $2, $3)", 3, values));
    buf_free(&ids);
    buf_free(&waits);
    buf_free(&blocked);
}

bool held_sweep(const struct held_session *s)
{
    const char *const values[] = {s->handler->group, bool_text(s->handler->strict)};
    PGresult *r = ask(s, "select held_sweep($1, $2)", 2, values);
    PQclear(r);
    return r != NULL;
}

bool held_count(const struct held_session *s, int64_t limit, struct held_counts *counts)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)limit);
    const char *const values[] = {s->handler->group, text};
    PGresult *r = ask(s, "select * from held_counts($1, $2)", 2, values);
    if (r)
        *counts = (struct held_counts){.retry = number(r, 0, 0), .parked = number(r, 0, 1), .dead = number(r, 0, 2)};
    PQclear(r);
    return r != NULL;
}
