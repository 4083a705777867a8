/* Strict JSON reading on top of jansson. */
#include "core/json.h"

#include <stdio.h>
#include <string.h>

/* Nesting is measured before parsing, so that hostile depth costs one pass over the bytes and no recursion. Returns the
 * offset of the bracket that is too deep, or len. */
static size_t too_deep_at(const char *data, size_t len)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (in_string) {
            if (c == '\\')
                i++; /* whatever is escaped cannot end the string */
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_MAX_DEPTH)
                return i;
        } else if (c == ']' || c == '}') {
            depth--; /* below zero on malformed text, which the parser refuses */
        }
    }
    return len;
}

json_t *json_read(const char *data, size_t len, char *why, size_t why_size)
{
    if (len == 0) {
        snprintf(why, why_size, "the JSON text is empty");
        return NULL;
    }
    if (len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) {
        snprintf(why, why_size, "the JSON text starts with a byte order mark");
        return NULL;
    }
    const char *nul = memchr(data, '\0', len);
    if (nul) { /* jansson passes over one that follows a number */
        snprintf(why, why_size, "the JSON text has a NUL at byte %zu", (size_t)(nul - data));
        return NULL;
    }
    size_t deep = too_deep_at(data, len);
    if (deep < len) {
        snprintf(why, why_size, "the JSON text is nested more than %d levels deep at byte %zu", JSON_MAX_DEPTH, deep);
        return NULL;
    }
    json_error_t error;
    json_t *json = json_loadb(data, len, JSON_REJECT_DUPLICATES, &error);
    if (json)
        return json;
    char *quote = strstr(error.text, " near '"); /* the input's own bytes, cut anywhere: not for an answer or a log */
    if (quote)
        *quote = '\0';
    snprintf(why, why_size, "the JSON text is malformed at byte %d (line %d, column %d): %s", error.position,
             error.line, error.column, error.text);
    return NULL;
}
