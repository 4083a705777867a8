/* Mail templates. */
#include "delivery/template.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/embed.h"

#define LINE_MAX_BYTES 998 /* RFC 5322 */
#define FILE_MAX_BYTES 262144

/* A stretch of text as it is, or a value. */
struct part {
    int value; /* index of names, -1: text */
    const char *text;
    size_t len;
};

struct template
{
    char *text; /* what the parts point into */
    struct part *parts;
    size_t count, cap;
    size_t body; /* the first part of the body */
    int lines;   /* the value that may have several lines, -1: none */
};

static void add_part(struct template *t, int value, const char *text, size_t len)
{
    if (value < 0 && len == 0)
        return;
    if (t->count == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 16;
        t->parts = xrealloc(t->parts, t->cap * sizeof *t->parts);
    }
    t->parts[t->count++] = (struct part){.value = value, .text = text, .len = len};
}

static int find_name(const char *const *names, const char *name, size_t len)
{
    for (int i = 0; names[i]; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return i;
    return -1;
}

/* Cuts one line into parts. end is where it ends; a body's line includes its line end. */
static bool read_line(struct template *t, const char *at, const char *end, const char *const *names, int line,
                      char *why, size_t why_size)
{
    while (at < end) {
        const char *open = memmem(at, (size_t)(end - at), "{{", 2);
        if (!open)
            break;
        const char *name = open + 2, *close = memmem(name, (size_t)(end - name), "}}", 2);
        if (!close) {
            snprintf(why, why_size, "line %d: {{ without }}", line);
            return false;
        }
        int value = find_name(names, name, (size_t)(close - name));
        if (value < 0) {
            snprintf(why, why_size, "line %d: unknown placeholder {{%.*s}}", line, (int)(close - name), name);
            return false;
        }
        add_part(t, -1, at, (size_t)(open - at));
        add_part(t, value, NULL, 0);
        at = close + 2;
    }
    add_part(t, -1, at, (size_t)(end - at));
    return true;
}

static bool check_text(const char *text, size_t len, char *why, size_t why_size)
{
    int line = 1;
    for (size_t i = 0, start = 0; i < len; i++) {
        if (text[i] == '\n') {
            start = i + 1;
            line++;
        } else if (i - start >= LINE_MAX_BYTES) {
            snprintf(why, why_size, "line %d is longer than %d bytes", line, LINE_MAX_BYTES);
            return false;
        } else if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f) {
            snprintf(why, why_size, "line %d has a control character (line ends are \\n alone)", line);
            return false;
        }
    }
    return true;
}

static bool read_all(struct template *t, const char *const *names, char *why, size_t why_size)
{
    static const char head[] = "Subject: ";
    size_t len = strlen(t->text);
    const char *end = t->text + len, *subject_end = memchr(t->text, '\n', len);
    if (strncmp(t->text, head, sizeof head - 1) != 0 || !subject_end || subject_end + 1 >= end ||
        subject_end[1] != '\n') {
        snprintf(why, why_size, "it must begin with a line \"Subject: …\" and an empty line");
        return false;
    }
    if (!read_line(t, t->text + sizeof head - 1, subject_end, names, 1, why, why_size))
        return false;
    t->body = t->count;
    int line = 3;
    for (const char *at = subject_end + 2; at < end; line++) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        next = next ? next + 1 : end;
        if (!read_line(t, at, next, names, line, why, why_size))
            return false;
        at = next;
    }
    return true;
}

struct template *template_read(const char *text, size_t len, const char *const *names, char *why, size_t why_size)
{
    if (!g_utf8_validate(text, (gssize)len, NULL)) { /* a NUL is refused too */
        snprintf(why, why_size, "it is not UTF-8 text");
        return NULL;
    }
    if (!check_text(text, len, why, why_size))
        return NULL;
    struct template *t = xcalloc(1, sizeof *t);
    t->text = xstrndup(text, len);
    t->lines = -1;
    if (read_all(t, names, why, why_size))
        return t;
    template_free(t);
    return NULL;
}

void template_free(struct template *t)
{
    if (!t)
        return;
    free(t->parts);
    free(t->text);
    free(t);
}

/* --- where templates come from --- */

/* 1: read; 0: there is no such file; -1: it cannot be read. */
static int read_file(const char *dir, const char *name, struct buf *out, char *why, size_t why_size)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", dir, name);
    FILE *f = fopen(buf_cstr(&path), "re");
    int result = f ? 1 : errno == ENOENT ? 0 : -1;
    if (f) {
        char *room = buf_grow(out, FILE_MAX_BYTES + 1);
        out->len += fread(room, 1, FILE_MAX_BYTES + 1, f);
        if (ferror(f))
            result = -1;
        fclose(f);
    }
    if (result < 0)
        snprintf(why, why_size, "cannot read %s: %s", buf_cstr(&path), strerror(errno));
    if (out->len > FILE_MAX_BYTES) {
        snprintf(why, why_size, "%s is larger than %d bytes", buf_cstr(&path), FILE_MAX_BYTES);
        result = -1;
    }
    buf_free(&path);
    return result;
}

static bool read_built_in(const char *name, struct buf *out)
{
    for (size_t i = 0; i < embedded_templates_count; i++)
        if (strcmp(embedded_templates[i].name, name) == 0) {
            buf_add(out, embedded_templates[i].data, embedded_templates[i].size);
            return true;
        }
    return false;
}

struct template *template_load(const char *templates_dir, const char *name, const char *const *names, char *why,
                               size_t why_size)
{
    struct buf text = {0};
    struct template *t = NULL;
    int found = templates_dir ? read_file(templates_dir, name, &text, why, why_size) : 0;
    if (found == 0 && !read_built_in(name, &text)) {
        snprintf(why, why_size, "there is no mail template %s", name);
        found = -1;
    }
    if (found >= 0) {
        char reason[200];
        t = template_read(buf_cstr(&text), text.len, names, reason, sizeof reason);
        if (!t)
            snprintf(why, why_size, "mail template %s: %s", name, reason);
    }
    buf_free(&text);
    return t;
}

/* --- rendering --- */

enum controls { LEFT_OUT, BLANKS, LINES };

/* A value without control characters: left out, or blanks in their stead, or line ends kept. */
static void add_value(struct buf *out, const char *value, enum controls controls)
{
    for (; value && *value; value++) {
        unsigned char c = (unsigned char)*value;
        if ((c >= 0x20 && c != 0x7f) || (c == '\n' && controls == LINES))
            buf_addc(out, *value);
        else if (controls != LEFT_OUT && !(c == '\r' && controls == LINES))
            buf_addc(out, ' ');
    }
}

static void render(const struct template *t, size_t from, size_t to, const char *const *values, enum controls controls,
                   struct buf *out)
{
    for (size_t i = from; i < to; i++) {
        const struct part *p = &t->parts[i];
        bool lines = controls == BLANKS && p->value == t->lines;
        if (p->value < 0)
            buf_add(out, p->text, p->len);
        else
            add_value(out, values[p->value], lines ? LINES : controls);
    }
}

void template_allow_lines(struct template *t, int value)
{
    t->lines = value;
}

void template_render(const struct template *t, const char *const *values, struct buf *subject, struct buf *body)
{
    render(t, 0, t->body, values, LEFT_OUT, subject);
    render(t, t->body, t->count, values, BLANKS, body);
    if (body->len == 0 || body->data[body->len - 1] != '\n')
        buf_addc(body, '\n');
}
