/* A table of the campaigns that have sent something a moment ago, by their number, with open addressing. */
#include "handlers/pace.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/buf.h"

#define MINUTE_US 60000000
#define BURST_US ((int64_t)PACE_BURST_MS * 1000)
#define WAIT_MAX_US 3600000000 /* then the promise is made again */
#define FIRST_SIZE 64

struct pace {
    int campaign;       /* 0: free */
    int64_t next_us;    /* when the next mail would be on time; it may be early by BURST_US */
    int64_t promise_us; /* the last time that somebody was told to come back at */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct pace *table;
static size_t size, used; /* size: a power of two, more than used */

/* The campaign's place in a table, or the free one where it belongs. */
static struct pace *place_of(struct pace *in, size_t count, int campaign)
{
    size_t at = (uint32_t)campaign * 2654435769u & (count - 1);
    while (in[at].campaign != 0 && in[at].campaign != campaign)
        at = (at + 1) & (count - 1);
    return &in[at];
}

/* A campaign that is on time and has nobody waiting is as good as one that is not there. */
static bool idle(const struct pace *p, int64_t now_us)
{
    return p->next_us <= now_us && p->promise_us <= now_us;
}

/* Makes the table anew, without the idle ones, with room for as many again. */
static void tidy(int64_t now_us)
{
    size_t busy = 0, count = FIRST_SIZE;
    for (size_t i = 0; i < size; i++)
        busy += table[i].campaign != 0 && !idle(&table[i], now_us);
    while (count < busy * 4)
        count *= 2;
    struct pace *anew = xcalloc(count, sizeof *anew);
    for (size_t i = 0; i < size; i++)
        if (table[i].campaign != 0 && !idle(&table[i], now_us))
            *place_of(anew, count, table[i].campaign) = table[i];
    free(table);
    table = anew;
    size = count;
    used = busy;
}

static struct pace *find(int campaign, int64_t now_us)
{
    if ((used + 1) * 2 > size)
        tidy(now_us);
    struct pace *p = place_of(table, size, campaign);
    if (p->campaign == 0) {
        p->campaign = campaign;
        used++;
    }
    return p;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

bool pace_take(int campaign, int64_t per_minute, bool waited, int64_t now_us, int64_t *wait_ms)
{
    int64_t step_us = (MINUTE_US + per_minute - 1) / per_minute;
    pthread_mutex_lock(&mutex);
    struct pace *p = find(campaign, now_us);
    bool mine = p->next_us - BURST_US <= now_us && (waited || p->promise_us <= now_us);
    if (mine) {
        p->next_us = later(p->next_us, now_us) + step_us;
    } else {
        p->promise_us = later(p->promise_us, later(p->next_us - BURST_US, now_us)) + step_us;
        if (p->promise_us > now_us + WAIT_MAX_US)
            p->promise_us = now_us + WAIT_MAX_US;
        *wait_ms = (p->promise_us - now_us) / 1000 + 1;
    }
    pthread_mutex_unlock(&mutex);
    return mine;
}
