/* Headers that decide where a request ends, checked for having one meaning only. */
#include "http/framing.h"

#include <string.h>
#include <strings.h>

struct framing {
    int hosts, lengths, encodings;
    bool bad_length, bad_encoding, folded;
};

static bool is(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

static bool all_digits(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return len > 0;
}

static void look_at(struct framing *f, const char *line, size_t len)
{
    if (line[0] == ' ' || line[0] == '\t') {
        f->folded = true;
        return;
    }
    if (!strchr("HhCcTt", line[0]))
        return; /* none of those that matter */
    const char *colon = memchr(line, ':', len);
    if (!colon)
        return;
    size_t name_len = (size_t)(colon - line), value_len = len - name_len - 1;
    const char *value = colon + 1;
    while (value_len > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        value_len--;
    }
    if (is(line, name_len, "host")) {
        f->hosts++;
    } else if (is(line, name_len, "content-length")) {
        f->lengths++;
        f->bad_length |= !all_digits(value, value_len);
    } else if (is(line, name_len, "transfer-encoding")) {
        f->encodings++;
        f->bad_encoding |= !is(value, value_len, "chunked");
    }
}

/* Takes the next line off *at; its end may be LF alone, as the parser before us accepts it. */
static bool next_line(const char **at, const char *end, const char **line, size_t *len)
{
    const char *stop = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
    if (!stop)
        return false;
    *line = *at;
    *len = (size_t)(stop - *at);
    if (*len > 0 && stop[-1] == '\r')
        --*len;
    *at = stop + 1;
    return true;
}

const char *framing_fault(const char *head, size_t len, bool http_1_0)
{
    struct framing f = {0};
    const char *at = head, *end = head + len, *line;
    size_t line_len;
    if (!next_line(&at, end, &line, &line_len))
        return NULL;
    if (line_len == 0 && !next_line(&at, end, &line, &line_len)) /* one empty line may come before the request line */
        return NULL;
    while (next_line(&at, end, &line, &line_len) && line_len > 0)
        look_at(&f, line, line_len);

    if (f.hosts > 1)
        return "The request has more than one Host header.";
    if (f.hosts == 0 && !http_1_0)
        return "The request has no Host header.";
    if (f.folded)
        return "A header is continued on a second line.";
    if (f.lengths > 1)
        return "The request has more than one Content-Length header.";
    if (f.encodings > 1)
        return "The request has more than one Transfer-Encoding header.";
    if (f.lengths && f.encodings)
        return "The request has both Content-Length and Transfer-Encoding.";
    if (f.bad_length)
        return "Content-Length is not a number.";
    if (f.bad_encoding || (f.encodings && http_1_0))
        return "The Transfer-Encoding is not one that this server understands.";
    return NULL;
}
