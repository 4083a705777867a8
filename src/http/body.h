/* A request's JSON body: strict reading, then typed members. The first thing that is wrong is kept, with the name of the
 * member at fault; after it every getter does nothing, so a handler asks for all it knows and checks once, at body_end.
 * Pure; one thread at a time. */
#ifndef TIDINGS_HTTP_BODY_H
#define TIDINGS_HTTP_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/uuid.h"
#include "http/flat.h"
#include "store/action.h"

#define BODY_MEMBERS 16 /* members that one body may have at most */

struct body {
    json_t *root;   /* an object, or NULL: then `flat` has what there is */
    enum err err;   /* ERR_NONE: nothing wrong so far */
    char field[72]; /* "" : no member in particular */
    char detail[256];
    size_t asked_count;
    const char *asked[BODY_MEMBERS];
    struct flat flat;
};

/* Whether a Content-Type header's value says `type`, with no charset or UTF-8. */
bool content_type_is(const char *value, size_t len, const char *type);

/* Reads the object. content_type NULL: the header is missing. The texts that getters give live until body_clear. */
void body_open(struct body *b, const char *content_type, size_t content_type_len, const char *data, size_t len);

/* An optional member may also be null, which is as if it were not there. */
enum body_need { BODY_OPTIONAL, BODY_REQUIRED };

/* Each returns true when the member is there and good. Absent: *out is left alone (text: {NULL, 0}). */
bool body_text(struct body *b, const char *name, enum body_need need, size_t min_chars, size_t max_chars,
               struct text *out);
bool body_int(struct body *b, const char *name, enum body_need need, int64_t min, int64_t max, int64_t *out);
bool body_lines(struct body *b, const char *name, enum body_need need, size_t min_chars, size_t max_chars,
                struct text *out); /* text that may have line breaks and tabs */
bool body_uuid(struct body *b, const char *name, enum body_need need, struct uuid *out);
bool body_object(struct body *b, const char *name, enum body_need need, json_t **out); /* borrowed */
bool body_array(struct body *b, const char *name, enum body_need need, size_t max, json_t **out);

/* Whether the member is there and null, for those whose null means something; ask for the value after it. */
bool body_null(struct body *b, const char *name);

/* Reads an object inside as a body of its own; at its end what is wrong is said of b, as "name.member". */
void body_enter(struct body *inside, json_t *object);
void body_leave(struct body *b, const char *name, struct body *inside);

/* For checks that are the caller's own. */
void body_fault(struct body *b, enum err err, const char *field, const char *detail);

/* Refuses members that nobody asked for. True: all is well. */
bool body_end(struct body *b);
void body_clear(struct body *b);

#endif
