/* The table of handlers, and what all of them use. */
#include <stdarg.h>
#include <stdio.h>

#include "handlers/handler.h"

#ifdef HANDLERS_EXAMPLE /* the build of docs/adding-a-consumer.md's example has one more */
#define HANDLERS_MORE(X) X(fraud_handler)
#elif defined(HANDLERS_NAUGHTY) /* and the tests' one that misbehaves */
#define HANDLERS_MORE(X) X(naughty_handler)
#else
#define HANDLERS_MORE(X)
#endif

/* One row per consumer group: the struct handler that its file defines. */
#define HANDLERS(X)                                                                                                    \
    X(email_handler)                                                                                                   \
    X(reward_handler)                                                                                                  \
    X(position_handler)                                                                                                \
    X(webhook_handler)                                                                                                 \
    X(analytics_handler)                                                                                               \
    HANDLERS_MORE(X)

#define HANDLER_DECLARE(name) extern const struct handler name;
HANDLERS(HANDLER_DECLARE)

#define HANDLER_POINTER(name) &name,
const struct handler *const all_handlers[] = {HANDLERS(HANDLER_POINTER) NULL};

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none. */
static size_t sequence_length(const unsigned char *s)
{
    size_t len = 0;
    if (s[0] < 0x80)
        len = 1;
    else if (s[0] >= 0xc2 && s[0] < 0xe0)
        len = 2;
    else if (s[0] >= 0xe0 && s[0] < 0xf0)
        len = 3;
    else if (s[0] >= 0xf0 && s[0] < 0xf5)
        len = 4;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) /* the terminating NUL is none either */
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0)) /* overlong; surrogate */
        return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90)) /* overlong; beyond Unicode */
        return 0;
    return len;
}

void text_clean(char *text)
{
    unsigned char *s = (unsigned char *)text;
    while (*s) {
        size_t len = sequence_length(s);
        if (len == 0)
            *s = '?';
        else if (*s < 0x20 || *s == 0x7f)
            *s = ' ';
        s += len ? len : 1;
    }
}

static void set_reason(struct record *r, const char *fmt, va_list args)
{
    vsnprintf(r->reason, sizeof r->reason, fmt, args);
    text_clean(r->reason); /* it may quote somebody else's bytes, or be cut within a character */
}

void record_reason(struct record *r, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    set_reason(r, fmt, args);
    va_end(args);
}

void record_fail(struct record *r, enum outcome outcome, const char *fmt, ...)
{
    if (r->outcome != OUTCOME_DONE)
        return;
    va_list args;
    va_start(args, fmt);
    r->outcome = outcome;
    set_reason(r, fmt, args);
    va_end(args);
}

bool run_stopping(const struct run *run)
{
    return atomic_load_explicit(run->stop_at, memory_order_relaxed) != 0;
}

void run_emit(struct run *run, const char *key, size_t key_len, const char *value, size_t value_len)
{
    if (run->outputs)
        outputs_add(run->outputs, key, key_len, value, value_len);
}
