#include "bus/starts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

#define ERROR_US 1000000 /* after an error: the coordinator may need a moment */
#define GRACE_US 5000000 /* after an assignment, without an error */
#define ASK_MS 5000
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
    rd_kafka_queue_t *queue;
    char *group, *group_id;
    rd_kafka_topic_partition_list_t *list; /* as it was assigned; NULL: nothing is */
    struct start *starts;
    size_t count;
    int64_t assigned_us;
    uint64_t assignment; /* counts; tells answers of an earlier one */
    bool asking;
    int64_t ask_us; /* when to ask; 0: no reason to */
    int failures;
    char why[200]; /* it could not be found out; "" */
    char trouble[400];
};

struct starts *starts_new(rd_kafka_t *rk, rd_kafka_queue_t *queue, const char *group, const char *group_id)
{
    struct starts *s = xcalloc(1, sizeof *s);
    s->rk = rk;
    s->queue = queue;
    s->group = xstrdup(group);
    s->group_id = xstrdup(group_id);
    return s;
}

void starts_free(struct starts *s)
{
    if (!s)
        return;
    starts_revoked(s);
    free(s->starts);
    free(s->group);
    free(s->group_id);
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
    s->assignment++;
    s->asking = false;
    s->ask_us = 0;
    s->why[0] = '\0';
}

bool starts_saw(struct starts *s, size_t at, int64_t offset)
{
    struct start *p = &s->starts[at];
    if (offset < p->next)
        return false;
    p->next = offset + 1;
    p->begun = true;
    p->missing = false;
    return true;
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
    if (s->list && s->ask_us == 0 && !s->asking && !all_begun(s))
        s->ask_us = clock_mono_us() + ERROR_US;
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
    if (!s->list || all_begun(s))
        return;
    while (at && (at = strstr(at, partition)) && (state = strstr(at, fetch_state))) {
        struct start *p = find(s, (int32_t)strtol(at + sizeof partition - 1, NULL, 10));
        if (p) {
            p->begun = p->begun || is_begun(state + sizeof fetch_state - 1);
            p->missing = !p->begun && late;
        }
        at = state;
    }
    if (starts_missing(s) > 0 && s->ask_us == 0 && !s->asking)
        s->ask_us = clock_mono_us();
}

/* --- asking --- */

