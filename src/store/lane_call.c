/* The call of a lane: encodes a batch as binary parameters, decodes its rows. sql/fn_lanes.sql is the other side. */
#include "store/lane_call.h"

#include <stdlib.h>
#include <string.h>

#include "core/pg.h"

/* Parameters of lane_apply. */
enum {
    P_SHARDS,
    S_ACCOUNT,
    S_CAMPAIGN,
    S_ID,
    S_EVENT,
    S_REFERRER,
    S_EMAIL_KEY,
    S_EMAIL,
    S_METADATA,
    V_ACCOUNT,
    V_CAMPAIGN,
    V_USER,
    V_PLACE,
    V_EVENT,
};

static const uint32_t element_oid[LANE_CALL_PARAMS] = {
    [P_SHARDS] = PG_OID_INT4,   [S_ACCOUNT] = PG_OID_INT4,  [S_CAMPAIGN] = PG_OID_UUID,  [S_ID] = PG_OID_UUID,
    [S_EVENT] = PG_OID_UUID,    [S_REFERRER] = PG_OID_INT4, [S_EMAIL_KEY] = PG_OID_TEXT, [S_EMAIL] = PG_OID_TEXT,
    [S_METADATA] = PG_OID_TEXT, [V_ACCOUNT] = PG_OID_INT4,  [V_CAMPAIGN] = PG_OID_UUID,  [V_USER] = PG_OID_UUID,
    [V_PLACE] = PG_OID_INT4,    [V_EVENT] = PG_OID_UUID,
};

/* Columns of the rows. */
enum {
    C_OF_ACTION,
    C_ERR,
    C_OBJECT_ID,
    C_PLACE,
    C_LANDING_URL,
    C_ACCOUNT_ID,
    C_SHARD,
    C_SEQ,
    C_VERSION,
    C_TYPE,
    C_AT,
    C_EVENT_ID,
    C_DATA,
    COLUMNS
};

/* Outcomes of sql/fn_lanes.sql. */
enum {
    OUT_DONE = 0,
    OUT_NO_CAMPAIGN = 1,
    OUT_EMAIL_TAKEN = 2,
    OUT_NO_REFERRER = 3,
    OUT_NO_USER = 4,
    OUT_DONE_BEFORE = 5,
    OUT_AGAIN = 9
};

static const int64_t PG_EPOCH_US = 946684800000000; /* 2000-01-01 in microseconds since 1970 */

bool lane_call_batched(enum action_kind kind)
{
    return kind != ACTION_CREATE_CAMPAIGN;
}

bool lane_call_prepare(PGconn *conn, char *why, size_t why_size)
{
    return pg_prepare(conn, "lane_apply", "select * from lane_apply($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)",
                      why, why_size) &&
           pg_prepare(conn, "lane_create_campaign", "select * from lane_create_campaign($1,$2,$3,$4,$5,$6)", why,
                      why_size);
}

/* Sign-ups first, each kind in arrival order: a stable partition. */
static void sign_ups_first(struct action **batch, size_t count)
{
    bool mixed = false;
    for (size_t i = 1; i < count; i++)
        mixed |= batch[i]->kind != batch[0]->kind;
    if (!mixed)
        return;
    struct action **others = xmalloc(count * sizeof *others);
    size_t sign_ups = 0, rest = 0;
    for (size_t i = 0; i < count; i++) {
        if (batch[i]->kind == ACTION_SIGN_UP)
            batch[sign_ups++] = batch[i];
        else
            others[rest++] = batch[i];
    }
    memcpy(batch + sign_ups, others, rest * sizeof *others);
    free(others);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Each shard once, ascending: the order in which they are locked. */
static void add_shards(struct pgarray *array, struct action *const *batch, size_t count)
{
    uint32_t *shards = xmalloc(count * sizeof *shards);
    for (size_t i = 0; i < count; i++)
        shards[i] = batch[i]->shard;
    qsort(shards, count, sizeof *shards, compare_u32);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || shards[i] != shards[i - 1])
            pgarray_int(array, (int32_t)shards[i]);
    free(shards);
}

