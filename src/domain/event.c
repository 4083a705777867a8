/* Event contracts and the envelope: one function makes a record's value, one reads and checks it, both by the table. */
#include "domain/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"

struct contract {
    const char *name, *email_key;
    const char *uuids;  /* names, space-separated */
    const char *others; /* name:type, space-separated */
};

static const struct contract contracts[EVENT_TYPE_MAX] = {
#define EVENT_CONTRACT(id, number, name_, email_key_, uuids_, others_)                                                 \
    [id] = {.name = name_, .email_key = email_key_, .uuids = uuids_, .others = others_},
    EVENT_TABLE(EVENT_CONTRACT)
#undef EVENT_CONTRACT
};

static bool known(enum event_type t)
{
    return t > EVENT_NONE && t < EVENT_TYPE_MAX && contracts[t].name;
}

const char *event_type_name(enum event_type t)
{
    return known(t) ? contracts[t].name : NULL;
}

const char *event_email_key(enum event_type t)
{
    return known(t) ? contracts[t].email_key : NULL;
}

enum event_type event_type_parse(const char *name, size_t len)
{
    for (int t = EVENT_NONE + 1; t < EVENT_TYPE_MAX; t++)
        if (known((enum event_type)t) && strlen(contracts[t].name) == len && memcmp(contracts[t].name, name, len) == 0)
            return (enum event_type)t;
    return EVENT_NONE;
}

/* Bytes that would be wrong for ever must not be sent, and a missing member must not be taken for an empty one. */
static _Noreturn void contract_broken(const char *what, const char *name)
{
    fprintf(stderr, "tidings: event contract broken: %s %s\n", what, name);
    abort();
}

/* --- writing --- */

static bool is_zero(struct uuid id)
{
    return uuid_equal(id, (struct uuid){{0}});
}

static void add_uuid(struct buf *out, const char *before, struct uuid id)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    buf_adds(out, before);
    buf_add(out, text, sizeof text - 1);
}

void event_value(const struct event_row *row, struct buf *out)
{
    char at[RFC3339_SIZE];
    if (row->format != EVENT_FORMAT)
        contract_broken("row of unknown format, type", known(row->type) ? contracts[row->type].name : "unknown");
    if (!known(row->type))
        contract_broken("row of unknown type", "");
    rfc3339_format(row->at_us, at);
    buf_grow(out, row->data_len + 320); /* the envelope, once */
    add_uuid(out, "{\"id\":\"", row->id);
    buf_adds(out, "\",\"type\":\"");
    buf_adds(out, contracts[row->type].name);
    add_uuid(out, "\",\"account_id\":\"", row->account_id);
    if (is_zero(row->campaign_id)) {
        buf_adds(out, "\",\"campaign_id\":null");
    } else {
        add_uuid(out, "\",\"campaign_id\":\"", row->campaign_id);
        buf_addc(out, '"');
    }
    buf_adds(out, ",\"data\":");
    buf_add(out, row->data, row->data_len);
    buf_adds(out, ",\"timestamp\":\"");
    buf_add(out, at, sizeof at - 1);
    buf_adds(out, "\",\"version\":");
    buf_add_int(out, row->version);
    buf_addc(out, '}');
}

size_t event_key(const struct event_row *row, char out[UUID_TEXT_SIZE])
{
    uuid_format(is_zero(row->campaign_id) ? row->account_id : row->campaign_id, out);
    return UUID_TEXT_SIZE - 1;
}

/* --- reading --- */

/* Where a refusal is explained. prefix is "" for the envelope and "data." for its data. */
struct refusal {
    const char *prefix;
    char *why;
    size_t why_size;
};

static bool refuse(const struct refusal *r, const char *member, size_t len, const char *sentence)
{
    snprintf(r->why, r->why_size, "%s%.*s %s", r->prefix, (int)len, member, sentence);
    return false;
}

static json_t *member_of(const json_t *object, const char *name, size_t len)
{
    return json_object_getn(object, name, len);
}

static bool text_of(const json_t *text, struct uuid *id)
{
    return json_is_string(text) && uuid_parse(json_string_value(text), json_string_length(text), id);
}

static bool check_uuid(const json_t *object, const char *name, size_t len, struct uuid *id, const struct refusal *r)
{
    const json_t *value = member_of(object, name, len);
    if (!value)
        return refuse(r, name, len, "is missing");
    return text_of(value, id) || refuse(r, name, len, "must be a UUID");
}

