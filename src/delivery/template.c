/* Mail templates. */
#include "delivery/template.h"

#include <errno.h>
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/embed.h"

#define LINE_MAX_BYTES 998 /* RFC 5322 */
#define FILE_MAX_BYTES 262144
#define NAME_SIZE 80
#define PLACEHOLDERS_MAX 50 /* in one piece */

/* A stretch of text as it is, or a value. */
struct part {
    int value; /* index of names, -1: text */
    const char *text;
    size_t len;
};

/* The subject, the text or the HTML. */
struct piece {
    char *source; /* what the parts point into; NULL: there is no such piece */
    struct part *parts;
    size_t count, cap;
};

struct template
{
    struct piece subject, text, html;
    int lines; /* the value that may have several lines, -1: none */
};

static void add_part(struct piece *p, int value, const char *text, size_t len)
{
    if (value < 0 && len == 0)
        return;
    if (p->count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->parts = xrealloc(p->parts, p->cap * sizeof *p->parts);
    }
    p->parts[p->count++] = (struct part){.value = value, .text = text, .len = len};
}

static int find_name(const char *const *names, const char *name, size_t len)
{
    for (int i = 0; names[i]; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return i;
    return -1;
}

/* Cuts one line, which includes its line end, into parts. */
static bool read_line(struct piece *p, const char *at, const char *end, const char *const *names, int line, char *why,
                      size_t why_size)
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
        add_part(p, -1, at, (size_t)(open - at));
        add_part(p, value, NULL, 0);
        at = close + 2;
    }
    add_part(p, -1, at, (size_t)(end - at));
    return true;
}

/* line: the number of the first. */
static bool check_text(const char *text, size_t len, int line, size_t line_max, char *why, size_t why_size)
{
    if (!g_utf8_validate(text, (gssize)len, NULL)) { /* a NUL is refused too */
        snprintf(why, why_size, "it is not UTF-8 text");
        return false;
    }
    for (size_t i = 0, start = 0; i < len; i++) {
        if (text[i] == '\n') {
            start = i + 1;
            line++;
        } else if (i - start >= line_max) {
            snprintf(why, why_size, "line %d is longer than %zu bytes", line, line_max);
            return false;
        } else if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f) {
            snprintf(why, why_size, "line %d has a control character (line ends are \\n alone)", line);
            return false;
        }
    }
    return true;
}

/* A value may be long, and a mail's size is theirs. */
static bool few_placeholders(const struct piece *p, char *why, size_t why_size)
{
    size_t count = 0;
    for (size_t i = 0; i < p->count; i++)
        count += p->parts[i].value >= 0;
    if (count > PLACEHOLDERS_MAX)
        snprintf(why, why_size, "more than %d placeholders", PLACEHOLDERS_MAX);
    return count <= PLACEHOLDERS_MAX;
}

static bool read_piece(struct piece *p, const char *text, size_t len, int line, size_t line_max,
                       const char *const *names, char *why, size_t why_size)
{
    if (!check_text(text, len, line, line_max, why, why_size))
        return false;
    p->source = xstrndup(text, len);
    const char *end = p->source + len;
    for (const char *at = p->source; at < end; line++) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        next = next ? next + 1 : end;
        if (!read_line(p, at, next, names, line, why, why_size))
            return false;
        at = next;
    }
    return few_placeholders(p, why, why_size);
}

static struct template *new_template(void)
{
    struct template *t = xcalloc(1, sizeof *t);
    t->lines = -1;
    return t;
}

struct template *template_read(const char *text, size_t len, const char *const *names, char *why, size_t why_size)
{
    static const char head[] = "Subject: ";
    const size_t head_len = sizeof head - 1;
    const char *end = text + len, *subject_end = memchr(text, '\n', len);
    if (!check_text(text, len, 1, LINE_MAX_BYTES, why, why_size))
        return NULL;
    if (len < head_len || memcmp(text, head, head_len) != 0 || !subject_end || subject_end + 1 >= end ||
        subject_end[1] != '\n') {
        snprintf(why, why_size, "it must begin with a line \"Subject: …\" and an empty line");
        return NULL;
    }
    struct template *t = new_template();
    const char *subject = text + head_len, *body = subject_end + 2;
    if (read_piece(&t->subject, subject, (size_t)(subject_end - subject), 1, LINE_MAX_BYTES, names, why, why_size) &&
        read_piece(&t->text, body, (size_t)(end - body), 3, LINE_MAX_BYTES, names, why, why_size))
        return t;
    template_free(t);
    return NULL;
}

bool template_read_html(struct template *t, const char *html, size_t len, const char *const *names, char *why,
                        size_t why_size)
{
    return read_piece(&t->html, html, len, 1, SIZE_MAX, names, why, why_size);
}

