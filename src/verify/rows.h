/* Committed events from Postgres, a page at a time; the next page is on its way while one is used. Blocks. One thread. */
#ifndef TIDINGS_VERIFY_ROWS_H
#define TIDINGS_VERIFY_ROWS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "domain/event.h"

struct verify_row {
    struct event_row event; /* account_id and campaign_id all zero: nobody's */
    int32_t aggregate;      /* campaigns.no, or -accounts.no */
};

struct rows_range {
    uint32_t shard;
    int64_t after, to; /* seqs: events after the one up to the other */
    int32_t aggregate; /* not 0: of this campaign alone, in the order of its versions; `after` is a version then */
};

struct rows;

/* conn belongs to the rows until rows_close: no other statement may run on it. Never NULL. */
struct rows *rows_open(PGconn *conn, struct rows_range range);
void rows_close(struct rows *r);

/* The next event, valid until the next call; NULL in *out at the end. False with a sentence in why. */
bool rows_next(struct rows *r, const struct verify_row **out, char *why, size_t why_size);

/* Reads a row that verify_rows or verify_find has given. False: of a type or format that is not known here, with a sentence in
 * why. */
bool rows_decode(const PGresult *page, int i, struct verify_row *out, char *why, size_t why_size);
enum { ROWS_COLUMNS = 11 }; /* the columns that come after are the function's own */

/* Runs one of the functions of sql/fn_verify.sql and gives its rows in binary form; NULL with a sentence in why. */
PGresult *rows_ask(PGconn *conn, const char *sql, int count, const char *const *values, char *why, size_t why_size);
/* The same in text form: arrays are easier to read so. */
PGresult *rows_ask_text(PGconn *conn, const char *sql, int count, const char *const *values, char *why,
                        size_t why_size);

#endif
