/* GETs: parameters in, items out. */
#include "http/reading.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/members.h"
#include "http/answer.h"
#include "http/server.h"
#include "http/user_members.h"

/* --- parameters ------------------------------------------------------------------------------------------------- */

static void open_reading(struct reading *g, struct request *r, enum read_query read)
{
    g->r = r;
    g->read = read;
    g->no_row = ERR_NO_CAMPAIGN;
    g->limit = PAGE_DEFAULT;
    g->count = 0;
    reading_add_int(g, r->key.account_no);
}

void reading_open(struct reading *g, struct request *r, enum read_query read)
{
    g->list = false;
    query_open(&g->query, "", 0);
    open_reading(g, r, read);
}

void reading_open_list(struct reading *g, struct request *r, enum read_query read)
{
    size_t len;
    const char *text = request_query(r, &len);
    g->list = true;
    query_open(&g->query, text, len);
    open_reading(g, r, read);
}

void reading_add_text(struct reading *g, const char *text)
{
    if (g->count == READ_MAX_PARAMS)
        abort(); /* a mistake of ours, which the first request shows */
    g->values[g->count++] = text;
}

/* Room for a value that the reading keeps itself. */
static char *add_own(struct reading *g)
{
    reading_add_text(g, NULL);
    char *own = g->texts[g->count - 1];
    g->values[g->count - 1] = own;
    return own;
}

void reading_add_id(struct reading *g, struct uuid id)
{
    uuid_format(id, add_own(g));
}

void reading_add_int(struct reading *g, int64_t value)
{
    snprintf(add_own(g), sizeof g->texts[0], "%" PRId64, value);
}

void reading_add_bool(struct reading *g, bool value)
{
    reading_add_text(g, value ? "true" : "false");
}

void reading_add_page(struct reading *g, int cursor_numbers)
{
    int64_t cursor[2];
    query_int(&g->query, "limit", 1, PAGE_MAX, &g->limit);
    reading_add_int(g, g->limit);
    bool given = query_cursor(&g->query, cursor_numbers, cursor);
    for (int i = 0; i < cursor_numbers; i++) {
        if (given)
            reading_add_int(g, cursor[i]);
        else
            reading_add_text(g, NULL);
    }
}

void reading_add_page_by_id(struct reading *g)
{
    struct uuid cursor;
    query_int(&g->query, "limit", 1, PAGE_MAX, &g->limit);
    reading_add_int(g, g->limit);
    if (query_uuid(&g->query, "cursor", &cursor))
        reading_add_id(g, cursor);
    else
        reading_add_text(g, NULL);
}

/* --- answers ---------------------------------------------------------------------------------------------------- */

/* What waits for the rows. */
struct wait {
    void *request;
    bool list;
    int64_t limit;
    enum err no_row, missing;
};

static const char *text_at(const PGresult *rows, int row, const char *column)
{
    int at = PQfnumber(rows, column);
    return at < 0 || PQgetisnull(rows, row, at) ? NULL : PQgetvalue(rows, row, at);
}

/* An item with a place is a user, who lacks what the database cannot make. */
static void add_item(struct request *r, struct buf *out, const PGresult *rows, int row)
{
    const char *item = text_at(rows, row, "item"), *place = text_at(rows, row, "place");
    if (!place) {
        buf_adds(out, item);
        return;
    }
    buf_add(out, item, strlen(item) - 1); /* without its brace */
    add_referral(r, out, (uint32_t)strtoul(place, NULL, 10), text_at(rows, row, "landing_url"));
    buf_addc(out, '}');
}

/* There is one row more than the page has items when there are more. */
static void answer_page(struct request *r, const PGresult *rows, int64_t limit)
{
    struct buf *out = answer_body(r);
    bool more = PQntuples(rows) > limit;
    int count = more ? (int)limit : PQntuples(rows);
    buf_adds(out, "{\"items\":[");
    for (int i = 0; i < count && text_at(rows, i, "item"); i++) {
        if (i > 0)
            buf_addc(out, ',');
        add_item(r, out, rows, i);
    }
    buf_addc(out, ']');
    member_string(out, "next_cursor", more ? text_at(rows, count - 1, "cursor") : text_at(rows, 0, "rest"));
    members_end(out);
    answer_json(r, 200, out);
}

static void answer_one(struct request *r, const PGresult *rows)
{
    struct buf *out = answer_body(r);
    add_item(r, out, rows, 0);
    answer_json(r, 200, out);
}

static bool object_there(const PGresult *rows, bool list)
{
    const char *known = text_at(rows, 0, "known");
    return list ? known && known[0] == 't' : text_at(rows, 0, "item") != NULL;
}

static void on_rows(void *arg, enum err err, const PGresult *rows)
{
    struct wait w = *(struct wait *)arg;
    free(arg);
    struct request *r = request_resume(w.request);
    if (!r)
        return;
    if (err == ERR_NONE && PQntuples(rows) == 0)
        err = w.no_row;
    else if (err == ERR_NONE && !object_there(rows, w.list))
        err = w.missing;
    if (err != ERR_NONE)
        answer_error(r, err);
    else if (w.list)
        answer_page(r, rows, w.limit);
    else
        answer_one(r, rows);
}

static void submit(struct reading *g, enum err missing)
{
    struct wait *w = xmalloc(sizeof *w);
    *w = (struct wait){.request = request_wait(g->r, ERR_TIMEOUT),
                       .list = g->list,
                       .limit = g->limit,
                       .no_row = g->no_row,
                       .missing = missing};
    enum err err = reader_submit(g->r->http->reader, g->read, g->count, g->values, on_rows, w);
    if (err == ERR_NONE)
        return;
    free(w);
    answer_error(request_resume(g->r), err);
}

void reading_answer(struct reading *g, enum err missing)
{
    const struct query *q = &g->query;
    if (query_end(&g->query))
        submit(g, missing);
    else
        answer_fault(g->r, ERR_INVALID, q->field, q->detail);
    query_clear(&g->query);
}
