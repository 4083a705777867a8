/* How far it is, on standard error: a bar on a terminal, elsewhere a line now and then. One thread. */
#ifndef TIDINGS_VERIFY_PROGRESS_H
#define TIDINGS_VERIFY_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* what is done now */
    int64_t done, total;
    int64_t started_us, shown_us;
    bool terminal, drawn;
};

void progress_start(struct progress *p, const char *what, int64_t total); /* total 0: not known */
void progress_add(struct progress *p, int64_t count);
void progress_end(struct progress *p); /* takes the bar away */

#endif
