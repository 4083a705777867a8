/* The table of handlers, and what all of them use. */
#include <stdarg.h>
#include <stdio.h>

#include "handlers/handler.h"

extern const struct handler email_handler, position_handler;

const struct handler *const all_handlers[] = {
    &email_handler,
    &position_handler,
    NULL,
};

void record_fail(struct record *r, enum outcome outcome, const char *fmt, ...)
{
    if (r->outcome != OUTCOME_DONE)
        return;
    va_list args;
    va_start(args, fmt);
    r->outcome = outcome;
    vsnprintf(r->reason, sizeof r->reason, fmt, args);
    va_end(args);
}

bool run_stopping(const struct run *run)
{
    return atomic_load_explicit(run->stop_at, memory_order_relaxed) != 0;
}
