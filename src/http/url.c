/* Percent-encoding, form fields and a check of web addresses. */
#include "http/url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool url_decode(const char *text, size_t len, bool form, char *out, size_t *out_len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            out[n++] = form && text[i] == '+' ? ' ' : text[i];
            continue;
        }
        int high = i + 2 < len ? hex_digit(text[i + 1]) : -1, low = i + 2 < len ? hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0)
            return false;
        out[n++] = (char)(high << 4 | low);
        i += 2;
    }
    *out_len = n;
    return true;
}

bool url_field(const char *fields, size_t len, const char *name, struct buf *out)
{
    size_t name_len = strlen(name);
    const char *at = fields, *end = fields + len;
    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        if (!stop)
            stop = end;
        size_t field_len = (size_t)(stop - at), value_len;
        if (field_len > name_len && memcmp(at, name, name_len) == 0 && at[name_len] == '=') {
            const char *value = at + name_len + 1;
            if (!url_decode(value, (size_t)(stop - value), true, buf_grow(out, field_len), &value_len))
                return false;
            out->len += value_len;
            return true;
        }
        at = stop + 1;
    }
    return false;
}

/* Length of "http://" or "https://" at the start, in any case; else 0. */
static size_t scheme_length(const char *text, size_t len)
{
    if (len >= 7 && strncasecmp(text, "http://", 7) == 0)
        return 7;
    return len >= 8 && strncasecmp(text, "https://", 8) == 0 ? 8 : 0;
}

void url_split(const char *target, size_t len, const char **path, size_t *path_len, const char **query,
               size_t *query_len)
{
    size_t skip = scheme_length(target, len);
    if (skip > 0) {
        while (skip < len && target[skip] != '/' && target[skip] != '?')
            skip++;
        target += skip;
        len -= skip;
    }
    const char *mark = memchr(target, '?', len);
    *path = target;
    *path_len = mark ? (size_t)(mark - target) : len;
    *query = mark ? mark + 1 : target + len;
    *query_len = len - *path_len - (mark != NULL);
}

/* A host as in a URL: a name or IPv4 address, whose labels are not empty, or an IPv6 address in brackets. */
static bool is_host(const char *host, size_t len)
{
    char text[256];
    struct in6_addr ignored;
    if (len == 0 || len >= sizeof text)
        return false;
    if (host[0] == '[') {
        snprintf(text, sizeof text, "%.*s", len > 2 ? (int)len - 2 : 0, host + 1);
        return host[len - 1] == ']' && inet_pton(AF_INET6, text, &ignored) == 1;
    }
    for (size_t i = 0; i < len; i++) {
        char c = host[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      (c != '\0' && strchr("-_~", c));
        if (!letter && !(c == '.' && i > 0 && host[i - 1] != '.'))
            return false; /* an '@' among others: user information in a link is a trap */
    }
    return true;
}

static bool is_port(const char *port, size_t len)
{
    unsigned value = 0;
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (port[i] < '0' || port[i] > '9')
            return false;
        value = value * 10 + (unsigned)(port[i] - '0');
    }
    return value >= 1 && value <= 65535;
}

bool url_is_web(const char *text, size_t len)
{
    size_t host = scheme_length(text, len), end = host;
    if (host == 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("\"<>\\^`{|}", text[i]))
            return false;
    while (end < len && !strchr("/?#", text[end]))
        end++;
    size_t authority_len = end - host;
    const char *authority = text + host, *name_end = authority;
    if (authority_len > 0 && authority[0] == '[') /* the colons inside are the address's own */
        name_end = memchr(authority, ']', authority_len);
    const char *colon = name_end ? memchr(name_end, ':', (size_t)(text + end - name_end)) : NULL;
    size_t host_len = colon ? (size_t)(colon - authority) : authority_len;
    return is_host(authority, host_len) && (!colon || is_port(colon + 1, authority_len - host_len - 1));
}
