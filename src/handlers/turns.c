/* A table of the targets that are being called, or were a moment ago. */
#include "handlers/turns.h"

#include <pthread.h>
#include <string.h>

#include "core/clock.h"
#include "core/hash.h"

#define TARGETS_MAX 1024 /* more than twice the workers there can be: one that nobody is calling is always found */
#define STEP_MIN_US 5000 /* between two that were sent away */
#define WAIT_MAX_US 60000000

struct target {
    uint64_t hash;   /* two targets of one hash share their turns, which does no harm */
    size_t calls;    /* under way */
    int64_t took_us; /* the last call */
    int64_t next_us; /* when the next one who is sent away may come back */
    int64_t held_us; /* until then */
    int64_t good_us;
    int64_t used_us;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct target targets[TARGETS_MAX];

/* The target's entry; a new one takes the place of the one that nobody has used for longest. */
static struct target *find(const char *name)
{
    uint64_t hash = hash64(name, strlen(name));
    struct target *oldest = NULL;
    int64_t now = clock_mono_us();
    for (size_t i = 0; i < TARGETS_MAX; i++) {
        struct target *t = &targets[i];
        if (t->used_us != 0 && t->hash == hash) {
            t->used_us = now;
            return t;
        }
        if (t->calls == 0 && (!oldest || t->used_us < oldest->used_us))
            oldest = t;
    }
    *oldest = (struct target){.hash = hash, .used_us = now};
    return oldest;
}

/* The next time at which somebody who is sent away now may hope for a turn. */
static int64_t next_wait_us(struct target *t, int64_t now, size_t limit)
{
    int64_t step = t->took_us / (int64_t)limit;
    int64_t from = t->held_us > now ? t->held_us : now;
    if (t->next_us < from)
        t->next_us = from;
    t->next_us += step > STEP_MIN_US ? step : STEP_MIN_US;
    if (t->next_us > from + WAIT_MAX_US)
        t->next_us = from + WAIT_MAX_US;
    return t->next_us - now;
}

bool turns_take(const char *name, size_t limit, int64_t *wait_ms)
{
    int64_t now = clock_mono_us();
    pthread_mutex_lock(&mutex);
    struct target *t = find(name);
    bool mine = t->calls < limit && t->held_us <= now;
    if (mine)
        t->calls++;
    else
        *wait_ms = next_wait_us(t, now, limit) / 1000 + 1;
    pthread_mutex_unlock(&mutex);
    return mine;
}

void turns_give(const char *name, int64_t started_us, bool good)
{
    int64_t now = clock_mono_us();
    pthread_mutex_lock(&mutex);
    struct target *t = find(name);
    t->calls--;
    t->took_us = now - started_us;
    if (good)
        t->good_us = now;
    pthread_mutex_unlock(&mutex);
}

void turns_hold(const char *name, int64_t ms)
{
    pthread_mutex_lock(&mutex);
    find(name)->held_us = clock_mono_us() + ms * 1000;
    pthread_mutex_unlock(&mutex);
}

int64_t turns_good_us(const char *name)
{
    pthread_mutex_lock(&mutex);
    int64_t at = find(name)->good_us;
    pthread_mutex_unlock(&mutex);
    return at;
}
