/* Settings: read from the environment by the table, checked, printed. */
#include "core/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/buf.h"

enum type { INT, STR, SECRET, ENUM };

struct setting {
    const char *env, *def, *help;
    enum type type;
    int64_t min, max;
    size_t offset; /* of its field in struct config */
};

static const struct setting settings[] = {
#define CONFIG_SETTING(field, env_, type_, min_, max_, def_, help_)                                                    \
    {.env = env_,                                                                                                      \
     .def = def_,                                                                                                      \
     .help = help_,                                                                                                    \
     .type = type_,                                                                                                    \
     .min = min_,                                                                                                      \
     .max = max_,                                                                                                      \
     .offset = offsetof(struct config, field)},
    CONFIG_TABLE(CONFIG_SETTING)
#undef CONFIG_SETTING
};
#define SETTINGS (sizeof settings / sizeof settings[0])

static int64_t *int_field(struct config *c, const struct setting *s)
{
    return (int64_t *)(void *)((char *)c + s->offset);
}

static const char **text_field(struct config *c, const struct setting *s)
{
    return (const char **)(void *)((char *)c + s->offset);
}

/* --- checking; each writes a sentence that names the setting --- */

/* A refused value is shown in the sentence: shortened, and without what would spoil a terminal. */
static const char *shown(const char *value, char out[48])
{
    size_t i = 0;
    for (; value[i] && i < 40; i++)
        out[i] = (unsigned char)value[i] < 0x20 || value[i] == 0x7f ? '?' : value[i];
    memcpy(out + i, value[i] ? "..." : "", value[i] ? 4 : 1);
    return out;
}

static bool check_int(const struct setting *s, const char *value, int64_t *out, char *why, size_t why_size)
{
    char text[48], *end;
    const char *digits = value + (*value == '-');
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (*digits < '0' || *digits > '9' || *end || errno || n < s->min || n > s->max) {
        snprintf(why, why_size, "%s must be an integer from %lld to %lld, not \"%s\"", s->env, (long long)s->min,
                 (long long)s->max, shown(value, text));
        return false;
    }
    *out = n;
    return true;
}

static bool check_text(const struct setting *s, const char *value, char *why, size_t why_size)
{
    size_t len = strlen(value);
    if (len == 0 && s->min > 0)
        snprintf(why, why_size, "%s must not be empty", s->env);
    else if ((int64_t)len < s->min)
        snprintf(why, why_size, "%s must have at least %lld bytes, not %zu", s->env, (long long)s->min, len);
    else if ((int64_t)len > s->max)
        snprintf(why, why_size, "%s must have at most %lld bytes, not %zu", s->env, (long long)s->max, len);
    else {
        for (size_t i = 0; i < len; i++)
            if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f) {
                snprintf(why, why_size, "%s must not contain control characters (byte %zu)", s->env, i);
                return false;
            }
        return true;
    }
    return false;
}

static size_t words_length(const struct setting *s)
{
    return strcspn(s->help, ":");
}

static bool check_word(const struct setting *s, const char *value, char *why, size_t why_size)
{
    char text[48];
    size_t len = strlen(value), words = words_length(s);
    for (size_t at = 0; at < words;) {
        size_t word = strcspn(s->help + at, "|:");
        if (word == len && memcmp(s->help + at, value, len) == 0)
            return true;
        at += word + 1;
    }
    snprintf(why, why_size, "%s must be one of %.*s, not \"%s\"", s->env, (int)words, s->help, shown(value, text));
    return false;
}

/* Each of the secrets must be strong by itself: any of them verifies. */
static bool check_token_secret(const struct setting *s, const char *value, char *why, size_t why_size)
{
    for (int part = 1;; part++) {
        size_t len = strcspn(value, ",");
        if (len < 16) {
            snprintf(why, why_size, "%s must have at least 16 bytes in each comma-separated part, not %zu (part %d)",
                     s->env, len, part);
            return false;
        }
        if (!value[len])
            return true;
        value += len + 1;
    }
}

/* Puts the value into its field. An empty value of a setting that is unset by default leaves it so: env files write
 * it like that. */
static bool setting_read(struct config *c, const struct setting *s, const char *value, char *why, size_t why_size)
{
    if (!value || (!*value && !s->def))
        value = s->def;
    if (!value) {
        if (s->type == INT)
            *int_field(c, s) = 0;
        else
            *text_field(c, s) = NULL;
        return true;
    }
    bool ok = false;
    switch (s->type) {
    case INT: return check_int(s, value, int_field(c, s), why, why_size);
    case ENUM: ok = check_word(s, value, why, why_size); break;
    case STR:
    case SECRET: ok = check_text(s, value, why, why_size); break;
    }
    if (ok && s->offset == offsetof(struct config, token_secret))
        ok = check_token_secret(s, value, why, why_size);
    if (ok)
        *text_field(c, s) = value;
    return ok;
}

