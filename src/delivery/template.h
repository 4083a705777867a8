/* Mail templates: a text file whose first line is "Subject: …", then an empty line, then the body, with {{name}} where
 * a value goes. Read once, then constant: any thread may render. */
#ifndef TIDINGS_DELIVERY_TEMPLATE_H
#define TIDINGS_DELIVERY_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

struct template;

/* Reads a template. names: the values it may use, ends with NULL. NULL with a sentence in why that names the line: an
 * unknown or unclosed {{name}}, no subject, a line over 998 bytes, bytes that are not UTF-8 text. */
struct template *template_read(const char *text, size_t len, const char *const *names, char *why, size_t why_size);
void template_free(struct template *t); /* NULL is fine */

/* Reads templates_dir/<name> or, when templates_dir is NULL or has no such file, the built-in one of that name. why
 * names the file. */
struct template *template_load(const char *templates_dir, const char *name, const char *const *names, char *why,
                               size_t why_size);

/* Lets a value (its place in names) have several lines in the body: only for what the account itself has written. */
void template_allow_lines(struct template *t, int value);

/* Writes subject and body (lines end in "\n"); values in the order of names, NULL = empty. Control characters, line
 * ends among them, are left out of values in the subject and become blanks in the body: a value cannot make a header or
 * a line (but see template_allow_lines). */
void template_render(const struct template *t, const char *const *values, struct buf *subject, struct buf *body);

#endif
