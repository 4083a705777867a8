/* Files inside the binary: sql/, config/templates/ and docs/openapi.yaml, put there by the build (deps/cmake/embed.cmake).
 * Constant, for the life of the process. Any thread. */
#ifndef TIDINGS_CORE_EMBED_H
#define TIDINGS_CORE_EMBED_H

#include <stddef.h>

struct embedded_file {
    const char *name;          /* base name, e.g. "0001_core.sql" */
    const unsigned char *data; /* its bytes; data[size] is 0, so that text can be read as a string */
    size_t size;               /* bytes, without that 0 */
};

/* Sorted by name (bytes). Past the last entry stands one whose name is NULL. */
extern const struct embedded_file embedded_sql[];
extern const size_t embedded_sql_count;
extern const struct embedded_file embedded_templates[];
extern const size_t embedded_templates_count;
extern const struct embedded_file embedded_docs[];
extern const size_t embedded_docs_count;

#endif
