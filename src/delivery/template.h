/* Mail templates: a subject, a text and, perhaps, HTML, with {{name}} where a value goes. As files: name.txt, whose first
 * line is "Subject: …", then an empty line, then the text; and name.html. Read once, then constant: any thread may
 * render. */
#ifndef TIDINGS_DELIVERY_TEMPLATE_H
#define TIDINGS_DELIVERY_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

struct template;

/* Reads a template of a subject and a text. names: the values it may use, ends with NULL. NULL with a sentence in why
 * that names the line: an unknown or unclosed {{name}}, no subject, a line over 998 bytes, bytes that are not UTF-8
 * text. */
struct template *template_read(const char *text, size_t len, const char *const *names, char *why, size_t why_size);
/* Gives it its HTML, whose lines may have any length. False: as above; it is of no more use then. */
bool template_read_html(struct template *t, const char *html, size_t len, const char *const *names, char *why,
                        size_t why_size);
void template_free(struct template *t); /* NULL is fine */

/* The same from its pieces, NUL-terminated; html NULL: none. *at: the piece that is at fault ("subject"), its lines
 * counted from 1. */
struct template_source {
    const char *subject, *text, *html;
};
struct template *template_make(const struct template_source *source, const char *const *names, const char **at,
                               char *why, size_t why_size);

/* Reads name.txt from templates_dir or, when that is NULL or has no such file, the built-in one; and name.html likewise,
 * if there is one. A .txt from templates_dir goes without the built-in .html. why names the file. */
struct template *template_load(const char *templates_dir, const char *name, const char *const *names, char *why,
                               size_t why_size);

/* Lets a value (its place in names) have several lines in the text and the HTML: only for what the account itself has written. */
void template_allow_lines(struct template *t, int value);

/* Appends subject, text and HTML (lines end in "\n"; html is left alone when the template has none); values in the order
 * of names, NULL = empty. Control characters, line ends among them, are left out of values in the subject and become
 * blanks elsewhere: a value cannot make a header or a line (but see template_allow_lines). In HTML a value is text: what
 * would be a tag, an entity or the end of a quoted attribute is escaped. */
void template_render(const struct template *t, const char *const *values, struct buf *subject, struct buf *text,
                     struct buf *html);

#endif
