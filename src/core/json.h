/* Strict JSON reading on top of jansson: duplicate keys, NULs, invalid UTF-8, trailing bytes and deep nesting are refused. */
#ifndef TIDINGS_CORE_JSON_H
#define TIDINGS_CORE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSON_MAX_DEPTH 16

/* Parses exactly data[0..len), an object or an array. Returns a new reference, or NULL with a sentence in why. Any thread. */
json_t *json_read(const char *data, size_t len, char *why, size_t why_size);

#endif
