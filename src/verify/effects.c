/* Events that a group has finished must have had their effect: asked for in batches, per group. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/pgbinary.h"
#include "verify/verify_int.h"

enum { BATCH = 1000 };
#define DAY_US 86400000000LL
#define HOUR_US 3600000000LL
#define WEBHOOKS "webhook-workers" /* whose effects depend on more than the event */

struct expected {
    struct culprit event;
    struct uuid subject; /* the earned reward; else all zero */
    int32_t aggregate;
    enum event_type type;
};

struct batch {
    struct expected expected[BATCH];
    size_t count;
};

struct effects {
    struct verify *verify;
    struct batch *batches;  /* per group */
    struct saga_ends *ends; /* NULL: reward-workers are not looked at */
};

struct effects *effects_open(struct verify *v)
{
    struct effects *e = xcalloc(1, sizeof *e);
    e->verify = v;
    e->batches = xcalloc(v->options->group_count, sizeof *e->batches);
    for (size_t g = 0; g < v->options->group_count; g++)
        if (strcmp(v->options->groups[g].name, "reward-workers") == 0)
            e->ends = saga_ends_open(v, g);
    return e;
}

void effects_close(struct effects *e)
{
    if (!e)
        return;
    saga_ends_close(e->ends);
    free(e->batches);
    free(e);
}

enum { ARRAYS = 6 };

static const char *ask(struct batch *b, bool webhooks, struct buf arrays[ARRAYS], const char *values[8])
{
    for (int i = 0; i < ARRAYS; i++)
        array_begin(&arrays[i]);
    for (size_t i = 0; i < b->count; i++) {
        const struct expected *x = &b->expected[i];
        array_uuid(&arrays[0], x->event.id);
        if (webhooks)
            array_int(&arrays[1], x->event.version);
        else
            array_uuid(&arrays[1], x->subject);
        array_int(&arrays[2], x->aggregate);
        array_int(&arrays[3], x->event.partition);
        array_int(&arrays[4], x->event.offset);
        buf_adds(&arrays[5], i > 0 ? "," : "");
        buf_adds(&arrays[5], event_type_name(x->type));
    }
    for (int i = 0; i < ARRAYS; i++)
        values[i < 3 ? i + 1 : i + 2] = array_end(&arrays[i]);
    if (webhooks)
        return "select * from verify_webhooks($1, $2::uuid[], $3::bigint[], $4::int[], $5, $6::int[], $7::bigint[],"
               " $8::text[])";
    return "select * from verify_effects($1, $2::uuid[], $3::uuid[], $4::int[], $5, $6::int[], $7::bigint[])";
}

/* What is not simply there. */
static void judge(struct verify *v, size_t group, struct batch *b, const PGresult *r)
{
    struct report_group *g = &v->report->group[group];
    g->expected += (int64_t)b->count;
    g->found += (int64_t)b->count - PQntuples(r);
    for (int i = 0; i < PQntuples(r); i++) {
        size_t ord = (size_t)pgbinary_int(r, i, 0);
        const char *state = PQgetvalue(r, i, 1);
        if (ord < 1 || ord > b->count)
            continue;
        if (strcmp(state, "dead") == 0) {
            g->dead++;
        } else if (strcmp(state, "excused") == 0) {
            g->excused++;
            g->expected--;
        } else {
            struct culprit *c = &b->expected[ord - 1].event;
            if (strcmp(state, "unfinished") == 0)
                snprintf(c->note, sizeof c->note, "begun and not finished, though the group has committed past it");
            report_add_group(v->report, group, GROUP_MISSING, c);
        }
    }
}

static bool flush(struct effects *e, size_t group)
{
    struct verify *v = e->verify;
    struct batch *b = &e->batches[group];
    struct buf arrays[ARRAYS] = {{0}};
    const char *values[8] = {v->options->groups[group].name};
    bool webhooks = strcmp(values[0], WEBHOOKS) == 0;
    if (b->count == 0)
        return true;
    const char *sql = ask(b, webhooks, arrays, values);
    values[4] = v->config->kafka_topic;
    PGresult *r = rows_ask(v->ask, sql, webhooks ? 8 : 7, values, v->why, v->why_size);
    if (r)
        judge(v, group, b, r);
    PQclear(r);
    for (int i = 0; i < ARRAYS; i++)
        buf_free(&arrays[i]);
    b->count = 0;
    return r != NULL;
}

bool effects_flush(struct effects *e)
{
    bool ok = !e->ends || saga_ends_flush(e->ends);
    for (size_t g = 0; ok && g < e->verify->options->group_count; g++)
        ok = flush(e, g);
    return ok;
}

static struct uuid subject_of(const struct event_row *row, const char *value, size_t len)
{
    struct uuid subject = {{0}};
    struct event event;
    char why[80];
    if (row->type == EVENT_REWARD_EARNED && event_parse(value, len, &event, why, sizeof why)) {
        subject = event_data_uuid(&event, "user_reward_id");
        event_clear(&event);
    }
    return subject;
}

/* What a group knows of events since then is all there, and so are deliveries to webhooks: an hour to spare, since looking
 * takes time. */
static int64_t remembered_us(const struct verify *v, const struct verify_group *g)
{
    if (strcmp(g->name, WEBHOOKS) == 0)
        return v->now_us - v->config->webhook_keep_days * DAY_US + HOUR_US;
    return g->handled ? v->now_us - v->config->handled_keep_days * DAY_US + HOUR_US : INT64_MIN;
}

bool effects_expect(struct effects *e, const struct event_row *row, int32_t aggregate, int32_t partition,
                    int64_t offset, const char *value, size_t len)
{
    struct verify *v = e->verify;
    bool ok = !e->ends || saga_ends_see(e->ends, row, aggregate, value, len);
    for (size_t g = 0; ok && g < v->options->group_count; g++) {
        int64_t committed = v->committed[g * topic_partitions(v->topic) + (size_t)partition];
        if (!(v->options->groups[g].types & 1u << row->type) || offset >= committed)
            continue;
        if (row->at_us < remembered_us(v, &v->options->groups[g])) {
            v->report->group[g].excused++;
            continue;
        }
        struct batch *b = &e->batches[g];
        struct expected *x = &b->expected[b->count++];
        *x = (struct expected){culprit_of(row), subject_of(row, value, len), aggregate, row->type};
        x->event.partition = partition;
        x->event.offset = offset;
        ok = b->count < BATCH || flush(e, g);
    }
    return ok;
}
