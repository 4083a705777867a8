#include "bus/starts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

#define GRACE_US                                                                                                       \
    20000000 /* without an error: an open transaction may hold the offsets back for as long as it may last */
#define RETRY_BASE_MS 1000
#define RETRY_MAX_MS 10000

struct start {
    int32_t id;
    int64_t next; /* the offset after the last record that came out; -1: none yet */
    bool begun;   /* it is fetched, or at least librdkafka knows from where: it does not lose that again */
    bool missing;
};

struct starts {
    rd_kafka_t *rk;
    char *group;
    rd_kafka_topic_partition_list_t *list; /* as it was assigned; NULL: nothing is */
    struct start *starts;
    size_t count;
    int64_t assigned_us; /* the last time */
    int64_t again_us;    /* when to assign it anew; 0: no reason to */
    int failures;
    char trouble[200];
};

struct starts *starts_new(rd_kafka_t *rk, const char *group)
{
    struct starts *s = xcalloc(1, sizeof *s);
    s->rk = rk;
    s->group = xstrdup(group);
    return s;
}

void starts_free(struct starts *s)
{
    if (!s)
        return;
    starts_revoked(s);
    free(s->starts);
    free(s->group);
    free(s);
}

void starts_assigned(struct starts *s, const rd_kafka_topic_partition_list_t *list, const int32_t *ids, size_t count)
{
    starts_revoked(s);
    free(s->starts);
    s->list = rd_kafka_topic_partition_list_copy(list);
    s->starts = xcalloc(count + 1, sizeof *s->starts);
    s->count = count;
    for (size_t i = 0; i < count; i++)
        s->starts[i] = (struct start){.id = ids[i], .next = -1};
    s->assigned_us = clock_mono_us();
    s->failures = 0;
}

void starts_revoked(struct starts *s)
{
    if (s->list)
        rd_kafka_topic_partition_list_destroy(s->list);
    s->list = NULL;
    s->again_us = 0;
}

void starts_saw(struct starts *s, size_t at, int64_t offset)
{
    struct start *p = &s->starts[at];
    p->next = offset + 1; /* also when that is less than before: the log was cut, or the topic made anew */
    p->begun = true;
    p->missing = false;
}

/* --- whether all have begun --- */

static bool all_begun(const struct starts *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!s->starts[i].begun)
            return false;
    return true;
}

static struct start *find(struct starts *s, int32_t id)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->starts[i].id == id)
            return &s->starts[i];
    return NULL;
}

void starts_suspect(struct starts *s)
{
    if (s->list && s->again_us == 0 && !all_begun(s))
        s->again_us = clock_mono_us() + backoff_ms(s->failures++, RETRY_BASE_MS, RETRY_MAX_MS) * 1000;
}

/* "none", "stopping", "stopped"; else it is fetched, or its offset is looked up in the log until that is known. */
static bool is_begun(const char *state)
{
    return strncmp(state, "none", 4) != 0 && strncmp(state, "stop", 4) != 0;
}

/* The statistics are read as text, since librdkafka puts reasons into them without escaping. A consumer has one topic. */
void starts_look(struct starts *s, const char *stats)
{
    static const char partition[] = "\"partition\":", fetch_state[] = "\"fetch_state\":\"";
    const char *at = strstr(stats, "\"topics\":{"), *state;
    bool late = clock_mono_us() - s->assigned_us >= GRACE_US;
    bool missed = late || s->failures > 1;
    if (!s->list || all_begun(s))
        return;
    while (at && (at = strstr(at, partition)) && (state = strstr(at, fetch_state))) {
        struct start *p = find(s, (int32_t)strtol(at + sizeof partition - 1, NULL, 10));
        if (p) {
            p->begun = p->begun || is_begun(state + sizeof fetch_state - 1);
            p->missing = !p->begun && missed;
        }
        at = state;
    }
    if (late && starts_missing(s) > 0 && s->again_us == 0)
        s->again_us = clock_mono_us();
}

/* --- assigning anew --- */

/* Those that gave records go on from where they are, the others from what is committed. */
static rd_kafka_topic_partition_list_t *places(struct starts *s)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_copy(s->list);
    for (int i = 0; i < list->cnt; i++) {
        const struct start *p = find(s, list->elems[i].partition);
        list->elems[i].offset = p && p->next >= 0 ? p->next : RD_KAFKA_OFFSET_STORED;
    }
    return list;
}

void starts_tick(struct starts *s)
{
    if (!s->list || s->again_us == 0 || clock_mono_us() < s->again_us)
        return;
    s->again_us = 0;
    /* A loss that is known must not be forgotten, and rd_kafka_assign would; the event that takes the partitions is on its way. */
    if (all_begun(s) || rd_kafka_assignment_lost(s->rk))
        return;
    rd_kafka_topic_partition_list_t *list = places(s);
    rd_kafka_resp_err_t err = rd_kafka_assign(s->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    s->assigned_us = clock_mono_us();
    log_info("partitions that nobody fetches are started again", "group", s->group, "error",
             err ? rd_kafka_err2str(err) : NULL);
}

/* --- what can be seen of it --- */

size_t starts_missing(const struct starts *s)
{
    size_t missing = 0;
    for (size_t i = 0; s->list && i < s->count; i++)
        missing += s->starts[i].missing;
    return missing;
}

const char *starts_trouble(struct starts *s)
{
    size_t missing = starts_missing(s);
    if (missing == 0)
        return "";
    snprintf(s->trouble, sizeof s->trouble,
             "%zu assigned partitions of %zu are not fetched, since the committed offsets are not known", missing,
             s->count);
    return s->trouble;
}