static void add_sign_up(struct lane_call *call, const struct action *a)
{
    bool as_key = a->email.len == a->email_key.len && memcmp(a->email.data, a->email_key.data, a->email.len) == 0;
    pgarray_int(&call->arrays[S_ACCOUNT], (int32_t)a->account_no);
    pgarray_uuid(&call->arrays[S_CAMPAIGN], a->campaign_id);
    pgarray_uuid(&call->arrays[S_ID], a->object_id);
    pgarray_uuid(&call->arrays[S_EVENT], a->event_id);
    pgarray_int(&call->arrays[S_REFERRER], (int32_t)a->referrer_place);
    pgarray_text(&call->arrays[S_EMAIL_KEY], a->email_key);
    pgarray_text(&call->arrays[S_EMAIL], as_key ? (struct text){NULL, 0} : a->email);
    pgarray_text(&call->arrays[S_METADATA], a->metadata);
}

static void add_verify(struct lane_call *call, const struct action *a)
{
    pgarray_int(&call->arrays[V_ACCOUNT], (int32_t)a->account_no);
    pgarray_uuid(&call->arrays[V_CAMPAIGN], a->campaign_id);
    pgarray_uuid(&call->arrays[V_USER], a->user_id);
    pgarray_int(&call->arrays[V_PLACE], (int32_t)(uuid_place(a->user_id) & 0x7fffffff));
    pgarray_uuid(&call->arrays[V_EVENT], a->event_id);
}

static bool send_batch(struct lane_call *call, struct pglink *link, struct action **batch, size_t count,
                       pglink_done done, void *arg)
{
    sign_ups_first(batch, count);
    for (int i = 0; i < LANE_CALL_PARAMS; i++)
        pgarray_begin(&call->arrays[i], element_oid[i]);
    add_shards(&call->arrays[P_SHARDS], batch, count);
    for (size_t i = 0; i < count; i++) {
        if (batch[i]->kind == ACTION_SIGN_UP)
            add_sign_up(call, batch[i]);
        else
            add_verify(call, batch[i]);
    }
    for (int i = 0; i < LANE_CALL_PARAMS; i++) {
        pgarray_end(&call->arrays[i]);
        call->values[i] = call->arrays[i].buf.data;
        call->lengths[i] = (int)call->arrays[i].buf.len;
        call->formats[i] = 1;
    }
    return pglink_send(link, "lane_apply", LANE_CALL_PARAMS, call->values, call->lengths, call->formats, 1, done, arg);
}

static bool send_create_campaign(struct lane_call *call, struct pglink *link, const struct action *a, pglink_done done,
                                 void *arg)
{
    char account[UUID_TEXT_SIZE], campaign[UUID_TEXT_SIZE], event[UUID_TEXT_SIZE];
    uuid_format(a->account_id, account);
    uuid_format(a->campaign_id, campaign);
    uuid_format(a->event_id, event);
    for (int i = 0; i < 6; i++)
        buf_clear(&call->solo[i]);
    buf_add_int(&call->solo[0], a->shard);
    buf_add_int(&call->solo[1], a->account_no);
    buf_adds(&call->solo[2], account);
    buf_adds(&call->solo[3], campaign);
    buf_adds(&call->solo[4], event);
    buf_add(&call->solo[5], a->settings.data, a->settings.len);
    for (int i = 0; i < 6; i++) {
        call->values[i] = buf_cstr(&call->solo[i]);
        call->lengths[i] = 0;
        call->formats[i] = 0;
    }
    return pglink_send(link, "lane_create_campaign", 6, call->values, call->lengths, call->formats, 1, done, arg);
}

bool lane_call_send(struct lane_call *call, struct pglink *link, struct action **batch, size_t count, pglink_done done,
                    void *arg)
{
    if (!lane_call_batched(batch[0]->kind))
        return send_create_campaign(call, link, batch[0], done, arg);
    return send_batch(call, link, batch, count, done, arg);
}

/* Binary columns. */
static uint64_t get_be(const PGresult *r, int row, int column)
{
    const uint8_t *p = (const uint8_t *)PQgetvalue(r, row, column);
    uint64_t v = 0;
    for (int i = 0; i < PQgetlength(r, row, column); i++)
        v = v << 8 | p[i];
    return v;
}

