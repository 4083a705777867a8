/* What http needs of URLs and forms: percent-encoding, fields of a query or form, and a check of web addresses.
 * Pure; any thread. */
#ifndef TIDINGS_HTTP_URL_H
#define TIDINGS_HTTP_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

/* Undoes percent-encoding (and '+' for a blank, in forms) into out, which has room for len bytes; the result's length
 * goes to *out_len. False: a '%' is not followed by two hex digits. */
bool url_decode(const char *text, size_t len, bool form, char *out, size_t *out_len);

/* The value of the first field `name` of a query or form (a=1&b=2), decoded and appended to out. False: not there, or
 * badly encoded. Names are compared as they stand, not decoded: ours need no encoding. */
bool url_field(const char *fields, size_t len, const char *name, struct buf *out);

/* The path of a request target, without its query; *query is what follows '?' ("" when there is none). Also takes the
 * absolute form (http://host/path), which every server must accept. */
void url_split(const char *target, size_t len, const char **path, size_t *path_len, const char **query,
               size_t *query_len);

/* Whether text is an absolute http or https URL of printable ASCII with a host and without user information. */
bool url_is_web(const char *text, size_t len);

#endif
