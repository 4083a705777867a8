/* A partition's records. */
#include "verify/part.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/pgbinary.h"

enum { KEY_LEN = UUID_TEXT_SIZE - 1 };

/* verify_find's own columns */
enum { C_ORD = ROWS_COLUMNS, C_PURGED };

bool part_open(struct part *p, struct verify *v, uint32_t no)
{
    *p = (struct part){.verify = v, .no = no};
    p->aged = v->range[no].low > 0 && v->from[no] == v->range[no].low;
    p->stream = stream_open(v->topic, no, v->from[no], v->range[no].high, v->why, v->why_size);
    return p->stream != NULL;
}

void part_close(struct part *p)
{
    for (size_t i = p->at; i < p->count; i++)
        rd_kafka_message_destroy(p->records[i].message);
    stream_close(p->stream);
}

static bool is_wanted(const struct part *p, const rd_kafka_message_t *m)
{
    const char *campaign = p->verify->options->campaign;
    return !campaign || (m->key_len == KEY_LEN && memcmp(m->key, campaign, KEY_LEN) == 0);
}

bool part_peek(struct part *p, struct record **out)
{
    rd_kafka_message_t *messages[PART_RECORDS];
    struct verify *v = p->verify;
    *out = NULL;
    while (p->at == p->count) {
        size_t count = stream_take(p->stream, messages, PART_RECORDS, v->why, v->why_size);
        if (count == 0)
            return v->why[0] == '\0';
        p->at = p->count = 0;
        for (size_t i = 0; i < count; i++) {
            if (is_wanted(p, messages[i]))
                p->records[p->count++] = (struct record){.message = messages[i]};
            else
                rd_kafka_message_destroy(messages[i]);
        }
        progress_add(&v->progress, (int64_t)count);
    }
    *out = &p->records[p->at];
    return true;
}

void part_next(struct part *p)
{
    rd_kafka_message_destroy(p->records[p->at++].message);
}

bool record_is(const struct record *r, const char *key, const struct buf *value)
{
    const rd_kafka_message_t *m = r->message;
    return m->len == value->len && m->key_len == KEY_LEN && m->payload && memcmp(m->key, key, KEY_LEN) == 0 &&
           memcmp(m->payload, value->data, value->len) == 0;
}

/* --- what records name --- */

/* Reads which event the value says it is. False: none. */
static bool read_name(struct record *r)
{
    const rd_kafka_message_t *m = r->message;
    struct event e;
    char why[80] = "it has no value";
    r->kind = RECORD_UNKNOWN;
    if (!m->payload || !event_parse(m->payload, m->len, &e, why, sizeof why)) {
        snprintf(r->note, sizeof r->note, "%s", why);
        return false;
    }
    bool known = e.type != EVENT_NONE;
    if (known) {
        r->row = (struct event_row){.version = e.version,
                                    .type = e.type,
                                    .at_us = e.at_us,
                                    .id = e.id,
                                    .account_id = e.account_id,
                                    .campaign_id = e.campaign_id};
        snprintf(r->note, sizeof r->note, "there is no such version");
    } else {
        snprintf(r->note, sizeof r->note, "its type is not known");
    }
    event_clear(&e);
    return known;
}

static bool take_event(struct record *r, const PGresult *rows, int i, struct buf *value, char *why, size_t why_size)
{
    struct verify_row row;
    char key[UUID_TEXT_SIZE];
    if (PQgetisnull(rows, i, 0)) {
        r->kind = pgbinary_int(rows, i, C_PURGED) ? RECORD_PURGED : RECORD_UNKNOWN;
        return true;
    }
    if (!rows_decode(rows, i, &row, why, why_size))
        return false;
    buf_clear(value);
    event_value(&row.event, value);
    event_key(&row.event, key);
    bool same_id = uuid_equal(r->row.id, row.event.id);
    bool same_key = r->message->key_len == KEY_LEN && memcmp(r->message->key, key, KEY_LEN) == 0;
    snprintf(r->note, sizeof r->note, "%s", !same_key ? "another key" : !same_id ? "another id" : "another value");
    r->kind = RECORD_EVENT;
    r->exact = record_is(r, key, value);
    r->other = !same_id;
    r->row = row.event;
    r->row.data = NULL;
    r->row.data_len = 0;
    r->aggregate = row.aggregate;
    r->hash = aggregate_hash(key, KEY_LEN);
    return true;
}

static bool take_events(struct record *const *named, size_t count, const PGresult *rows, char *why, size_t why_size)
{
    struct buf value = {0};
    bool ok = true;
    for (int i = 0; ok && i < PQntuples(rows); i++) {
        size_t ord = (size_t)pgbinary_int(rows, i, C_ORD);
        if (ord >= 1 && ord <= count)
            ok = take_event(named[ord - 1], rows, i, &value, why, why_size);
    }
    buf_free(&value);
    return ok;
}

bool part_find(struct part *p)
{
    struct record *named[PART_RECORDS];
    struct buf ids = {0}, versions = {0};
    struct verify *v = p->verify;
    size_t count = 0;
    array_begin(&ids);
    array_begin(&versions);
    for (size_t i = p->at; i < p->count; i++) {
        struct record *r = &p->records[i];
        if (r->kind != RECORD_NEW || !read_name(r))
            continue;
        array_uuid(&ids, aggregate_id(&r->row));
        array_int(&versions, r->row.version);
        named[count++] = r;
    }
    const char *const values[] = {array_end(&ids), array_end(&versions)};
    bool ok = true;
    if (count > 0) {
        PGresult *rows =
            rows_ask(v->ask, "select * from verify_find($1::uuid[], $2::bigint[])", 2, values, v->why, v->why_size);
        ok = rows && take_events(named, count, rows, v->why, v->why_size);
        PQclear(rows);
    }
    buf_free(&ids);
    buf_free(&versions);
    return ok;
}

bool part_takes(const struct verify *v, uint32_t partition, uint32_t hash)
{
    for (uint32_t n = v->options->shards; n <= v->partitions; n += v->options->shards)
        if (hash % n == partition)
            return true;
    return false;
}

struct culprit part_culprit(const struct part *p, const struct record *r)
{
    struct culprit c = CULPRIT_INIT;
    if (r->kind == RECORD_EVENT)
        c = culprit_of(&r->row);
    else if (r->row.version > 0) {
        c.version = r->row.version;
        c.id = r->row.id;
        c.aggregate = aggregate_id(&r->row);
    }
    c.partition = p->no;
    c.offset = r->message->offset;
    return c;
}
