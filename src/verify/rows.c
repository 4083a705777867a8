/* Events from Postgres in pages. */
#include "verify/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/pgbinary.h"

enum { PAGE_ROWS = 2000 }; /* about 1 MB, twice */

/* verify_rows' columns */
enum { C_SEQ, C_VERSION, C_TYPE, C_FORMAT, C_AT, C_ID, C_ACCOUNT_ID, C_CAMPAIGN_ID, C_DATA, C_SHARD, C_AGGREGATE };

struct rows {
    PGconn *conn;
    struct rows_range range;
    PGresult *page;
    int at;     /* in page */
    bool asked; /* the page after it is on its way */
    bool last;  /* there is none */
    struct verify_row row;
};

static void explain(PGconn *conn, const PGresult *r, char *why, size_t why_size)
{
    const char *text = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (!text)
        text = PQerrorMessage(conn);
    snprintf(why, why_size, "Postgres: %.*s", (int)strcspn(text, "\n"), text);
}

static PGresult *ask(PGconn *conn, const char *sql, int count, const char *const *values, int format, char *why,
                     size_t why_size)
{
    PGresult *r = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, format);
    if (PQresultStatus(r) == PGRES_TUPLES_OK)
        return r;
    explain(conn, r, why, why_size);
    PQclear(r);
    return NULL;
}

PGresult *rows_ask(PGconn *conn, const char *sql, int count, const char *const *values, char *why, size_t why_size)
{
    return ask(conn, sql, count, values, 1, why, why_size);
}

PGresult *rows_ask_text(PGconn *conn, const char *sql, int count, const char *const *values, char *why, size_t why_size)
{
    return ask(conn, sql, count, values, 0, why, why_size);
}

bool rows_decode(const PGresult *page, int i, struct verify_row *out, char *why, size_t why_size)
{
    *out = (struct verify_row){
        .event = {.shard = (uint32_t)pgbinary_int(page, i, C_SHARD),
                  .seq = (int64_t)pgbinary_int(page, i, C_SEQ),
                  .version = (int64_t)pgbinary_int(page, i, C_VERSION),
                  .type = (enum event_type)pgbinary_int(page, i, C_TYPE),
                  .format = (int)pgbinary_int(page, i, C_FORMAT),
                  .at_us = pgbinary_time_us(page, i, C_AT),
                  .id = pgbinary_uuid(page, i, C_ID),
                  .account_id = pgbinary_uuid(page, i, C_ACCOUNT_ID),
                  .campaign_id = pgbinary_uuid(page, i, C_CAMPAIGN_ID),
                  .data = PQgetvalue(page, i, C_DATA),
                  .data_len = (size_t)PQgetlength(page, i, C_DATA)},
        .aggregate = (int32_t)(uint32_t)pgbinary_int(page, i, C_AGGREGATE),
    };
    if (event_type_name(out->event.type) && out->event.format == EVENT_FORMAT)
        return true;
    snprintf(why, why_size,
             "the event at seq %" PRId64 " of shard %" PRIu32 " is of a type or form that this binary does not know:"
             " a newer tidings wrote it, use that one",
             out->event.seq, out->event.shard);
    return false;
}

static bool ask_page(struct rows *r, char *why, size_t why_size)
{
    char shard[16], after[24], to[24], limit[16], aggregate[16];
    const char *const values[] = {shard, after, to, limit, aggregate};
    snprintf(shard, sizeof shard, "%" PRIu32, r->range.shard);
    snprintf(after, sizeof after, "%" PRId64, r->range.after);
    snprintf(to, sizeof to, "%" PRId64, r->range.to);
    snprintf(limit, sizeof limit, "%d", PAGE_ROWS);
    snprintf(aggregate, sizeof aggregate, "%" PRId32, r->range.aggregate);
    r->asked =
        PQsendQueryParams(r->conn, "select * from verify_rows($1::int, $2::bigint, $3::bigint, $4::int, $5::int)", 5,
                          NULL, values, NULL, NULL, 1) == 1;
    if (!r->asked)
        explain(r->conn, NULL, why, why_size);
    return r->asked;
}

static bool take_page(struct rows *r, char *why, size_t why_size)
{
    PQclear(r->page);
    r->at = 0;
    r->asked = false;
    r->page = PQgetResult(r->conn);
    while (r->page && PQresultStatus(r->page) == PGRES_TUPLES_OK) {
        PGresult *end = PQgetResult(r->conn);
        if (!end)
            return true;
        PQclear(r->page);
        r->page = end;
    }
    explain(r->conn, r->page, why, why_size);
    return false;
}

/* The next page, and the one after it is asked for. */
static bool turn(struct rows *r, char *why, size_t why_size)
{
    if (!r->asked && !ask_page(r, why, why_size))
        return false;
    if (!take_page(r, why, why_size))
        return false;
    int count = PQntuples(r->page);
    r->last = count < PAGE_ROWS;
    if (r->last)
        return true;
    r->range.after = (int64_t)pgbinary_int(r->page, count - 1, r->range.aggregate == 0 ? C_SEQ : C_VERSION);
    return ask_page(r, why, why_size);
}

struct rows *rows_open(PGconn *conn, struct rows_range range)
{
    struct rows *r = xcalloc(1, sizeof *r);
    r->conn = conn;
    r->range = range;
    return r;
}

void rows_close(struct rows *r)
{
    if (!r)
        return;
    PQclear(r->page);
    for (PGresult *rest; r->asked && (rest = PQgetResult(r->conn));)
        PQclear(rest);
    free(r);
}

bool rows_next(struct rows *r, const struct verify_row **out, char *why, size_t why_size)
{
    *out = NULL;
    if ((!r->page || r->at == PQntuples(r->page)) && !r->last && !turn(r, why, why_size))
        return false;
    if (r->at == PQntuples(r->page))
        return true;
    if (!rows_decode(r->page, r->at++, &r->row, why, why_size))
        return false;
    if (r->row.event.seq > r->range.to) { /* in the order of versions all that comes later is newer as well */
        r->at--;
        return true;
    }
    *out = &r->row;
    return true;
}
