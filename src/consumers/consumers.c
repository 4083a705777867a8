/* The consumer groups of this process, what they share, and the upkeep of their tables. */
#include "consumers/consumers.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/chores.h"
#include "consumers/db_pool.h"
#include "consumers/group.h"
#include "consumers/mirror.h"
#include "consumers/trim.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

#define TRIM_FIRST_MS 30000
#define TRIM_EVERY_MS 600000
#define TRIM_AGAIN_MS 1000 /* while there is more to delete, or no worker was free */
#define MIRROR_EVERY_MS 5000
#define MIRROR_AGAIN_MS 100 /* while there is more */
#define MIRROR_FAILED_MS 15000

struct trim_job {
    struct job job;
    struct consumers *consumers;
    int64_t deleted;
};

struct mirror_job {
    struct job job;
    struct consumers *consumers;
    int64_t sent;
};

struct consumers {
    const struct config *config;
    struct db_pool *db;
    struct group **groups;
    size_t group_count;
    struct chore_pool **chores;
    size_t chores_count;
    size_t open;      /* groups and chores that have not stopped, and the timers */
    size_t groups_open;
    bool left_behind; /* a worker hangs: what it uses is never freed */
    uv_timer_t timer; /* the next trim; while stopping, the end of draining */
    struct trim_job trim;
    uv_timer_t mirror_timer;
    struct mirror_job mirror;
    _Atomic int64_t stop_at; /* see struct run */
    void (*on_stopped)(void *arg);
    void *arg;
};

/* --- which groups --- */

/* The words of GROUPS_ENABLED: returns the next one, or NULL. */
static const char *next_word(const char *list, size_t *len)
{
    list += strspn(list, ", ");
    *len = strcspn(list, ", ");
    return *len ? list : NULL;
}

static bool word_is(const char *word, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(word, text, len) == 0;
}

static bool enabled(const struct config *config, const struct handler *h)
{
    const char *group = h->group;
    size_t len;
    if (h->enabled && !h->enabled(config))
        return false;
    for (const char *w = config->groups; (w = next_word(w, &len)); w += len)
        if (word_is(w, len, "all") || word_is(w, len, group))
            return true;
    return false;
}

static bool known_word(const char *word, size_t len)
{
    if (word_is(word, len, "all") || word_is(word, len, "none"))
        return true;
    for (const struct handler *const *h = all_handlers; *h; h++)
        if (word_is(word, len, (*h)->group))
            return true;
    return false;
}

/* See struct handler. */
static bool fits_together(const struct handler *h)
{
    return h->apply || (h->call && !h->settle && !h->give_up && !h->dedupe && !h->ordered);
}

bool consumers_check(const struct config *config, char *why, size_t why_size)
{
    size_t len;
    for (const struct handler *const *h = all_handlers; *h; h++)
        if (!fits_together(*h)) {
            snprintf(why, why_size, "the handler of %s has no apply, but what belongs to one", (*h)->group);
            return false;
        }
    for (const char *w = config->groups; (w = next_word(w, &len)); w += len)
        if (!known_word(w, len)) {
            snprintf(why, why_size, "GROUPS_ENABLED names %.*s, which is no consumer group", (int)len, w);
            return false;
        }
    for (const struct handler *const *h = all_handlers; *h; h++)
        if (enabled(config, *h) && (*h)->check && !(*h)->check(config, why, why_size))
            return false;
    return true;
}

void consumers_describe(const struct config *config,
                        void (*each)(void *arg, const char *group, int64_t workers, const char *processes), void *arg)
{
    for (const struct handler *const *h = all_handlers; *h; h++)
        if (enabled(config, *h))
            each(arg, (*h)->group, group_workers(config, *h), (*h)->processes);
}

/* --- upkeep --- */

static void on_timer(uv_timer_t *timer);

static void trim_work(struct job *job, void *state)
{
    struct trim_job *trim = (struct trim_job *)job;
    struct consumers *c = trim->consumers;
    (void)state;
    trim->deleted = trim_handled(c->config, c->db, &c->stop_at);
}

static bool stopping(const struct consumers *c)
{
    return atomic_load_explicit(&c->stop_at, memory_order_relaxed) != 0;
}

