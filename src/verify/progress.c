/* How far it is. */
#include "verify/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "core/clock.h"

enum { BAR_US = 200000, LINE_US = 5000000, WIDTH = 30 };

static void show(struct progress *p, int64_t now)
{
    double seconds = (double)(now - p->started_us) / 1e6, share = p->total > 0 ? (double)p->done / (double)p->total : 0;
    int filled = (int)(share * WIDTH);
    p->shown_us = now;
    if (share > 1)
        share = 1, filled = WIDTH;
    if (p->terminal) {
        fprintf(stderr, "\r%s ", p->what);
        for (int i = 0; p->total > 0 && i < WIDTH; i++)
            fputs(i < filled ? "█" : "░", stderr);
        p->drawn = true;
    } else {
        fprintf(stderr, "tidings: %s:", p->what);
    }
    if (p->total > 0)
        fprintf(stderr, " %3.0f %%", share * 100);
    fprintf(stderr, " %" PRId64 ", %.0f/s%s", p->done, seconds > 0 ? (double)p->done / seconds : 0,
            p->terminal ? "\033[K" : "\n");
    fflush(stderr);
}

void progress_start(struct progress *p, const char *what, int64_t total)
{
    progress_end(p);
    int64_t now = clock_mono_us();
    *p = (struct progress){
        .what = what, .total = total, .started_us = now, .shown_us = now, .terminal = isatty(STDERR_FILENO) == 1};
}

void progress_add(struct progress *p, int64_t count)
{
    int64_t now = clock_coarse_us();
    p->done += count;
    if (now - p->shown_us > (p->terminal ? BAR_US : LINE_US))
        show(p, now);
}

void progress_end(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}
