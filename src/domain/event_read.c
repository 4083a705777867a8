/* Reading and checking records. Values that event_value made are read by a scanner of just that form, with one allocation;
 * whatever it does not know for certain (escapes, other characters than ASCII, nested or doubtful members, blanks) goes
 * through the strict JSON reader. Both end in the same table of members, which is checked by the contract. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"
#include "domain/event.h"

#define SCAN_MEMBERS 8 /* of data; the reader takes what has more */
#define SCAN_DIGITS 18 /* of a number: all such fit in 64 bits */

struct contract {
    const char *uuids;  /* names, space-separated */
    const char *others; /* name:type, space-separated */
};

static const struct contract contracts[EVENT_TYPE_MAX] = {
#define EVENT_CONTRACT(id, number, name, email_key, uuids_, others_) [id] = {.uuids = uuids_, .others = others_},
    EVENT_TABLE(EVENT_CONTRACT)
#undef EVENT_CONTRACT
};

enum member_kind { MEMBER_OTHER, MEMBER_TEXT, MEMBER_INT };

struct member {
    const char *name, *text; /* text: with MEMBER_TEXT; NUL-terminated once it is in an event_data */
    size_t name_len, text_len;
    int64_t number; /* with MEMBER_INT */
    enum member_kind kind;
};

struct event_data {
    size_t count;
    struct member members[];
    /* then the names' and texts' bytes */
};

static char *copy(char **to, const char *text, size_t len)
{
    char *at = *to;
    memcpy(at, text, len);
    at[len] = '\0';
    *to += len + 1;
    return at;
}

static struct event_data *data_new(const struct member *members, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += members[i].name_len + members[i].text_len + 2;
    struct event_data *d = xmalloc(sizeof *d + count * sizeof d->members[0] + bytes);
    char *to = (char *)&d->members[count];
    d->count = count;
    for (size_t i = 0; i < count; i++) {
        struct member *m = &d->members[i];
        *m = members[i];
        m->name = copy(&to, m->name, m->name_len);
        if (m->kind == MEMBER_TEXT)
            m->text = copy(&to, m->text, m->text_len);
    }
    return d;
}

static const struct member *find(const struct member *members, size_t count, const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (members[i].name_len == len && memcmp(members[i].name, name, len) == 0)
            return &members[i];
    return NULL;
}

/* --- the contract --- */

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

/* The members of a space-separated list: sets *len and returns the next name, or NULL. */
static const char *next_name(const char *list, size_t *len)
{
    list += strspn(list, " ");
    *len = strcspn(list, " ");
    return *len ? list : NULL;
}

static bool check_other(const struct event_data *d, const char *name, size_t len, const struct refusal *r)
{
    char type = name[len - 1]; /* name:t */
    len -= 2;
    const struct member *m = find(d->members, d->count, name, len);
    if (!m)
        return refuse(r, name, len, "is missing");
    if (type == 'i')
        return m->kind == MEMBER_INT || refuse(r, name, len, "must be an integer");
    return m->kind == MEMBER_TEXT || refuse(r, name, len, "must be a string");
}

static bool check_data(const struct event_data *d, const struct event *e, const struct refusal *r)
{
    const struct contract *c = &contracts[e->type];
    size_t len;
    for (const char *name = c->uuids; (name = next_name(name, &len)); name += len) {
        const struct member *m = find(d->members, d->count, name, len);
        struct uuid id;
        if (!m)
            return refuse(r, name, len, "is missing");
        if (m->kind != MEMBER_TEXT || !uuid_parse(m->text, m->text_len, &id))
            return refuse(r, name, len, "must be a UUID");
        /* Handlers take either for the campaign: they must not differ. */
        if (len == strlen("campaign_id") && memcmp(name, "campaign_id", len) == 0 && !uuid_equal(id, e->campaign_id))
            return refuse(r, name, len, "must be the envelope's campaign_id");
    }
    for (const char *name = c->others; (name = next_name(name, &len)); name += len)
        if (!check_other(d, name, len, r))
            return false;
    return true;
}

/* --- the scanner --- */

struct scan {
    const char *at, *end;
};

static bool take(struct scan *s, const char *text, size_t len)
{
    if ((size_t)(s->end - s->at) < len || memcmp(s->at, text, len) != 0)
        return false;
    s->at += len;
    return true;
}

#define TAKE(s, literal) take((s), (literal), sizeof(literal) - 1)

static bool take_uuid(struct scan *s, struct uuid *id)
{
    size_t len = UUID_TEXT_SIZE - 1;
    if ((size_t)(s->end - s->at) < len || !uuid_parse(s->at, len, id))
        return false;
    s->at += len;
    return true;
}

/* The rest of a string, its opening quote was taken: printable ASCII without escapes. */
static bool take_text(struct scan *s, const char **text, size_t *len)
{
    const char *at = s->at;
    while (at < s->end && *at >= 0x20 && *at < 0x7f && *at != '"' && *at != '\\')
        at++;
    if (at == s->end || *at != '"')
        return false;
    *text = s->at;
    *len = (size_t)(at - s->at);
    s->at = at + 1;
    return true;
}

/* A number that is not negative, without a leading zero. What may follow is the caller's to check. */
static bool take_number(struct scan *s, int64_t *number)
{
    const char *start = s->at;
    for (*number = 0; s->at < s->end && *s->at >= '0' && *s->at <= '9' && s->at - start < SCAN_DIGITS; s->at++)
        *number = *number * 10 + (*s->at - '0');
    return s->at > start && (*start != '0' || s->at == start + 1);
}