/* Text fields point to the table or the environment, whose strings live as long as the process: nothing is copied. */
bool config_load(struct config *c, char *why, size_t why_size)
{
    bool ok = true;
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < SETTINGS; i++) {
        char ignored[256];
        bool first = ok;
        if (setting_read(c, &settings[i], getenv(settings[i].env), first ? why : ignored,
                         first ? why_size : sizeof ignored))
            continue;
        ok = false;
        setting_read(c, &settings[i], NULL, ignored, sizeof ignored);
    }
    return ok;
}

void config_free(struct config *c)
{
    memset(c, 0, sizeof *c);
}

int64_t config_pool_size(const struct config *c, int64_t group_setting)
{
    return group_setting > 0 ? group_setting : c->pool_size;
}

/* --- printing --- */

/* The end of a password that starts at p: as libpq reads a URL's parameter, a quoted or a bare value. */
static const char *password_end(const char *p, bool in_url)
{
    if (in_url)
        return p + strcspn(p, "&");
    char quote = *p == '\'' ? *p++ : '\0';
    for (; *p && (quote ? *p != quote : *p != ' '); p++)
        if (*p == '\\' && p[1])
            p++;
    return p + (quote && *p == quote);
}

/* Copies text with passwords replaced: user:***@ in a URL (up to the last @, should a password hold one), and
 * password=***. */
static void add_masked(struct buf *out, const char *text)
{
    const char *p = strstr(text, "://"), *start = p ? p + 3 : text;
    bool in_url = p != NULL;
    buf_add(out, text, (size_t)(start - text));
    const char *colon = in_url ? strpbrk(start, ":@") : NULL, *at = in_url ? strrchr(start, '@') : NULL;
    if (colon && *colon == ':' && at) {
        buf_add(out, start, (size_t)(colon - start));
        buf_adds(out, ":***");
        start = at;
    }
    while (*start) {
        static const char word[] = "password";
        size_t blanks = 0;
        if (strncasecmp(start, word, sizeof word - 1) == 0) {
            blanks = strspn(start + sizeof word - 1, " ");
            const char *equals = start + sizeof word - 1 + blanks;
            if (*equals == '=') {
                buf_adds(out, "password=***");
                equals++;
                start = password_end(equals + strspn(equals, " "), in_url);
                continue;
            }
        }
        buf_addc(out, *start++);
    }
}

/* A secret that is an address is worth reading without its password; any other is not shown at all. */
static bool is_address(const struct setting *s)
{
    size_t len = strlen(s->env);
    return len > 4 && strcmp(s->env + len - 4, "_URL") == 0;
}

static void add_value(struct buf *out, const struct setting *s, const char *value)
{
    if (!value)
        buf_adds(out, "(unset)");
    else if (!*value)
        buf_adds(out, "\"\"");
    else if (s->type == SECRET && !is_address(s))
        buf_adds(out, "(set)");
    else
        add_masked(out, value);
}

static void add_current(struct buf *out, const struct config *c, const struct setting *s)
{
    const char *field = (const char *)c + s->offset;
    if (s->type != INT) {
        add_value(out, s, *(const char *const *)(const void *)field);
        return;
    }
    int64_t number = *(const int64_t *)(const void *)field;
    if (number == 0 && !s->def)
        buf_adds(out, "(unset)");
    else
        buf_add_int(out, number);
}

static void add_kind(struct buf *out, const struct setting *s)
{
    static const char *const names[] = {"integer", "text", "secret text", ""};
    if (s->type == ENUM)
        buf_add(out, s->help, words_length(s));
    else
        buf_printf(out, "%s, %lld to %lld%s", names[s->type], (long long)s->min, (long long)s->max,
                   s->type == INT ? "" : " bytes");
}

static void print_setting(const struct config *c, const struct setting *s, FILE *out)
{
    struct buf kind = {0}, def = {0}, now = {0};
    struct config unused;
    char why[256];
    add_kind(&kind, s);
    add_value(&def, s, s->def);
    add_current(&now, c, s);
    bool same = strcmp(buf_cstr(&def), buf_cstr(&now)) == 0;
    fprintf(out, "%c %-28s %-32s default %-32s now %s\n", same ? ' ' : '*', s->env, buf_cstr(&kind), def.data,
            now.data);
    const char *help = s->type == ENUM ? s->help + words_length(s) + 2 : s->help;
    fprintf(out, "    %s\n", help);
    if (!setting_read(&unused, s, getenv(s->env), why, sizeof why))
        fprintf(out, "    REFUSED: %s\n", why);
    buf_free(&kind);
    buf_free(&def);
    buf_free(&now);
}

void config_print(const struct config *c, FILE *out)
{
    fputs("Settings are environment variables; * marks those that differ from their default.\n\n", out);
    for (size_t i = 0; i < SETTINGS; i++)
        print_setting(c, &settings[i], out);
}