static struct uuid get_uuid(const PGresult *r, int row, int column)
{
    struct uuid id = {{0}};
    if (PQgetlength(r, row, column) == (int)sizeof id.b)
        memcpy(id.b, PQgetvalue(r, row, column), sizeof id.b);
    return id;
}

static struct text get_text(const PGresult *r, int row, int column)
{
    if (PQgetisnull(r, row, column))
        return (struct text){NULL, 0};
    return (struct text){PQgetvalue(r, row, column), (size_t)PQgetlength(r, row, column)};
}

static enum err outcome_err(int outcome)
{
    switch (outcome) {
    case OUT_DONE:
    case OUT_DONE_BEFORE: return ERR_NONE;
    case OUT_NO_CAMPAIGN: return ERR_NO_CAMPAIGN;
    case OUT_EMAIL_TAKEN: return ERR_EMAIL_TAKEN;
    case OUT_NO_REFERRER: return ERR_NO_REFERRER;
    case OUT_NO_USER: return ERR_NO_USER;
    default: return ERR_INTERNAL;
    }
}

static void decode_event(struct lane_call *call, const PGresult *r, int i, const struct action *a,
                         struct action_result *result)
{
    struct event_row *row = &call->rows[call->row_count++];
    struct text data = get_text(r, i, C_DATA);
    *row = (struct event_row){
        .shard = (uint32_t)get_be(r, i, C_SHARD),
        .seq = (int64_t)get_be(r, i, C_SEQ),
        .version = (int64_t)get_be(r, i, C_VERSION),
        .type = (enum event_type)get_be(r, i, C_TYPE),
        .format = EVENT_FORMAT,
        .at_us = (int64_t)get_be(r, i, C_AT) + PG_EPOCH_US,
        .id = get_uuid(r, i, C_EVENT_ID),
        .account_id = get_uuid(r, i, C_ACCOUNT_ID),
        .campaign_id = a->campaign_id,
        .data = data.data,
        .data_len = data.len,
    };
    result->events++;
    result->at_us = row->at_us;
    if (row->version > result->version)
        result->version = row->version;
}

static int compare_rows(const void *a, const void *b)
{
    const struct event_row *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void decode_reserve(struct lane_call *call, size_t rows, size_t count)
{
    if (rows > call->row_size) {
        call->row_size = rows;
        call->rows = xrealloc(call->rows, rows * sizeof *call->rows);
    }
    if (count > call->result_size) {
        call->result_size = count;
        call->results = xrealloc(call->results, count * sizeof *call->results);
        call->again = xrealloc(call->again, count * sizeof *call->again);
    }
    call->row_count = 0;
    for (size_t i = 0; i < count; i++) {
        call->results[i] = (struct action_result){.err = ERR_INTERNAL};
        call->again[i] = false;
    }
}

bool lane_call_decode(struct lane_call *call, const PGresult *result, struct action *const *batch, size_t count)
{
    int rows = PQntuples(result);
    if (PQnfields(result) != COLUMNS)
        return false;
    decode_reserve(call, (size_t)rows, count);
    for (int i = 0; i < rows; i++) {
        size_t of = (size_t)get_be(result, i, C_OF_ACTION) - 1;
        if (of >= count)
            return false;
        struct action_result *a = &call->results[of];
        int outcome = (int)get_be(result, i, C_ERR);
        call->again[of] = outcome == OUT_AGAIN;
        a->err = outcome_err(outcome);
        a->id = get_uuid(result, i, C_OBJECT_ID);
        a->place = (uint32_t)get_be(result, i, C_PLACE);
        a->landing_url = get_text(result, i, C_LANDING_URL);
        if (!PQgetisnull(result, i, C_SEQ))
            decode_event(call, result, i, batch[of], a);
        else if (outcome == OUT_DONE_BEFORE)
            a->version = (int64_t)get_be(result, i, C_VERSION);
    }
    qsort(call->rows, call->row_count, sizeof *call->rows, compare_rows);
    return true;
}

void lane_call_free(struct lane_call *call)
{
    for (int i = 0; i < LANE_CALL_PARAMS; i++)
        pgarray_free(&call->arrays[i]);
    for (int i = 0; i < 6; i++)
        buf_free(&call->solo[i]);
    free(call->rows);
    free(call->results);
    free(call->again);
    memset(call, 0, sizeof *call);
}