static void on_trimmed(struct job *job)
{
    struct trim_job *trim = (struct trim_job *)job;
    struct consumers *c = trim->consumers;
    if (trim->deleted > 0)
        log_info("old rows of handled were deleted", "rows", log_int(trim->deleted));
    if (!stopping(c))
        uv_timer_start(&c->timer, on_timer, trim_has_more(trim->deleted) ? TRIM_AGAIN_MS : TRIM_EVERY_MS, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct consumers *c = timer->data;
    if (stopping(c)) {
        db_pool_stop(c->db); /* whoever still waits for a connection gives up */
        return;
    }
    c->trim.job.work = trim_work;
    c->trim.job.on_done = on_trimmed;
    if (!group_lend_worker(c->groups[0], &c->trim.job))
        uv_timer_start(&c->timer, on_timer, TRIM_AGAIN_MS, 0);
}

static void on_mirror_timer(uv_timer_t *timer);

static void mirror_work(struct job *job, void *state)
{
    struct mirror_job *mirror = (struct mirror_job *)job;
    struct consumers *c = mirror->consumers;
    (void)state;
    mirror->sent = mirror_dead_letters(c->config, c->db, &c->stop_at);
}

static void on_mirrored(struct job *job)
{
    struct mirror_job *mirror = (struct mirror_job *)job;
    uint64_t next = mirror->sent < 0               ? MIRROR_FAILED_MS
                    : mirror->sent >= MIRROR_BATCH ? MIRROR_AGAIN_MS
                                                   : MIRROR_EVERY_MS;
    if (!stopping(mirror->consumers))
        uv_timer_start(&mirror->consumers->mirror_timer, on_mirror_timer, next, 0);
}

static void on_mirror_timer(uv_timer_t *timer)
{
    struct consumers *c = timer->data;
    c->mirror.job.work = mirror_work;
    c->mirror.job.on_done = on_mirrored;
    if (!group_lend_worker(c->groups[0], &c->mirror.job))
        uv_timer_start(timer, on_mirror_timer, MIRROR_AGAIN_MS, 0);
}

/* --- start and stop --- */

static void on_run(void *chores)
{
    chores_wake(chores);
}

/* options: the group's. False: a thread cannot be made. */
static bool start_chores(struct consumers *c, struct group_options *options)
{
    const struct chores_options chores = {.loop = options->loop,
                                          .inbox = options->inbox,
                                          .config = options->config,
                                          .group = options->handler->group,
                                          .chores = options->handler->chores,
                                          .db = options->db,
                                          .stop_at = options->stop_at};
    struct chore_pool *pool = chores_start(&chores);
    if (!pool)
        return false;
    c->chores = xrealloc(c->chores, (c->chores_count + 1) * sizeof(struct chore_pool *));
    c->chores[c->chores_count++] = pool;
    options->on_run = on_run;
    options->arg = pool;
    return true;
}

struct consumers *consumers_start(uv_loop_t *loop, struct inbox *inbox, const struct config *config, char *why,
                                  size_t why_size)
{
    if (!consumers_check(config, why, why_size))
        return NULL;
    struct consumers *c = xcalloc(1, sizeof *c);
    c->config = config;
    c->db = db_pool_new(config);
    c->trim.consumers = c->mirror.consumers = c;
    for (const struct handler *const *h = all_handlers; *h; h++) {
        if (!enabled(config, *h))
            continue;
        struct group_options options = {
            .loop = loop, .inbox = inbox, .config = config, .handler = *h, .db = c->db, .stop_at = &c->stop_at,
            .checks_order = c->group_count == 0};
        if ((*h)->chores && !start_chores(c, &options)) {
            snprintf(why, why_size, "cannot make the threads for the chores of %s", (*h)->group);
            return NULL; /* see below */
        }
        c->groups = xrealloc(c->groups, (c->group_count + 1) * sizeof(struct group *));
        c->groups[c->group_count] = group_start(&options, why, why_size);
        if (!c->groups[c->group_count])
            return NULL; /* the process does not start; groups that run already end with it */
        c->group_count++;
    }
    uv_timer_init(loop, &c->timer);
    uv_timer_init(loop, &c->mirror_timer);
    c->timer.data = c->mirror_timer.data = c;
    if (c->group_count > 0 && strcmp(config->dead_letter_topics, "on") == 0)
        uv_timer_start(&c->mirror_timer, on_mirror_timer, MIRROR_EVERY_MS, 0);
    if (c->group_count > 0)
        uv_timer_start(&c->timer, on_timer, TRIM_FIRST_MS, 0);
    return c;
}

const char *consumers_trouble(const struct consumers *c)
{
    for (size_t i = 0; i < c->group_count; i++)
        if (group_trouble(c->groups[i])[0])
            return group_trouble(c->groups[i]);
    return "";
}

static void on_part_stopped(struct consumers *c)
{
    if (--c->open > 0)
        return;
    void (*on_stopped)(void *) = c->on_stopped;
    void *arg = c->arg;
    free(c->groups);
    free(c->chores);
    c->groups = NULL;
    c->chores = NULL;
    if (!c->left_behind) {
        db_pool_free(c->db);
        free(c);
    }
    on_stopped(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_part_stopped(handle->data);
}

static void on_group_stopped(void *arg, bool left_behind)
{
    struct consumers *c = arg;
    c->left_behind = c->left_behind || left_behind;
    if (--c->groups_open == 0) /* only the timer is left */
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    on_part_stopped(c);
}

static void on_chores_stopped(void *arg, bool left_behind)
{
    struct consumers *c = arg;
    c->left_behind = c->left_behind || left_behind;
    on_part_stopped(c);
}

void consumers_stop(struct consumers *c, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg)
{
    int64_t now = clock_mono_us(), left = deadline_us > now ? deadline_us - now : 0;
    int64_t drain_us = now + left / 10 * 6; /* the rest is for committing and leaving the groups */
    c->on_stopped = on_stopped;
    c->arg = arg;
    c->groups_open = c->group_count;
    c->open = c->group_count + c->chores_count + 2;
    uv_close((uv_handle_t *)&c->mirror_timer, on_timer_closed);
    atomic_store(&c->stop_at, drain_us);
    uv_timer_start(&c->timer, on_timer, (uint64_t)(drain_us - now) / 1000, 0);
    if (c->group_count == 0)
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    for (size_t i = 0, count = c->chores_count; i < count; i++)
        chores_stop(c->chores[i], deadline_us, on_chores_stopped, c);
    for (size_t i = 0, count = c->group_count; i < count; i++)
        group_stop(c->groups[i], drain_us, deadline_us, on_group_stopped, c);
}
