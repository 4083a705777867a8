/* Plain JSON objects. */
#include "http/flat.h"

#include <string.h>

/* The text ends with a NUL, which is none of the characters that are passed over here. */

static char *skip_blanks(char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')
        at++;
    return at;
}

/* Makes a string NUL-terminated where it stands; returns what comes after it, or NULL. */
static char *read_string(char *at, const char **text, size_t *len)
{
    if (*at != '"')
        return NULL;
    char *start = ++at;
    while (*at >= ' ' && *at <= '~' && *at != '"' && *at != '\\')
        at++;
    if (*at != '"')
        return NULL;
    *at = '\0';
    *text = start;
    *len = (size_t)(at - start);
    return at + 1;
}

static char *read_member(char *at, struct flat *f)
{
    struct flat_member m;
    size_t name_len;
    at = read_string(skip_blanks(at), &m.name, &name_len);
    if (!at || name_len == 0 || f->count == FLAT_MEMBERS || flat_find(f, m.name))
        return NULL;
    at = skip_blanks(at);
    if (*at != ':')
        return NULL;
    at = read_string(skip_blanks(at + 1), &m.value, &m.value_len);
    if (!at)
        return NULL;
    f->members[f->count++] = m;
    return skip_blanks(at);
}

bool flat_read(struct flat *f, const char *data, size_t len)
{
    f->count = 0;
    if (len > FLAT_BYTES)
        return false;
    memcpy(f->text, data, len);
    f->text[len] = '\0';
    char *at = skip_blanks(f->text);
    if (*at != '{')
        return false;
    do
        at = read_member(at + 1, f);
    while (at && *at == ',');
    if (!at || *at != '}')
        return false;
    return skip_blanks(at + 1) == f->text + len;
}

const struct flat_member *flat_find(const struct flat *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->members[i].name, name) == 0)
            return &f->members[i];
    return NULL;
}