static void ask(struct starts *s)
{
    char why[200];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(s->rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(s->list->cnt);
    for (int i = 0; i < s->list->cnt; i++)
        rd_kafka_topic_partition_list_add(list, s->list->elems[i].topic, s->list->elems[i].partition);
    rd_kafka_AdminOptions_set_opaque(options, (void *)(uintptr_t)s->assignment);
    rd_kafka_AdminOptions_set_request_timeout(options, ASK_MS, why, sizeof why);
    /* An open transaction may be about to commit offsets. */
    rd_kafka_error_t *error = rd_kafka_AdminOptions_set_require_stable_offsets(options, 1);
    if (error)
        rd_kafka_error_destroy(error);
    rd_kafka_ListConsumerGroupOffsets_t *question = rd_kafka_ListConsumerGroupOffsets_new(s->group_id, list);
    rd_kafka_ListConsumerGroupOffsets(s->rk, &question, 1, options, s->queue);
    rd_kafka_ListConsumerGroupOffsets_destroy(question);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_AdminOptions_destroy(options);
    s->ask_us = 0;
    s->asking = true;
}

void starts_tick(struct starts *s)
{
    if (!s->list || s->ask_us == 0 || clock_mono_us() < s->ask_us)
        return;
    if (all_begun(s))
        s->ask_us = 0;
    else
        ask(s);
}

/* --- the answer --- */

/* The group's offsets in an answer. NULL with a sentence in why. */
static const rd_kafka_topic_partition_list_t *offsets_of(rd_kafka_event_t *event, char *why, size_t why_size)
{
    const rd_kafka_topic_partition_list_t *offsets = NULL;
    size_t count = 0;
    const rd_kafka_ListConsumerGroupOffsets_result_t *result = rd_kafka_event_ListConsumerGroupOffsets_result(event);
    if (!result || rd_kafka_event_error(event)) {
        snprintf(why, why_size, "%s", rd_kafka_event_error_string(event));
        return NULL;
    }
    const rd_kafka_group_result_t **groups = rd_kafka_ListConsumerGroupOffsets_result_groups(result, &count);
    const rd_kafka_error_t *error = count == 1 ? rd_kafka_group_result_error(groups[0]) : NULL;
    if (count == 1 && !error)
        offsets = rd_kafka_group_result_partitions(groups[0]);
    if (!offsets)
        snprintf(why, why_size, "%s", error ? rd_kafka_error_string(error) : "the answer is empty");
    return offsets;
}

/* From where each partition is to go on: those that have begun from where they are. NULL with a sentence in why: the answer
 * has an error, or leaves one out. */
static rd_kafka_topic_partition_list_t *places(struct starts *s, const rd_kafka_topic_partition_list_t *offsets,
                                               char *why, size_t why_size)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_copy(s->list);
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_topic_partition_t *to = &list->elems[i];
        const struct start *p = find(s, to->partition);
        const rd_kafka_topic_partition_t *from = NULL;
        for (int j = 0; j < offsets->cnt && !from; j++)
            if (offsets->elems[j].partition == to->partition && strcmp(offsets->elems[j].topic, to->topic) == 0)
                from = &offsets->elems[j];
        if (p && p->next >= 0) {
            to->offset = p->next;
        } else if (from && !from->err) {
            to->offset = from->offset >= 0 ? from->offset : RD_KAFKA_OFFSET_BEGINNING; /* as auto.offset.reset has it */
        } else {
            snprintf(why, why_size, "%s", from ? rd_kafka_err2str(from->err) : "the answer leaves a partition out");
            rd_kafka_topic_partition_list_destroy(list);
            return NULL;
        }
    }
    return list;
}

/* The event that takes the partitions may be on its way: then they go with it, as they would have. A loss that is known must
 * not be forgotten, and rd_kafka_assign would. */
static bool assign_anew(struct starts *s, const rd_kafka_topic_partition_list_t *list)
{
    if (rd_kafka_assignment_lost(s->rk))
        return true;
    rd_kafka_resp_err_t err = rd_kafka_assign(s->rk, list);
    if (err)
        snprintf(s->why, sizeof s->why, "%s", rd_kafka_err2str(err));
    else
        log_info("partitions that nobody fetched were started", "group", s->group);
    s->assigned_us = clock_mono_us();
    return !err;
}

void starts_answer(struct starts *s, rd_kafka_event_t *event)
{
    const rd_kafka_topic_partition_list_t *offsets;
    rd_kafka_topic_partition_list_t *list = NULL;
    if (!s->list || (uint64_t)(uintptr_t)rd_kafka_event_opaque(event) != s->assignment)
        return;
    s->asking = false;
    if (all_begun(s))
        return;
    offsets = offsets_of(event, s->why, sizeof s->why);
    if (offsets)
        list = places(s, offsets, s->why, sizeof s->why);
    if (list && assign_anew(s, list)) {
        s->failures = 0;
        s->why[0] = '\0';
    } else {
        if (s->failures == 0)
            log_warn("the offsets to start from are not known, asking on", "group", s->group, "error", s->why);
        s->ask_us = clock_mono_us() + backoff_ms(s->failures++, RETRY_BASE_MS, RETRY_MAX_MS) * 1000;
    }
    if (list)
        rd_kafka_topic_partition_list_destroy(list);
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
             "%zu assigned partitions of %zu are not fetched, since the committed offsets are "
             "not known%s%s",
             missing, s->count, s->why[0] ? ": " : "", s->why);
    return s->trouble;
}
