/* JSON bodies: strict reading and typed members. */
#include "http/body.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/json.h"

void body_fault(struct body *b, enum err err, const char *field, const char *detail)
{
    if (b->err != ERR_NONE)
        return;
    b->err = err;
    snprintf(b->field, sizeof b->field, "%s", field ? field : "");
    snprintf(b->detail, sizeof b->detail, "%s", detail);
}

/* --- the whole -------------------------------------------------------------------------------------------------- */

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at;
}

static bool charset_is_utf8(const char *param, size_t len)
{
    if (len < 8 || strncasecmp(param, "charset=", 8) != 0)
        return true; /* another parameter: no matter */
    param += 8;
    len -= 8;
    while (len > 0 && (param[len - 1] == ' ' || param[len - 1] == '\t'))
        len--;
    if (len >= 2 && param[0] == '"' && param[len - 1] == '"') {
        param++;
        len -= 2;
    }
    return (len == 5 && strncasecmp(param, "utf-8", 5) == 0) || (len == 4 && strncasecmp(param, "utf8", 4) == 0);
}

bool content_type_is(const char *value, size_t len, const char *type)
{
    const char *end = value + len;
    size_t type_len = strlen(type);
    if (len < type_len || strncasecmp(value, type, type_len) != 0)
        return false;
    const char *at = skip_blanks(value + type_len, end);
    while (at < end) {
        if (*at != ';')
            return false;
        at = skip_blanks(at + 1, end);
        const char *stop = memchr(at, ';', (size_t)(end - at));
        if (!stop)
            stop = end;
        if (!charset_is_utf8(at, (size_t)(stop - at)))
            return false;
        at = stop;
    }
    return true;
}

static void begin(struct body *b, json_t *root)
{
    b->root = root;
    b->err = ERR_NONE;
    b->field[0] = b->detail[0] = '\0';
    b->asked_count = 0;
    b->flat.count = 0;
}

void body_open(struct body *b, const char *content_type, size_t content_type_len, const char *data, size_t len)
{
    char why[200];
    begin(b, NULL);
    if (!content_type || !content_type_is(content_type, content_type_len, "application/json")) {
        body_fault(b, ERR_MEDIA_TYPE, NULL, "Content-Type must be application/json, in UTF-8.");
        return;
    }
    if (flat_read(&b->flat, data, len))
        return;
    b->flat.count = 0;
    b->root = json_read(data, len, why, sizeof why);
    if (!b->root)
        body_fault(b, ERR_MALFORMED, NULL, why);
    else if (!json_is_object(b->root))
        body_fault(b, ERR_INVALID, NULL, "The body must be a JSON object.");
}

void body_clear(struct body *b)
{
    json_decref(b->root);
    b->root = NULL;
}

static bool was_asked(const struct body *b, const char *name)
{
    for (size_t i = 0; i < b->asked_count; i++)
        if (strcmp(b->asked[i], name) == 0)
            return true;
    return false;
}

static void unknown_member(struct body *b, const char *name)
{
    char detail[160];
    /* Cut at 64 bytes, but not within a character. */
    int cut = (int)strnlen(name, 64);
    while (cut > 0 && ((unsigned char)name[cut] & 0xc0) == 0x80)
        cut--;
    char field[72];
    snprintf(field, sizeof field, "%.*s", cut, name);
    snprintf(detail, sizeof detail, "There is no such member here: %s.", field);
    body_fault(b, ERR_INVALID, field, detail);
}

bool body_end(struct body *b)
{
    const char *name;
    json_t *value;
    for (size_t i = 0; b->err == ERR_NONE && i < b->flat.count; i++)
        if (!was_asked(b, b->flat.members[i].name))
            unknown_member(b, b->flat.members[i].name);
    json_object_foreach(b->root, name, value)
    {
        if (b->err == ERR_NONE && !was_asked(b, name))
            unknown_member(b, name);
    }
    return b->err == ERR_NONE;
}

/* --- members ---------------------------------------------------------------------------------------------------- */

static void fault(struct body *b, const char *name, const char *what)
{
    char detail[sizeof b->detail];
    snprintf(detail, sizeof detail, "%s %s.", name, what);
    body_fault(b, ERR_INVALID, name, detail);
}

/* A member's value. */
struct value {
    json_t *json;     /* NULL: a text of a flat body */
    struct text text; /* when it is one */
};

static bool find(const struct body *b, const char *name, struct value *v)
{
    const struct flat_member *m = flat_find(&b->flat, name);
    *v = (struct value){.json = m ? NULL : json_object_get(b->root, name)};
    if (m)
        v->text = (struct text){m->value, m->value_len};
    else if (json_is_string(v->json))
        v->text = (struct text){json_string_value(v->json), json_string_length(v->json)};
    return m || v->json;
}

