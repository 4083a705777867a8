/* Writing dead letters. */
#include "consumers/dead_letter.h"

#include <stdio.h>
#include <string.h>

#include "core/uuid.h"
#include "handlers/sql.h"

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none. */
static size_t sequence_length(const unsigned char *s)
{
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) /* the terminating NUL is none either */
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0)) /* overlong; surrogate */
        return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90)) /* overlong; beyond Unicode */
        return 0;
    return len;
}

void dead_letter_clean(char *text)
{
    unsigned char *s = (unsigned char *)text;
    while (*s) {
        size_t len = sequence_length(s);
        if (len == 0 || *s < 0x20 || *s == 0x7f)
            *s = '?';
        s += len ? len : 1;
    }
}

static struct sql_param bytes(const char *data, size_t len, bool null)
{
    return (struct sql_param){.data = null ? NULL : data, .len = (int)len, .binary = 1};
}

bool dead_letter_write(struct run *run, const char *group, const struct item *it, PGresult **failed)
{
    const struct record *r = &it->record;
    char partition[16], offset[24], attempts[16], id[UUID_TEXT_SIZE], reason[sizeof r->reason];
    bool parsed = r->event.type != EVENT_NONE;
    snprintf(partition, sizeof partition, "%d", (int)r->partition);
    snprintf(offset, sizeof offset, "%lld", (long long)r->offset);
    snprintf(attempts, sizeof attempts, "%d", r->attempt + 1);
    uuid_format(r->event.id, id);
    snprintf(reason, sizeof reason, "%s", r->reason);
    dead_letter_clean(reason);
    const struct sql_param params[] = {
        {.data = group},
        {.data = run->config->kafka_topic},
        {.data = partition},
        {.data = offset},
        bytes(item_raw_key(it), it->raw_key_len, it->raw_key_null),
        bytes(item_raw_value(it), it->raw_value_len, it->raw_value_null),
        {.data = parsed ? id : NULL},
        {.data = event_type_name(r->event.type)},
        {.data = reason},
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
