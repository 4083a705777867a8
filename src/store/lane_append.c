/* The short road: numbers sign-ups, encodes them, reads what became of them. */
#include "store/lane_append.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/members.h"
#include "core/pg.h"
#include "core/pgbinary.h"
#include "store/pgarray.h"

/* Parameters of lane_append, all of them arrays: name, element type. */
/* clang-format off */
#define PARAMS(X)                                                                                                      \
    X(P_SHARDS, INT4) X(P_HEADS, INT8)                                                                                 \
    X(U_CAMPAIGN, INT4) X(U_PLACE, INT4) X(U_ID, UUID) X(U_SLOT, INT4) X(U_EMAIL_KEY, TEXT) X(U_EMAIL, TEXT)           \
    X(U_METADATA, TEXT) X(U_SOURCE, TEXT)                                                                              \
    X(E_SLOT, INT4) X(E_SEQ, INT8) X(E_VERSION, INT8) X(E_AGGREGATE, INT4) X(E_TYPE, INT4) X(E_ID, UUID) X(E_DATA, TEXT) \
    X(R_CAMPAIGN, INT4) X(R_REFERRED, INT4) X(R_REFERRER, INT4) X(R_ID, UUID) X(R_SLOT, INT4) X(R_SEQ, INT8)           \
    X(R_VERSION, INT8) X(R_EVENT, UUID) X(R_DATA, TEXT)
/* clang-format on */

enum {
#define PARAM_ENUM(name, type) name,
    PARAMS(PARAM_ENUM)
#undef PARAM_ENUM
        PARAM_COUNT
};

static const uint32_t element_oid[] = {
#define PARAM_OID(name, type) [name] = PG_OID_##type,
    PARAMS(PARAM_OID)
#undef PARAM_OID
};

/* Columns of lane_append's row, and its states. */
enum { A_STATE, A_TIMES, A_TAKEN, A_TAKEN_BY, A_REFERRERS, A_COLUMNS };
enum { STATE_APPENDED, STATE_STALE, STATE_TAKEN };

/* Where the referrer's id stands in the data of referral.created: after {"referral_id":"…","referrer_id":" */
enum { REFERRER_AT = 69, UUID_CHARS = UUID_TEXT_SIZE - 1 };

enum { MAX_EVENTS = 3 }; /* of a sign-up: it, its referral, a milestone */

/* An action's events, to be made rows of when the answer has come. */
struct made {
    struct campaign *campaign; /* NULL: not sent */
    uint32_t place, user;      /* place in the campaign; place in u_… */
    struct uuid id;
    size_t first_row;
    int rows;
};

struct lane_append {
    struct lane_known *known;
    struct pgarray arrays[PARAM_COUNT];
    const char *values[PARAM_COUNT];
    int lengths[PARAM_COUNT], formats[PARAM_COUNT];

    /* Of the batch that is under way. */
    uint32_t *slots;      /* by shard: its place among the batch's shards, from 1; 0: not among them */
    uint32_t *slot_shard; /* by slot */
    size_t slot_count;
    int64_t *next_seq; /* by shard */
    struct made *made; /* by action */
    size_t *user_of;   /* by place in u_…: the action */
    struct event_row *rows;
    size_t row_count;
    struct buf text;      /* the rows' data; until it is complete they hold offsets in it */
    struct buf done_text; /* of the batch before, which may still be read */
    struct seen addresses;
};

struct lane_append *lane_append_new(size_t batch, struct lane_known *known)
{
    struct lane_append *p = xcalloc(1, sizeof *p);
    p->known = known;
    p->slots = xcalloc(known->shards, sizeof *p->slots);
    p->slot_shard = xcalloc(known->shards + 1, sizeof *p->slot_shard);
    p->next_seq = xcalloc(known->shards, sizeof *p->next_seq);
    p->made = xcalloc(batch, sizeof *p->made);
    p->user_of = xcalloc(batch, sizeof *p->user_of);
    p->rows = xcalloc(batch * MAX_EVENTS, sizeof *p->rows);
    seen_init(&p->addresses, batch);
    return p;
}

void lane_append_free(struct lane_append *p)
{
    if (!p)
        return;
    for (int i = 0; i < PARAM_COUNT; i++)
        pgarray_free(&p->arrays[i]);
    buf_free(&p->text);
    buf_free(&p->done_text);
    free(p->slots);
    free(p->slot_shard);
    free(p->next_seq);
    free(p->made);
    free(p->user_of);
    free(p->rows);
    seen_free(&p->addresses);
    free(p);
}

bool lane_append_prepare(PGconn *conn, char *why, size_t why_size)
{
    return pg_prepare_call(conn, "lane_append", PARAM_COUNT, why, why_size) &&
           pg_prepare_call(conn, "lane_load", 2, why, why_size); /* lane_known.c */
}

