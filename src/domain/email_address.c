/* Which e-mail addresses are accepted, and the form they are compared by. */
#include "domain/email_address.h"

#include <glib.h>
#include <string.h>

#define LOCAL_MAX 64
#define LABEL_MAX 63

static bool is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] >= 0x80)
            return false;
    return true;
}

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Letters, their marks, and numbers of any script: blanks, controls, what turns the writing direction or looks like an
 * @ or a dot is none of them. text must be valid UTF-8. */
static bool non_ascii_are_letters(const char *text, size_t len)
{
    for (const char *p = text; p < text + len; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (c >= 0x80 && !g_unichar_isalnum(c) && !g_unichar_ismark(c))
            return false;
    }
    return true;
}

/* A part between dots (a label, an atom). The other bytes of a valid UTF-8 text were judged before. */
static bool part_valid(const char *part, size_t len, size_t max, const char *punctuation)
{
    if (len == 0 || len > max)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)part[i] < 0x80 && !is_letter_or_digit(part[i]) &&
            (part[i] == '\0' || !strchr(punctuation, part[i])))
            return false;
    return true;
}

static bool parts_valid(const char *text, size_t len, bool is_domain)
{
    const char *end = text + len;
    for (;;) {
        const char *dot = memchr(text, '.', (size_t)(end - text)), *part_end = dot ? dot : end;
        if (!part_valid(text, (size_t)(part_end - text), is_domain ? LABEL_MAX : LOCAL_MAX,
                        is_domain ? "-" : "!#$%&'*+-/=?^_`{|}~"))
            return false;
        /* Labels do not begin or end with the hyphen; atoms may. */
        if (is_domain && (*text == '-' || part_end[-1] == '-'))
            return false;
        if (!dot)
            return true;
        text = dot + 1;
    }
}

static bool domain_valid(const char *domain, size_t len)
{
    if (!parts_valid(domain, len, true))
        return false;
    return memchr(domain, '.', len) || (len == 9 && g_ascii_strncasecmp(domain, "localhost", 9) == 0);
}

bool email_valid(const char *text, size_t len)
{
    if (len == 0 || len > EMAIL_MAX)
        return false;
    const char *at = memchr(text, '@', len);
    if (!at)
        return false;
    size_t local = (size_t)(at - text);
    if (!is_ascii(text, len) && (!g_utf8_validate_len(text, len, NULL) || !non_ascii_are_letters(text, len)))
        return false;
    return local <= LOCAL_MAX && parts_valid(text, local, false) && domain_valid(at + 1, len - local - 1);
}

/* Case-folding can undo normal form and the other way round; a few turns reach a form that neither changes. */
static char *fold(const char *text, size_t len)
{
    char *key = g_utf8_normalize(text, (gssize)len, G_NORMALIZE_NFC);
    for (int turn = 0; key && turn < 8; turn++) {
        char *folded = g_utf8_casefold(key, -1), *next = g_utf8_normalize(folded, -1, G_NORMALIZE_NFC);
        bool stable = next && strcmp(next, key) == 0;
        g_free(folded);
        g_free(key);
        key = next;
        if (stable)
            break;
    }
    return key;
}

size_t email_key(const char *text, size_t len, char *key, size_t key_size)
{
    if (is_ascii(text, len)) {
        if (len > key_size)
            return 0;
        for (size_t i = 0; i < len; i++)
            key[i] = g_ascii_tolower(text[i]);
        return len;
    }
    char *folded = fold(text, len);
    size_t folded_len = folded ? strlen(folded) : 0;
    if (folded_len > key_size)
        folded_len = 0;
    if (folded_len > 0)
        memcpy(key, folded, folded_len);
    g_free(folded);
    return folded_len;
}
