/* Compact JSON. */
#include "http/compact.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The fewest digits that read back as the same number; still a real, so that 1.0 stays 1.0. */
static void add_real(struct buf *out, double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (memcmp(&back, &value, sizeof back) == 0)
            break;
    }
    buf_adds(out, text);
    if (!strpbrk(text, ".e"))
        buf_adds(out, ".0");
}

static void add_object(struct buf *out, const json_t *object)
{
    const char *key;
    json_t *value;
    bool first = true;
    buf_addc(out, '{');
    json_object_foreach((json_t *)object, key, value)
    {
        if (!first)
            buf_addc(out, ',');
        first = false;
        buf_add_json(out, key, strlen(key));
        buf_addc(out, ':');
        compact_json(out, value);
    }
    buf_addc(out, '}');
}

static void add_array(struct buf *out, const json_t *array)
{
    size_t i;
    json_t *value;
    buf_addc(out, '[');
    json_array_foreach(array, i, value)
    {
        if (i > 0)
            buf_addc(out, ',');
        compact_json(out, value);
    }
    buf_addc(out, ']');
}

void compact_json(struct buf *out, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: add_object(out, value); break;
    case JSON_ARRAY: add_array(out, value); break;
    case JSON_STRING: buf_add_json(out, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: buf_add_int(out, json_integer_value(value)); break;
    case JSON_REAL: add_real(out, json_real_value(value)); break;
    case JSON_TRUE: buf_adds(out, "true"); break;
    case JSON_FALSE: buf_adds(out, "false"); break;
    case JSON_NULL: buf_adds(out, "null"); break;
    }
}