/* The members of a space-separated list: sets *len and returns the next name, or NULL. */
static const char *next_name(const char *list, size_t *len)
{
    list += strspn(list, " ");
    *len = strcspn(list, " ");
    return *len ? list : NULL;
}

static bool check_other(const json_t *data, const char *name, size_t len, const struct refusal *r)
{
    char type = name[len - 1]; /* name:t */
    len -= 2;
    const json_t *value = member_of(data, name, len);
    if (!value)
        return refuse(r, name, len, "is missing");
    if (type == 'i')
        return json_is_integer(value) || refuse(r, name, len, "must be an integer");
    return json_is_string(value) || refuse(r, name, len, "must be a string");
}

static bool check_data(const struct contract *c, const json_t *data, const struct event *e, const struct refusal *r)
{
    size_t len;
    for (const char *name = c->uuids; (name = next_name(name, &len)); name += len) {
        struct uuid id;
        if (!check_uuid(data, name, len, &id, r))
            return false;
        /* Handlers take either for the campaign: they must not differ. */
        if (len == strlen("campaign_id") && memcmp(name, "campaign_id", len) == 0 && !uuid_equal(id, e->campaign_id))
            return refuse(r, name, len, "must be the envelope's campaign_id");
    }
    for (const char *name = c->others; (name = next_name(name, &len)); name += len)
        if (!check_other(data, name, len, r))
            return false;
    return true;
}

static bool check_envelope(const json_t *json, struct event *e, const struct refusal *r)
{
    const json_t *campaign = json_object_get(json, "campaign_id"), *timestamp = json_object_get(json, "timestamp"),
                 *version = json_object_get(json, "version");
    if (!check_uuid(json, "id", 2, &e->id, r) || !check_uuid(json, "account_id", 10, &e->account_id, r))
        return false;
    /* null: an event of the account itself */
    if (!json_is_null(campaign) && !check_uuid(json, "campaign_id", 11, &e->campaign_id, r))
        return false;
    if (!timestamp)
        return refuse(r, "timestamp", 9, "is missing");
    if (!json_is_string(timestamp) ||
        rfc3339_parse(json_string_value(timestamp), json_string_length(timestamp), &e->at_us) != 0)
        return refuse(r, "timestamp", 9, "must be an RFC 3339 time");
    if (!version)
        return refuse(r, "version", 7, "is missing");
    e->version = json_integer_value(version); /* 0 of what is no integer */
    if (e->version < 1)
        return refuse(r, "version", 7, "must be an integer of at least 1");
    return true;
}

static bool check_event(const json_t *json, struct event *e, const struct refusal *r)
{
    if (!json_is_object(json))
        return refuse(r, "the value", 9, "must be a JSON object");
    const json_t *type = json_object_get(json, "type");
    if (!type)
        return refuse(r, "type", 4, "is missing");
    if (!json_is_string(type))
        return refuse(r, "type", 4, "must be a string");
    e->type = event_type_parse(json_string_value(type), json_string_length(type));
    if (e->type == EVENT_NONE)
        return true; /* somebody else's, or a newer version's: its form is not ours to judge */
    if (!check_envelope(json, e, r))
        return false;
    json_t *data = json_object_get(json, "data");
    if (!data)
        return refuse(r, "data", 4, "is missing");
    if (!json_is_object(data))
        return refuse(r, "data", 4, "must be a JSON object");
    const struct refusal inside = {"data.", r->why, r->why_size};
    if (!check_data(&contracts[e->type], data, e, &inside))
        return false;
    e->data = json_incref(data);
    return true;
}

bool event_parse(const char *value, size_t len, struct event *out, char *why, size_t why_size)
{
    const struct refusal r = {"", why, why_size};
    memset(out, 0, sizeof *out);
    json_t *json = json_read(value, len, why, why_size);
    if (!json)
        return false;
    bool ok = check_event(json, out, &r);
    json_decref(json);
    return ok;
}

void event_clear(struct event *e)
{
    json_decref(e->data);
    e->data = NULL;
}

struct uuid event_data_uuid(const struct event *e, const char *member)
{
    struct uuid id;
    if (!text_of(json_object_get(e->data, member), &id))
        contract_broken("no UUID", member);
    return id;
}

const char *event_data_text(const struct event *e, const char *member)
{
    const char *text = json_string_value(json_object_get(e->data, member));
    if (!text)
        contract_broken("no text", member);
    return text;
}

int64_t event_data_int(const struct event *e, const char *member)
{
    const json_t *value = json_object_get(e->data, member);
    if (!json_is_integer(value))
        contract_broken("no integer", member);
    return json_integer_value(value);
}
