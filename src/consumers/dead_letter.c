/* Writing dead letters. */
#include "consumers/dead_letter.h"

#include <stdio.h>

#include "core/uuid.h"
#include "handlers/sql.h"

static struct sql_param bytes(const char *data, size_t len, bool null)
{
    return (struct sql_param){.data = null ? NULL : data, .len = (int)len, .binary = 1};
}

bool dead_letter_write(struct run *run, const char *group, const struct item *it, PGresult **failed)
{
    const struct record *r = &it->record;
    char partition[16], offset[24], attempts[16], id[UUID_TEXT_SIZE];
    bool parsed = r->event.type != EVENT_NONE;
    snprintf(partition, sizeof partition, "%d", (int)r->partition);
    snprintf(offset, sizeof offset, "%lld", (long long)r->offset);
    snprintf(attempts, sizeof attempts, "%d", r->attempt + 1);
    uuid_format(r->event.id, id);
    const struct sql_param params[] = {
        {.data = group},
        {.data = run->config->kafka_topic},
        {.data = partition},
        {.data = offset},
        bytes(item_raw_key(it), it->raw_key_len, it->raw_key_null),
        bytes(item_raw_value(it), it->raw_value_len, it->raw_value_null),
        {.data = parsed ? id : NULL},
        {.data = event_type_name(r->event.type)},
        {.data = r->reason},
        {.data = attempts},
    };
    PGresult *result = sql_exec(run->conn, run->deadline_us, run->stop_at,
                                "select dead_letter_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                                (int)(sizeof params / sizeof params[0]), params);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        *failed = result;
        return false;
    }
    PQclear(result);
    return true;
}