/* False: it is absent, or something was wrong before. */
static bool member(struct body *b, const char *name, enum body_need need, struct value *v)
{
    if (b->err != ERR_NONE)
        return false;
    if (b->asked_count < BODY_MEMBERS)
        b->asked[b->asked_count++] = name;
    if (find(b, name, v) && !(need == BODY_OPTIONAL && json_is_null(v->json)))
        return true;
    if (need == BODY_REQUIRED)
        fault(b, name, "is required");
    return false;
}

/* Characters of valid UTF-8; SIZE_MAX when there is a control character (C0, DEL or C1) among them that is not allowed. */
static size_t count_characters(const char *text, size_t len, const char *allowed)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool control = c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0);
        if (control && (c == '\0' || !strchr(allowed, c)))
            return SIZE_MAX;
        count += (c & 0xc0) != 0x80;
    }
    return count;
}

static bool read_text(struct body *b, const char *name, enum body_need need, size_t min_chars, size_t max_chars,
                      const char *allowed, struct text *out)
{
    struct value v;
    *out = (struct text){NULL, 0};
    if (!member(b, name, need, &v))
        return false;
    if (!v.text.data) {
        fault(b, name, "must be a string");
        return false;
    }
    size_t count = count_characters(v.text.data, v.text.len, allowed);
    char what[80];
    if (count == SIZE_MAX) {
        fault(b, name, "must not have control characters");
        return false;
    }
    if (count < min_chars || count > max_chars) {
        if (count < min_chars && min_chars == 1)
            snprintf(what, sizeof what, "must not be empty");
        else if (count > max_chars)
            snprintf(what, sizeof what, "must have at most %zu characters", max_chars);
        else
            snprintf(what, sizeof what, "must have at least %zu characters", min_chars);
        fault(b, name, what);
        return false;
    }
    *out = v.text;
    return true;
}

bool body_text(struct body *b, const char *name, enum body_need need, size_t min_chars, size_t max_chars,
               struct text *out)
{
    return read_text(b, name, need, min_chars, max_chars, "", out);
}

bool body_lines(struct body *b, const char *name, enum body_need need, size_t min_chars, size_t max_chars,
                struct text *out)
{
    return read_text(b, name, need, min_chars, max_chars, "\n\t", out);
}

bool body_uuid(struct body *b, const char *name, enum body_need need, struct uuid *out)
{
    struct value v;
    if (!member(b, name, need, &v))
        return false;
    if (v.text.data && uuid_parse(v.text.data, v.text.len, out))
        return true;
    fault(b, name, "must be a UUID");
    return false;
}

bool body_null(struct body *b, const char *name)
{
    return b->err == ERR_NONE && json_is_null(json_object_get(b->root, name));
}

void body_enter(struct body *inside, json_t *object)
{
    begin(inside, json_incref(object));
}

void body_leave(struct body *b, const char *name, struct body *inside)
{
    if (!body_end(inside)) {
        char field[sizeof b->field];
        snprintf(field, sizeof field, "%s.%.*s", name, (int)(sizeof field - strlen(name) - 2), inside->field);
        body_fault(b, inside->err, field, inside->detail);
    }
    body_clear(inside);
}

bool body_int(struct body *b, const char *name, enum body_need need, int64_t min, int64_t max, int64_t *out)
{
    struct value v;
    if (!member(b, name, need, &v))
        return false;
    if (!json_is_integer(v.json)) {
        fault(b, name, "must be an integer");
        return false;
    }
    int64_t number = json_integer_value(v.json);
    if (number < min || number > max) {
        char what[80];
        snprintf(what, sizeof what, "must be from %" PRId64 " to %" PRId64, min, max);
        fault(b, name, what);
        return false;
    }
    *out = number;
    return true;
}

bool body_object(struct body *b, const char *name, enum body_need need, json_t **out)
{
    struct value v;
    bool there = member(b, name, need, &v);
    if (there && !json_is_object(v.json))
        fault(b, name, "must be an object");
    if (!there || b->err != ERR_NONE)
        return false;
    *out = v.json;
    return true;
}

bool body_array(struct body *b, const char *name, enum body_need need, size_t max, json_t **out)
{
    struct value v;
    bool there = member(b, name, need, &v);
    if (there && !json_is_array(v.json)) {
        fault(b, name, "must be an array");
    } else if (there && json_array_size(v.json) > max) {
        char what[80];
        snprintf(what, sizeof what, "must have at most %zu elements", max);
        fault(b, name, what);
    }
    if (!there || b->err != ERR_NONE)
        return false;
    *out = v.json;
    return true;
}