/* One member of data with the ',' or '}' behind it; *last: it was a '}'. */
static bool take_member(struct scan *s, struct member *m, bool *last)
{
    *m = (struct member){.kind = MEMBER_INT};
    if (!TAKE(s, "\"") || !take_text(s, &m->name, &m->name_len) || !TAKE(s, ":"))
        return false;
    if (TAKE(s, "\"")) {
        m->kind = MEMBER_TEXT;
        if (!take_text(s, &m->text, &m->text_len))
            return false;
    } else if (!take_number(s, &m->number)) {
        return false;
    }
    *last = TAKE(s, "}");
    return *last || TAKE(s, ",");
}

static bool take_data(struct scan *s, struct member members[SCAN_MEMBERS], size_t *count)
{
    bool last = false;
    for (*count = 0; !last; ++*count)
        if (*count == SCAN_MEMBERS || !take_member(s, &members[*count], &last) ||
            find(members, *count, members[*count].name, members[*count].name_len))
            return false;
    return true;
}

/* False: the value is not certainly a good one of the form that event_value makes. Then e is as it was, but for numbers. */
static bool scan_event(const char *value, size_t len, struct event *e)
{
    struct scan s = {.at = value, .end = value + len};
    struct member members[SCAN_MEMBERS];
    const char *text;
    size_t text_len, count;
    char ignored[8];
    if (!TAKE(&s, "{\"id\":\"") || !take_uuid(&s, &e->id) || !TAKE(&s, "\",\"type\":\"") ||
        !take_text(&s, &text, &text_len))
        return false;
    enum event_type type = event_type_parse(text, text_len);
    if (type == EVENT_NONE || !TAKE(&s, ",\"account_id\":\"") || !take_uuid(&s, &e->account_id) ||
        !TAKE(&s, "\",\"campaign_id\":\"") || !take_uuid(&s, &e->campaign_id) || !TAKE(&s, "\",\"data\":{") ||
        !take_data(&s, members, &count) || !TAKE(&s, ",\"timestamp\":\"") || !take_text(&s, &text, &text_len) ||
        rfc3339_parse(text, text_len, &e->at_us) != 0 || !TAKE(&s, ",\"version\":") || !take_number(&s, &e->version) ||
        e->version < 1 || !TAKE(&s, "}") || s.at != s.end)
        return false;
    struct event_data *d = data_new(members, count);
    e->type = type;
    if (check_data(d, e, &(struct refusal){"", ignored, sizeof ignored})) {
        e->data = d;
        return true;
    }
    free(d);
    return false;
}

/* --- the reader --- */

static bool check_uuid(const json_t *object, const char *name, struct uuid *id, const struct refusal *r)
{
    const json_t *value = json_object_get(object, name);
    if (!value)
        return refuse(r, name, strlen(name), "is missing");
    if (!json_is_string(value) || !uuid_parse(json_string_value(value), json_string_length(value), id))
        return refuse(r, name, strlen(name), "must be a UUID");
    return true;
}

static bool check_envelope(const json_t *json, struct event *e, const struct refusal *r)
{
    const json_t *campaign = json_object_get(json, "campaign_id"), *timestamp = json_object_get(json, "timestamp"),
                 *version = json_object_get(json, "version");
    if (!check_uuid(json, "id", &e->id, r) || !check_uuid(json, "account_id", &e->account_id, r))
        return false;
    /* null: an event of the account itself */
    if (!json_is_null(campaign) && !check_uuid(json, "campaign_id", &e->campaign_id, r))
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

static struct event_data *data_of(json_t *data)
{
    struct member *members = xcalloc(json_object_size(data) + 1, sizeof *members);
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(data, name, value)
    {
        struct member *m = &members[count++];
        m->name = name;
        m->name_len = strlen(name);
        if (json_is_string(value)) {
            m->kind = MEMBER_TEXT;
            m->text = json_string_value(value);
            m->text_len = json_string_length(value);
        } else if (json_is_integer(value)) {
            m->kind = MEMBER_INT;
            m->number = json_integer_value(value);
        }
    }
    struct event_data *d = data_new(members, count);
    free(members);
    return d;
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
    e->data = data_of(data);
    if (check_data(e->data, e, &(struct refusal){"data.", r->why, r->why_size}))
        return true;
    event_clear(e);
    return false;
}

bool event_parse(const char *value, size_t len, struct event *out, char *why, size_t why_size)
{
    memset(out, 0, sizeof *out);
    if (scan_event(value, len, out))
        return true;
    memset(out, 0, sizeof *out);
    json_t *json = json_read(value, len, why, why_size);
    if (!json)
        return false;
    bool ok = check_event(json, out, &(struct refusal){"", why, why_size});
    json_decref(json);
    return ok;
}

void event_clear(struct event *e)
{
    free(e->data);
    e->data = NULL;
}

/* --- members --- */

/* A missing member must not be taken for an empty one. */
static _Noreturn void contract_broken(const char *what, const char *name)
{
    fprintf(stderr, "tidings: event contract broken: %s %s\n", what, name);
    abort();
}

static const struct member *member_of(const struct event *e, const char *name, enum member_kind kind)
{
    const struct member *m = e->data ? find(e->data->members, e->data->count, name, strlen(name)) : NULL;
    return m && m->kind == kind ? m : NULL;
}

struct uuid event_data_uuid(const struct event *e, const char *member)
{
    const struct member *m = member_of(e, member, MEMBER_TEXT);
    struct uuid id;
    if (!m || !uuid_parse(m->text, m->text_len, &id))
        contract_broken("no UUID", member);
    return id;
}

const char *event_data_text(const struct event *e, const char *member)
{
    const struct member *m = member_of(e, member, MEMBER_TEXT);
    if (!m)
        contract_broken("no text", member);
    return m->text;
}

int64_t event_data_int(const struct event *e, const char *member)
{
    const struct member *m = member_of(e, member, MEMBER_INT);
    if (!m)
        contract_broken("no integer", member);
    return m->number;
}