struct template *template_make(const struct template_source *s, const char *const *names, const char **at, char *why,
                               size_t why_size)
{
    struct template *t = new_template();
    *at = "subject";
    if (strchr(s->subject, '\n')) {
        snprintf(why, why_size, "it must be one line");
        goto bad;
    }
    if (!read_piece(&t->subject, s->subject, strlen(s->subject), 1, LINE_MAX_BYTES, names, why, why_size))
        goto bad;
    *at = "text";
    if (!read_piece(&t->text, s->text, strlen(s->text), 1, LINE_MAX_BYTES, names, why, why_size))
        goto bad;
    *at = "html";
    if (s->html && !template_read_html(t, s->html, strlen(s->html), names, why, why_size))
        goto bad;
    return t;
bad:
    template_free(t);
    return NULL;
}

static void piece_free(struct piece *p)
{
    free(p->parts);
    free(p->source);
}

void template_free(struct template *t)
{
    if (!t)
        return;
    piece_free(&t->subject);
    piece_free(&t->text);
    piece_free(&t->html);
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

/* As read_file, with the built-in one in its stead. */
static int read_source(const char *dir, const char *name, struct buf *out, char *why, size_t why_size)
{
    int found = dir ? read_file(dir, name, out, why, why_size) : 0;
    return found == 0 && read_built_in(name, out) ? 1 : found;
}

static struct template *load_text(const char *dir, const char *name, const char *const *names, char *why,
                                  size_t why_size)
{
    struct buf text = {0};
    char reason[200];
    struct template *t = NULL;
    int found = read_source(dir, name, &text, why, why_size);
    if (found == 0)
        snprintf(why, why_size, "there is no mail template %s", name);
    else if (found > 0 && !(t = template_read(buf_cstr(&text), text.len, names, reason, sizeof reason)))
        snprintf(why, why_size, "mail template %s: %s", name, reason);
    buf_free(&text);
    return t;
}

static bool has_file(const char *dir, const char *name)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", dir, name);
    bool there = access(buf_cstr(&path), F_OK) == 0;
    buf_free(&path);
    return there;
}

/* A text of one's own does not go with the built-in HTML, which would say something else. */
static bool load_html(struct template *t, const char *dir, const char *text_name, const char *name,
                      const char *const *names, char *why, size_t why_size)
{
    struct buf html = {0};
    char reason[200];
    int found = dir && has_file(dir, text_name) ? read_file(dir, name, &html, why, why_size)
                                                : read_source(dir, name, &html, why, why_size);
    bool ok = found >= 0;
    if (found > 0 && !template_read_html(t, buf_cstr(&html), html.len, names, reason, sizeof reason)) {
        snprintf(why, why_size, "mail template %s: %s", name, reason);
        ok = false;
    }
    buf_free(&html);
    return ok;
}

struct template *template_load(const char *templates_dir, const char *name, const char *const *names, char *why,
                               size_t why_size)
{
    char text[NAME_SIZE], html[NAME_SIZE];
    snprintf(text, sizeof text, "%s.txt", name);
    snprintf(html, sizeof html, "%s.html", name);
    struct template *t = load_text(templates_dir, text, names, why, why_size);
    if (t && !load_html(t, templates_dir, text, html, names, why, why_size)) {
        template_free(t);
        t = NULL;
    }
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

/* The same as HTML. */
static void add_html_value(struct buf *out, const char *value, enum controls controls)
{
    struct buf plain = {0};
    add_value(&plain, value, controls);
    for (const char *at = buf_cstr(&plain); *at;) {
        size_t len = strcspn(at, "\n");
        buf_add_html(out, at, len);
        at += len;
        if (*at == '\n') {
            buf_adds(out, "<br>\n");
            at++;
        }
    }
    buf_free(&plain);
}

static void render(const struct template *t, const struct piece *p, const char *const *values, enum controls controls,
                   struct buf *out)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct part *part = &p->parts[i];
        enum controls mine = controls == BLANKS && part->value == t->lines ? LINES : controls;
        if (part->value < 0)
            buf_add(out, part->text, part->len);
        else if (p == &t->html)
            add_html_value(out, values[part->value], mine);
        else
            add_value(out, values[part->value], mine);
    }
}

void template_allow_lines(struct template *t, int value)
{
    t->lines = value;
}

static void end_line(struct buf *b)
{
    if (b->len == 0 || b->data[b->len - 1] != '\n')
        buf_addc(b, '\n');
}

void template_render(const struct template *t, const char *const *values, struct buf *subject, struct buf *text,
                     struct buf *html)
{
    render(t, &t->subject, values, LEFT_OUT, subject);
    render(t, &t->text, values, BLANKS, text);
    end_line(text);
    if (t->html.source) {
        render(t, &t->html, values, BLANKS, html);
        end_line(html);
    }
}
