/* The call of a lane: encodes a batch as binary parameters, decodes its rows. sql/fn_lanes.sql is the other side. */
#include "store/lane_call.h"

#include <stdlib.h>
#include <string.h>

#include "core/pg.h"
#include "core/pgbinary.h"

/* Parameters of lane_apply, all of them arrays: name, element type. */
/* clang-format off */
#define PARAMS(X)                                                                                                      \
    X(P_SHARDS, INT4)                                                                                                  \
    X(S_ACCOUNT, INT4) X(S_CAMPAIGN, UUID) X(S_ID, UUID) X(S_EVENT, UUID) X(S_REFERRER, INT4) X(S_EMAIL_KEY, TEXT)     \
    X(S_EMAIL, TEXT) X(S_METADATA, TEXT) X(S_SOURCE, TEXT)                                                             \
    X(V_ACCOUNT, INT4) X(V_CAMPAIGN, UUID) X(V_USER, UUID) X(V_PLACE, INT4) X(V_EVENT, UUID)                           \
    X(A_KIND, INT4) X(A_SHARD, INT4) X(A_ACCOUNT, INT4) X(A_ACCOUNT_ID, UUID) X(A_CAMPAIGN, UUID) X(A_SUBJECT, UUID)   \
    X(A_EVENT, UUID) X(A_ARGS, TEXT)                                                                                   \
    X(K_OF, INT4) X(K_SHARD, INT4) X(K_CAMPAIGN, UUID) X(K_KEY, UUID) X(K_REQUEST, UUID) X(K_KEEP_S, INT4)
/* clang-format on */

enum {
#define PARAM_ENUM(name, type) name,
    PARAMS(PARAM_ENUM)
#undef PARAM_ENUM
        PARAM_COUNT
};
_Static_assert(PARAM_COUNT == LANE_CALL_PARAMS, "the header reserves room for them");

static const uint32_t element_oid[] = {
#define PARAM_OID(name, type) [name] = PG_OID_##type,
    PARAMS(PARAM_OID)
#undef PARAM_OID
};

/* Columns of the rows. */
enum {
    C_OF_ACTION,
    C_ERR,
    C_OBJECT_ID,
    C_PLACE,
    C_EXTRA,
    C_ACCOUNT_ID,
    C_SHARD,
    C_SEQ,
    C_VERSION,
    C_TYPE,
    C_AT,
    C_EVENT_ID,
    C_DATA,
    C_EVENTS,
    COLUMNS
};

/* Outcomes of sql/fn_lanes.sql. */
enum { OUT_DONE_BEFORE = 5, OUT_AGAIN = 9 };

static const enum err outcomes[] = {
    [0] = ERR_NONE,
    [1] = ERR_NO_CAMPAIGN,
    [2] = ERR_EMAIL_TAKEN,
    [3] = ERR_NO_REFERRER,
    [4] = ERR_NO_USER,
    [OUT_DONE_BEFORE] = ERR_NONE,
    [6] = ERR_CAMPAIGN_CLOSED,
    [7] = ERR_CAMPAIGN_OPEN,
    [8] = ERR_VERSION_CONFLICT,
    [OUT_AGAIN] = ERR_INTERNAL, /* never answered: it comes again */
    [10] = ERR_KEY_REUSED,
    [11] = ERR_HAS_REFERRER,
    [12] = ERR_SELF_REFERRAL,
    [13] = ERR_ALREADY_VERIFIED,
    [14] = ERR_TOO_SOON,
    [15] = ERR_LIMIT_REACHED,
    [16] = ERR_NO_REWARD,
    [17] = ERR_OUT_OF_STOCK,
    [18] = ERR_ALREADY_EARNED,
    [19] = ERR_NO_REFERRAL,
};

bool lane_call_prepare(PGconn *conn, char *why, size_t why_size)
{
    return pg_prepare_call(conn, "lane_apply", PARAM_COUNT, why, why_size);
}

/* Where an action stands in a batch's order: sign-ups, verifications, others. */
static int rank(const struct action *a)
{
    return a->kind == ACTION_SIGN_UP ? 0 : a->kind == ACTION_VERIFY ? 1 : 2;
}

bool lane_call_one_by_one(const struct action *a)
{
    return rank(a) == 2;
}

/* Each kind in arrival order. */
static void order_by_rank(struct action **batch, size_t count)
{
    bool ordered = true;
    for (size_t i = 1; i < count; i++)
        ordered = ordered && rank(batch[i - 1]) <= rank(batch[i]);
    if (ordered)
        return;
    struct action **copy = xmalloc(count * sizeof(struct action *));
    size_t put = 0;
    memcpy(copy, batch, count * sizeof *batch);
    for (int r = 0; r <= 2; r++)
        for (size_t i = 0; i < count; i++)
            if (rank(copy[i]) == r)
                batch[put++] = copy[i];
    free(copy);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Each shard once, ascending: the order in which they are locked. */
static void add_shards(struct pgarray *array, struct action *const *batch, size_t count)
{
    uint32_t *shards = xmalloc(2 * count * sizeof *shards);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        shards[n++] = batch[i]->shard;
        if (batch[i]->key.given && batch[i]->key.shard != batch[i]->shard)
            shards[n++] = batch[i]->key.shard;
    }
    qsort(shards, n, sizeof *shards, compare_u32);
    for (size_t i = 0; i < n; i++)
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
    pgarray_text(&call->arrays[S_SOURCE], a->source);
}

