/* Mails that are not sent, only recorded: one statement for all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/email.h"
#include "handlers/sql.h"

static int compare(const void *a, const void *b)
{
    const struct email_final *x = a, *y = b;
    return memcmp(x->record->event.id.b, y->record->event.id.b, sizeof x->record->event.id.b);
}

/* Which kinds unsubscribing does not stop. */
static void add_wanted(struct buf *kinds)
{
    for (int type = 0; type < EVENT_TYPE_MAX; type++)
        if (EMAIL_WANTED & 1u << type)
            sql_array_text(kinds, event_type_name((enum event_type)type));
}

static const char *const statuses[] = {"discarded", "unsubscribed", "expired"};

static void mark_entered(struct email_final *finals, size_t count, const PGresult *r)
{
    struct email_final wanted, *found;
    struct record key = {0};
    wanted.record = &key;
    for (int row = 0; row < PQntuples(r); row++) {
        if (!uuid_parse(PQgetvalue(r, row, 0), (size_t)PQgetlength(r, row, 0), &key.event.id) ||
            !(found = bsearch(&wanted, finals, count, sizeof *finals, compare)))
            continue;
        found->entered = true;
        for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
            if (strcmp(PQgetvalue(r, row, 1), statuses[i]) == 0)
                found->status = statuses[i];
    }
}

bool email_record(struct run *run, struct email_final *finals, size_t count, const char *id_suffix, PGresult **failed)
{
    enum { MAX_AGE = EMAIL_ARRAYS, ID_SUFFIX, WANTED, VALUES };
    struct buf wanted = {0};
    struct buf arrays[EMAIL_ARRAYS] = {{0}};
    const char *values[VALUES];
    char max_age[24];
    qsort(finals, count, sizeof *finals, compare);
    for (int i = 0; i < EMAIL_ARRAYS; i++)
        sql_array_begin(&arrays[i]);
    for (size_t i = 0; i < count; i++) {
        finals[i].entered = false;
        email_add_event(arrays, &finals[i].record->event);
    }
    for (int i = 0; i < EMAIL_ARRAYS; i++)
        values[i] = sql_array_end(&arrays[i]);
    snprintf(max_age, sizeof max_age, "%lld", (long long)run->config->mail_max_age_s);
    values[MAX_AGE] = max_age;
    values[ID_SUFFIX] = id_suffix;
    sql_array_begin(&wanted);
    add_wanted(&wanted);
    values[WANTED] = sql_array_end(&wanted);
    PGresult *r =
        run_sql(run, failed, "select * from mail_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", VALUES, values);
    if (r)
        mark_entered(finals, count, r);
    PQclear(r);
    buf_free(&wanted);
    for (int i = 0; i < EMAIL_ARRAYS; i++)
        buf_free(&arrays[i]);
    return r != NULL;
}
