/* Events that end sagas of earned rewards: each must be the one end of its saga. Asked for in batches. */
#include <stdlib.h>

#include "domain/event.h"
#include "verify/verify_int.h"

enum { BATCH = 1000 };

struct end {
    struct culprit event;
    struct uuid subject; /* the earned reward */
    int32_t aggregate;
    enum event_type type;
};

struct saga_ends {
    struct verify *verify;
    size_t group; /* to which faults are put down */
    struct end ends[BATCH];
    size_t count;
};

struct saga_ends *saga_ends_open(struct verify *v, size_t group)
{
    struct saga_ends *s = xcalloc(1, sizeof *s);
    s->verify = v;
    s->group = group;
    return s;
}

void saga_ends_close(struct saga_ends *s)
{
    free(s);
}

bool saga_ends_flush(struct saga_ends *s)
{
    enum { EVENTS, TYPES, SUBJECTS, AGGREGATES, ARRAYS };
    struct verify *v = s->verify;
    struct buf arrays[ARRAYS] = {{0}};
    const char *values[ARRAYS];
    if (s->count == 0)
        return true;
    for (int i = 0; i < ARRAYS; i++)
        array_begin(&arrays[i]);
    for (size_t i = 0; i < s->count; i++) {
        array_uuid(&arrays[EVENTS], s->ends[i].event.id);
        array_int(&arrays[TYPES], s->ends[i].type);
        array_uuid(&arrays[SUBJECTS], s->ends[i].subject);
        array_int(&arrays[AGGREGATES], s->ends[i].aggregate);
    }
    for (int i = 0; i < ARRAYS; i++)
        values[i] = array_end(&arrays[i]);
    PGresult *r = rows_ask_text(v->ask, "select * from verify_saga_ends($1::uuid[], $2::int[], $3::uuid[], $4::int[])",
                                ARRAYS, values, v->why, v->why_size);
    for (int i = 0; r && i < PQntuples(r); i++) {
        size_t ord = strtoul(PQgetvalue(r, i, 0), NULL, 10);
        if (ord < 1 || ord > s->count)
            continue;
        struct culprit *c = &s->ends[ord - 1].event;
        snprintf(c->note, sizeof c->note, "%s, and its saga has another end, or none",
                 event_type_name(s->ends[ord - 1].type));
        report_add_group(v->report, s->group, GROUP_DOUBLED, c);
    }
    PQclear(r);
    for (int i = 0; i < ARRAYS; i++)
        buf_free(&arrays[i]);
    s->count = 0;
    return r != NULL;
}

bool saga_ends_see(struct saga_ends *s, const struct event_row *row, int32_t aggregate, const char *value, size_t len)
{
    struct event event;
    char why[80];
    if (row->type != EVENT_REWARD_DELIVERED && row->type != EVENT_REWARD_RELEASED)
        return true;
    struct end *end = &s->ends[s->count++];
    *end = (struct end){.event = culprit_of(row), .aggregate = aggregate, .type = row->type};
    if (event_parse(value, len, &event, why, sizeof why)) {
        end->subject = event_data_uuid(&event, "user_reward_id");
        event_clear(&event);
    }
    return s->count < BATCH || saga_ends_flush(s);
}