static void add_verify(struct lane_call *call, const struct action *a)
{
    pgarray_int(&call->arrays[V_ACCOUNT], (int32_t)a->account_no);
    pgarray_uuid(&call->arrays[V_CAMPAIGN], a->campaign_id);
    pgarray_uuid(&call->arrays[V_USER], a->subject);
    pgarray_int(&call->arrays[V_PLACE], (int32_t)(uuid_place(a->subject) & 0x7fffffff));
    pgarray_uuid(&call->arrays[V_EVENT], a->event_id);
}

static void add_other(struct lane_call *call, const struct action *a)
{
    pgarray_int(&call->arrays[A_KIND], (int32_t)a->kind);
    pgarray_int(&call->arrays[A_SHARD], (int32_t)a->shard);
    pgarray_int(&call->arrays[A_ACCOUNT], (int32_t)a->account_no);
    pgarray_uuid(&call->arrays[A_ACCOUNT_ID], a->account_id);
    pgarray_uuid(&call->arrays[A_CAMPAIGN], a->campaign_id);
    pgarray_uuid(&call->arrays[A_SUBJECT], a->subject);
    pgarray_uuid(&call->arrays[A_EVENT], a->event_id);
    pgarray_text(&call->arrays[A_ARGS], a->args.data ? a->args : (struct text){"{}", 2});
}

static void add_key(struct lane_call *call, const struct action_key *key, size_t place)
{
    pgarray_int(&call->arrays[K_OF], (int32_t)place);
    pgarray_int(&call->arrays[K_SHARD], (int32_t)key->shard);
    pgarray_uuid(&call->arrays[K_CAMPAIGN], key->campaign);
    pgarray_uuid(&call->arrays[K_KEY], key->key);
    pgarray_uuid(&call->arrays[K_REQUEST], key->request);
    pgarray_int(&call->arrays[K_KEEP_S], key->keep_s);
}

bool lane_call_send(struct lane_call *call, struct pglink *link, struct action **batch, size_t count, pglink_done done,
                    void *arg)
{
    static void (*const add[])(struct lane_call *, const struct action *) = {add_sign_up, add_verify, add_other};
    order_by_rank(batch, count);
    for (int i = 0; i < PARAM_COUNT; i++)
        pgarray_begin(&call->arrays[i], element_oid[i]);
    add_shards(&call->arrays[P_SHARDS], batch, count);
    for (size_t i = 0; i < count; i++) {
        add[rank(batch[i])](call, batch[i]);
        if (batch[i]->key.given)
            add_key(call, &batch[i]->key, i + 1);
    }
    pgarray_params(call->arrays, PARAM_COUNT, call->values, call->lengths, call->formats);
    return pglink_send(link, "lane_apply", PARAM_COUNT, call->values, call->lengths, call->formats, 1, done, arg);
}

static struct text get_text(const PGresult *r, int row, int column)
{
    if (PQgetisnull(r, row, column))
        return (struct text){NULL, 0};
    return (struct text){PQgetvalue(r, row, column), (size_t)PQgetlength(r, row, column)};
}

static void decode_event(struct lane_result *out, const PGresult *r, int i, const struct action *a,
                         struct action_result *result)
{
    struct event_row *row = &out->rows[out->row_count++];
    struct text data = get_text(r, i, C_DATA);
    *row = (struct event_row){
        .shard = (uint32_t)pgbinary_int(r, i, C_SHARD),
        .seq = (int64_t)pgbinary_int(r, i, C_SEQ),
        .version = (int64_t)pgbinary_int(r, i, C_VERSION),
        .type = (enum event_type)pgbinary_int(r, i, C_TYPE),
        .format = EVENT_FORMAT,
        .at_us = pgbinary_time_us(r, i, C_AT),
        .id = pgbinary_uuid(r, i, C_EVENT_ID),
        .account_id = pgbinary_uuid(r, i, C_ACCOUNT_ID),
        .campaign_id = a->campaign_id,
        .data = data.data,
        .data_len = data.len,
    };
    lane_result_count(result, row);
}

/* A row without an event: only an outcome, or an answer given before. */
static void decode_outcome(const PGresult *r, int i, struct action_result *result)
{
    result->replayed = !PQgetisnull(r, i, C_EVENTS);
    result->events = (int)pgbinary_int(r, i, C_EVENTS);
    result->version = (int64_t)pgbinary_int(r, i, C_VERSION);
    result->at_us = pgbinary_time_us(r, i, C_AT);
}

bool lane_call_decode(struct lane_result *out, const PGresult *r, struct action *const *batch, size_t count)
{
    int rows = PQntuples(r);
    if (PQnfields(r) != COLUMNS)
        return false;
    lane_result_begin(out, (size_t)rows, count);
    for (int i = 0; i < rows; i++) {
        size_t of = (size_t)pgbinary_int(r, i, C_OF_ACTION) - 1;
        size_t outcome = (size_t)pgbinary_int(r, i, C_ERR);
        if (of >= count || outcome >= sizeof outcomes / sizeof *outcomes)
            return false;
        struct action_result *a = &out->results[of];
        bool first = a->err == ERR_INTERNAL; /* of this action: what it says besides its event counts for all */
        out->again[of] = outcome == OUT_AGAIN;
        a->err = outcomes[outcome];
        if (first) {
            a->id = pgbinary_uuid(r, i, C_OBJECT_ID);
            a->place = (uint32_t)pgbinary_int(r, i, C_PLACE);
            a->extra = get_text(r, i, C_EXTRA);
        }
        if (!PQgetisnull(r, i, C_SEQ))
            decode_event(out, r, i, batch[of], a);
        else
            decode_outcome(r, i, a);
    }
    lane_result_sort(out);
    return true;
}

void lane_call_free(struct lane_call *call)
{
    for (int i = 0; i < LANE_CALL_PARAMS; i++)
        pgarray_free(&call->arrays[i]);
    memset(call, 0, sizeof *call);
}
