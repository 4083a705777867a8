/* JSON objects of the plainest kind, as most bodies are: few members, all of them texts of printable ASCII without escapes.
 * They are read without making a tree of them. What is not so plain, or wrong in any way, is left to jansson: so it cannot
 * happen that one takes what the other would refuse. Pure. */
#ifndef TIDINGS_HTTP_FLAT_H
#define TIDINGS_HTTP_FLAT_H

#include <stdbool.h>
#include <stddef.h>

#define FLAT_MEMBERS 8
#define FLAT_BYTES 512

struct flat {
    size_t count;
    struct flat_member {
        const char *name, *value; /* in `text`, NUL-terminated */
        size_t value_len;
    } members[FLAT_MEMBERS]; /* as they stand in the object */
    char text[FLAT_BYTES + 1];
};

/* False: it is not that plain, *f means nothing. */
bool flat_read(struct flat *f, const char *data, size_t len);

const struct flat_member *flat_find(const struct flat *f, const char *name); /* NULL: not there */

#endif
