/* Query parameters. */
#include "http/query.h"

#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/url.h"

void query_fault(struct query *q, const char *field, const char *detail)
{
    if (q->bad)
        return;
    q->bad = true;
    snprintf(q->field, sizeof q->field, "%s", field);
    snprintf(q->detail, sizeof q->detail, "%s", detail);
}

static void fault(struct query *q, const char *name, const char *what)
{
    char detail[sizeof q->detail];
    snprintf(detail, sizeof detail, "%s %s.", name, what);
    query_fault(q, name, detail);
}

/* A fault of a parameter that the client named: cut at 64 bytes, but not within a character. */
static void fault_of_theirs(struct query *q, const char *name, const char *what)
{
    char cut[65];
    size_t len = strnlen(name, sizeof cut);
    if (len == sizeof cut)
        for (len--; len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80;)
            len--;
    memcpy(cut, name, len);
    cut[len] = '\0';
    fault(q, cut, what);
}

/* --- the whole -------------------------------------------------------------------------------------------------- */

/* Decodes into *at, which has room for it and a NUL, and moves that on. False: badly encoded, not UTF-8, or with control
 * characters in it, NUL being one. */
static bool decode(const char *text, size_t len, char **at)
{
    size_t decoded = 0;
    char *out = *at;
    if (!url_decode(text, len, true, out, &decoded) || !g_utf8_validate_len(out, decoded, NULL))
        return false;
    out[decoded] = '\0';
    for (const char *p = out; *p; p = g_utf8_next_char(p))
        if (g_unichar_iscntrl(g_utf8_get_char(p)))
            return false;
    *at = out + decoded + 1;
    return true;
}

static bool is_there(const struct query *q, const char *name)
{
    for (size_t i = 0; i < q->count; i++)
        if (strcmp(q->parameters[i].name, name) == 0)
            return true;
    return false;
}

/* One "name=value". */
static void add(struct query *q, const char *field, size_t len, char **at)
{
    const char *equals = memchr(field, '=', len), *name = *at;
    size_t name_len = equals ? (size_t)(equals - field) : len;
    if (name_len == 0 || !decode(field, name_len, at)) {
        query_fault(q, "query", "The query has a parameter whose name cannot be read.");
        return;
    }
    const char *value = *at;
    if (is_there(q, name))
        fault_of_theirs(q, name, "must be given once");
    else if (!equals || equals + 1 == field + len)
        fault_of_theirs(q, name, "must not be empty");
    else if (!decode(equals + 1, len - name_len - 1, at))
        fault_of_theirs(q, name, "must be percent-encoded UTF-8 without control characters");
    else if (q->count == QUERY_PARAMETERS)
        query_fault(q, "query", "The query has too many parameters.");
    else {
        q->parameters[q->count].name = name;
        q->parameters[q->count++].value = value;
    }
}

void query_open(struct query *q, const char *text, size_t len)
{
    memset(q, 0, sizeof *q);
    /* Decoding never makes longer, and each field has at most one '=' and one '&' to give its NULs the room. */
    char *at = q->text = xmalloc(len + 2);
    const char *end = text + len;
    while (text < end && !q->bad) {
        const char *stop = memchr(text, '&', (size_t)(end - text));
        if (!stop)
            stop = end;
        add(q, text, (size_t)(stop - text), &at);
        text = stop + 1;
    }
}

void query_clear(struct query *q)
{
    free(q->text);
    q->text = NULL;
    q->count = 0;
}

bool query_end(struct query *q)
{
    for (size_t i = 0; i < q->count && !q->bad; i++)
        if (!q->parameters[i].asked)
            fault_of_theirs(q, q->parameters[i].name, "is not a parameter here");
    return !q->bad;
}

/* --- parameters ------------------------------------------------------------------------------------------------- */

/* The value; NULL when it is absent or something was wrong before. */
static const char *value_of(struct query *q, const char *name)
{
    for (size_t i = 0; i < q->count && !q->bad; i++)
        if (strcmp(q->parameters[i].name, name) == 0) {
            q->parameters[i].asked = true;
            return q->parameters[i].value;
        }
    return NULL;
}

bool query_text(struct query *q, const char *name, size_t max_chars, const char **out)
{
    char what[80];
    const char *value = *out = value_of(q, name);
    if (!value)
        return false;
    if ((size_t)g_utf8_strlen(value, -1) <= max_chars)
        return true;
    *out = NULL;
    snprintf(what, sizeof what, "must have at most %zu characters", max_chars);
    fault(q, name, what);
    return false;
}

/* Digits alone, at most 18 of them, without zeros that are of no use. Returns where they end; NULL: there are none. */
static const char *read_digits(const char *text, int64_t *out)
{
    size_t count = strspn(text, "0123456789");
    if (count == 0 || count > 18 || (count > 1 && text[0] == '0'))
        return NULL;
    *out = strtoll(text, NULL, 10);
    return text + count;
}

bool query_int(struct query *q, const char *name, int64_t min, int64_t max, int64_t *out)
{
    const char *value = value_of(q, name);
    char what[80];
    int64_t number;
    if (!value)
        return false;
    const char *end = read_digits(value, &number);
    if (end && *end == '\0' && number >= min && number <= max) {
        *out = number;
        return true;
    }
    snprintf(what, sizeof what, "must be a number from %" PRId64 " to %" PRId64, min, max);
    fault(q, name, what);
    return false;
}

bool query_choice(struct query *q, const char *name, const char *const choices[], const char **out)
{
    const char *value = value_of(q, name);
    char what[120] = "must be ";
    if (!value)
        return false;
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(value, choices[i]) == 0) {
            *out = choices[i];
            return true;
        }
        size_t used = strlen(what);
        snprintf(what + used, sizeof what - used, "%s%s", i > 0 ? " or " : "", choices[i]);
    }
    fault(q, name, what);
    return false;
}

bool query_uuid(struct query *q, const char *name, struct uuid *out)
{
    const char *value = value_of(q, name);
    if (!value)
        return false;
    if (uuid_parse(value, strlen(value), out))
        return true;
    fault(q, name, "must be a UUID");
    return false;
}

bool query_cursor(struct query *q, int count, int64_t out[])
{
    const char *at = value_of(q, "cursor");
    int64_t numbers[4];
    if (!at)
        return false;
    for (int i = 0; at && i < count; i++) {
        at = read_digits(at, &numbers[i]);
        if (at && (numbers[i] < 1 || numbers[i] > INT32_MAX || *at != (i + 1 < count ? '.' : '\0')))
            at = NULL;
        else if (at && *at == '.')
            at++;
    }
    if (!at) {
        fault(q, "cursor", "must be the next_cursor of a page of this list");
        return false;
    }
    memcpy(out, numbers, (size_t)count * sizeof out[0]);
    return true;
}