bool lane_append_takes(const struct action *a)
{
    return a->kind == ACTION_SIGN_UP && !a->key.given && !a->general_road;
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

static void slots_clear(struct lane_append *p)
{
    for (size_t i = 1; i <= p->slot_count; i++)
        p->slots[p->slot_shard[i]] = 0;
    p->slot_count = 0;
}

/* The batch's shards, ascending: the order in which they are locked. There are few. */
static void slots_make(struct lane_append *p, struct action *const *batch, size_t count)
{
    slots_clear(p);
    for (size_t i = 0; i < count; i++) {
        uint32_t shard = batch[i]->shard;
        if (p->slots[shard])
            continue;
        size_t at = ++p->slot_count;
        for (; at > 1 && p->slot_shard[at - 1] > shard; at--)
            p->slot_shard[at] = p->slot_shard[at - 1];
        p->slot_shard[at] = shard;
        p->slots[shard] = 1;
    }
    for (size_t i = 1; i <= p->slot_count; i++)
        p->slots[p->slot_shard[i]] = (uint32_t)i;
}

static void arrays_begin(struct lane_append *p)
{
    for (int i = 0; i < PARAM_COUNT; i++)
        pgarray_begin(&p->arrays[i], element_oid[i]);
}

static struct event_row *add_row(struct lane_append *p, const struct action *a, struct campaign *c,
                                 enum event_type type, int k)
{
    struct event_row *row = &p->rows[p->row_count++];
    *row = (struct event_row){
        .shard = a->shard,
        .seq = p->next_seq[a->shard]++,
        .version = c->version + ++c->batch_events,
        .type = type,
        .format = EVENT_FORMAT,
        .id = a->event_id,
        .account_id = c->account_id,
        .campaign_id = c->id,
        .data_len = p->text.len, /* where it begins, until end_row */
    };
    row->id.b[15] = (uint8_t)((row->id.b[15] & 0xf0) | k); /* event_id_at in sql/fn_lanes.sql */
    members_begin(&p->text);
    return row;
}

static struct text end_row(struct lane_append *p, struct event_row *row)
{
    members_end(&p->text);
    size_t begin = row->data_len;
    row->data_len = p->text.len - begin;
    return (struct text){p->text.data + begin, row->data_len};
}

static void add_event(struct lane_append *p, const struct event_row *row, const struct campaign *c, struct text data)
{
    struct pgarray *to = p->arrays;
    pgarray_int(&to[E_SLOT], (int32_t)p->slots[row->shard]);
    pgarray_bigint(&to[E_SEQ], row->seq);
    pgarray_bigint(&to[E_VERSION], row->version);
    pgarray_int(&to[E_AGGREGATE], (int32_t)c->no);
    pgarray_int(&to[E_TYPE], (int32_t)row->type);
    pgarray_uuid(&to[E_ID], row->id);
    pgarray_text(&to[E_DATA], data);
}

static void add_user(struct lane_append *p, const struct action *a, const struct made *m)
{
    struct pgarray *to = p->arrays;
    bool as_key = a->email.len == a->email_key.len && memcmp(a->email.data, a->email_key.data, a->email.len) == 0;
    pgarray_int(&to[U_CAMPAIGN], (int32_t)m->campaign->no);
    pgarray_int(&to[U_PLACE], (int32_t)m->place);
    pgarray_uuid(&to[U_ID], m->id);
    pgarray_int(&to[U_SLOT], (int32_t)p->slots[a->shard]);
    pgarray_text(&to[U_EMAIL_KEY], a->email_key);
    pgarray_text(&to[U_EMAIL], as_key ? (struct text){NULL, 0} : a->email);
    pgarray_text(&to[U_METADATA], a->metadata);
    pgarray_text(&to[U_SOURCE], a->source);

    struct event_row *row = add_row(p, a, m->campaign, EVENT_USER_SIGNED_UP, 0);
    member_uuid(&p->text, "user_id", m->id);
    member_uuid(&p->text, "campaign_id", a->campaign_id);
    member_text(&p->text, "email", a->email.data, a->email.len);
    add_event(p, row, m->campaign, end_row(p, row));
}

static void add_referral(struct lane_append *p, const struct action *a, const struct made *m)
{
    struct pgarray *to = p->arrays;
    struct uuid id = uuid_with_place(a->event_id, m->place), filled_in_later = {{0}};
    struct event_row *row = add_row(p, a, m->campaign, EVENT_REFERRAL_CREATED, 1);
    member_uuid(&p->text, "referral_id", id);
    member_uuid(&p->text, "referrer_id", filled_in_later);
    member_uuid(&p->text, "referred_id", m->id);
    member_uuid(&p->text, "campaign_id", a->campaign_id);
    struct text data = end_row(p, row);
    pgarray_int(&to[R_CAMPAIGN], (int32_t)m->campaign->no);
    pgarray_int(&to[R_REFERRED], (int32_t)m->place);
    pgarray_int(&to[R_REFERRER], (int32_t)a->referrer_place);
    pgarray_uuid(&to[R_ID], id);
    pgarray_int(&to[R_SLOT], (int32_t)p->slots[a->shard]);
    pgarray_bigint(&to[R_SEQ], row->seq);
    pgarray_bigint(&to[R_VERSION], row->version);
    pgarray_uuid(&to[R_EVENT], row->id);
    pgarray_text(&to[R_DATA], data);
}

static void add_milestone(struct lane_append *p, const struct action *a, const struct made *m)
{
    char name[40];
    struct event_row *row = add_row(p, a, m->campaign, EVENT_MILESTONE_REACHED, 2);
    snprintf(name, sizeof name, "%u_participants", m->place);
    member_uuid(&p->text, "campaign_id", a->campaign_id);
    member_string(&p->text, "milestone", name);
    member_int(&p->text, "participant_count", m->place);
    add_event(p, row, m->campaign, end_row(p, row));
}

static bool is_milestone(const struct campaign *c, uint32_t place)
{
    for (size_t i = 0; i < c->milestone_count; i++)
        if (c->milestones[i] == (int32_t)place)
            return true;
    return false;
}

/* Whether the sign-up is sure to succeed, but for an address that is taken. The others come again. */
static bool can_append(struct lane_append *p, struct action *a, const struct campaign *c)
{
    if (!c || !p->known->has_head[a->shard] || c->closed || (a->account_no != 0 && a->account_no != c->account_no) ||
        a->referrer_place > c->places) {
        a->general_road = true;
        return false;
    }
    /* Of several with one address only the first can succeed. */
    a->general_road =
        !seen_first(&p->addresses, hash64(a->email_key.data, a->email_key.len) ^ (uint64_t)c->no * 0x9e3779b97f4a7c15U);
    return !a->general_road;
}

static void append(struct lane_append *p, struct action *a, size_t i, struct campaign *c)
{
    struct made *m = &p->made[i];
    uint32_t place = c->places + ++c->batch_places;
    *m = (struct made){
        .campaign = c,
        .place = place,
        .user = p->arrays[U_ID].count,
        .id = uuid_with_place(a->object_id, place),
        .first_row = p->row_count,
    };
    p->user_of[m->user] = i;
    add_user(p, a, m);
    if (a->referrer_place > 0)
        add_referral(p, a, m);
    if (is_milestone(c, place))
        add_milestone(p, a, m);
    m->rows = (int)(p->row_count - m->first_row);
}

enum append_sent lane_append_send(struct lane_append *p, struct pglink *link, struct action *const *batch, size_t count,
                                  pglink_done done, void *arg)
{
    seen_clear(&p->addresses);
    buf_clear(&p->text);
    p->row_count = 0;
    arrays_begin(p);
    campaigns_begin(p->known->campaigns);
    slots_make(p, batch, count);
    for (size_t i = 1; i <= p->slot_count; i++) {
        uint32_t shard = p->slot_shard[i];
        p->next_seq[shard] = p->known->heads[shard] + 1;
        pgarray_int(&p->arrays[P_SHARDS], (int32_t)shard);
        pgarray_bigint(&p->arrays[P_HEADS], p->known->heads[shard]);
    }
    for (size_t i = 0; i < count; i++) {
        struct campaign *c = campaigns_find(p->known->campaigns, batch[i]->campaign_id);
        p->made[i] = (struct made){0};
        if (can_append(p, batch[i], c))
            append(p, batch[i], i, c);
    }
    if (p->row_count == 0)
        return APPEND_SKIPPED;
    pgarray_params(p->arrays, PARAM_COUNT, p->values, p->lengths, p->formats);
    return pglink_send(link, "lane_append", PARAM_COUNT, p->values, p->lengths, p->formats, 1, done, arg)
               ? APPEND_SENT
               : APPEND_FAILED;
}

void lane_append_shards(const struct lane_append *p, const char **value, int *len)
{
    *value = p->values[P_SHARDS];
    *len = p->lengths[P_SHARDS];
}

/* --- the answer ------------------------------------------------------------------------------------------------- */

static bool elements(const PGresult *r, int column, struct pgarray_elements *e)
{
    const char *data = PQgetisnull(r, 0, column) ? NULL : PQgetvalue(r, 0, column);
    return pgarray_read(e, data, (size_t)PQgetlength(r, 0, column));
}

static bool next_uuid(struct pgarray_elements *e, struct uuid *id)
{
    const uint8_t *value;
    size_t len;
    if (!pgarray_next(e, &value, &len) || len != sizeof id->b)
        return false;
    memcpy(id->b, value, sizeof id->b);
    return true;
}

/* Text is complete: rows get pointers for offsets. Times by shard, and the referrers' ids, come from the answer. */
static bool finish_rows(struct lane_append *p, const PGresult *answer)
{
    struct pgarray_elements times, referrers;
    const uint8_t *value;
    size_t len, at = 0;
    int64_t *time_of = p->next_seq; /* its work is done */
    if (!elements(answer, A_TIMES, &times) || !elements(answer, A_REFERRERS, &referrers))
        return false;
    for (size_t i = 1; i <= p->slot_count; i++) {
        if (!pgarray_next(&times, &value, &len) || len != 8)
            return false;
        time_of[p->slot_shard[i]] = pgbinary_time(pgarray_int_of(value, len));
    }
    for (size_t i = 0; i < p->row_count; i++) {
        struct event_row *row = &p->rows[i];
        row->data = p->text.data + at;
        row->at_us = time_of[row->shard];
        if (row->type == EVENT_REFERRAL_CREATED) {
            struct uuid referrer;
            char id[UUID_TEXT_SIZE];
            if (!next_uuid(&referrers, &referrer))
                return false;
            uuid_format(referrer, id);
            memcpy(p->text.data + at + REFERRER_AT, id, UUID_CHARS);
        }
        at += row->data_len;
    }
    return true;
}

static void commit_known(struct lane_append *p, const struct made *m)
{
    m->campaign->places += m->campaign->batch_places;
    m->campaign->version += m->campaign->batch_events;
    m->campaign->batch_places = m->campaign->batch_events = 0;
    for (int k = 0; k < m->rows; k++) {
        const struct event_row *row = &p->rows[m->first_row + (size_t)k];
        p->known->heads[row->shard] = row->seq;
    }
}

static enum append_outcome appended(struct lane_append *p, const PGresult *answer, size_t count,
                                    struct lane_result *out)
{
    if (!finish_rows(p, answer))
        return APPEND_BROKEN;
    for (size_t i = 0; i < count; i++) {
        const struct made *m = &p->made[i];
        struct action_result *result = &out->results[i];
        out->again[i] = !m->campaign;
        if (!m->campaign)
            continue;
        *result = (struct action_result){.id = m->id, .place = m->place, .extra = m->campaign->landing_url};
        for (int k = 0; k < m->rows; k++) {
            struct event_row *row = &p->rows[m->first_row + (size_t)k];
            lane_result_count(result, row);
            out->rows[out->row_count++] = *row;
        }
        commit_known(p, m);
    }
    struct buf done_text = p->text;
    p->text = p->done_text;
    p->done_text = done_text;
    lane_result_sort(out);
    return APPEND_DONE;
}

static enum append_outcome taken(struct lane_append *p, const PGresult *answer, size_t count, struct lane_result *out)
{
    struct pgarray_elements users, ids;
    const uint8_t *value;
    size_t len;
    if (!elements(answer, A_TAKEN, &users) || !elements(answer, A_TAKEN_BY, &ids))
        return APPEND_BROKEN;
    for (size_t i = 0; i < count; i++)
        out->again[i] = true;
    while (pgarray_next(&users, &value, &len)) {
        int64_t user = pgarray_int_of(value, len) - 1;
        struct uuid id;
        if (user < 0 || user >= p->arrays[U_ID].count || !next_uuid(&ids, &id))
            return APPEND_BROKEN;
        out->again[p->user_of[user]] = false;
        out->results[p->user_of[user]] = (struct action_result){.err = ERR_EMAIL_TAKEN, .id = id};
    }
    return APPEND_TAKEN;
}

static enum append_outcome stale(struct lane_append *p, size_t count, struct lane_result *out)
{
    for (size_t i = 1; i <= p->slot_count; i++)
        lane_known_forget(p->known, p->slot_shard[i]);
    for (size_t i = 0; i < count; i++)
        out->again[i] = true;
    return APPEND_STALE;
}

enum append_outcome lane_append_decode(struct lane_append *p, const PGresult *row, size_t count,
                                       struct lane_result *out)
{
    lane_result_begin(out, p->row_count, count);
    if (PQnfields(row) != A_COLUMNS || PQntuples(row) != 1)
        return APPEND_BROKEN;
    switch (pgbinary_int(row, 0, A_STATE)) {
    case STATE_APPENDED: return appended(p, row, count, out);
    case STATE_STALE: return stale(p, count, out);
    case STATE_TAKEN: return taken(p, row, count, out);
    default: return APPEND_BROKEN;
    }
}
