/* A GET from its query to its answer: collects the parameters of one read of store/reader.h, submits it, and answers with
 * what comes back, the items' JSON text as Postgres made it. One handler's whole work:
 *
 *     struct reading g;
 *     reading_open_list(&g, r, READ_REWARDS);
 *     reading_add_page(&g);
 *     reading_answer(&g, ERR_NO_CAMPAIGN);
 *
 * Loop thread only. */
#ifndef TIDINGS_HTTP_READING_H
#define TIDINGS_HTTP_READING_H

#include <stdbool.h>
#include <stdint.h>

#include "http/query.h"
#include "http/request.h"
#include "store/reader.h"

#define PAGE_MAX 200
#define PAGE_DEFAULT 50

struct reading {
    struct request *r;
    struct query query; /* of a list; empty for a single object, whose query nobody looks at */
    enum read_query read;
    bool list;
    enum err no_row; /* what it means when there is no row at all: no such campaign, where nothing else is said */
    int64_t limit;
    int count;
    const char *values[READ_MAX_PARAMS];
    char texts[READ_MAX_PARAMS][40];
};

/* Both begin with the account as the read's first parameter. */
void reading_open(struct reading *g, struct request *r, enum read_query read);
void reading_open_list(struct reading *g, struct request *r, enum read_query read);

/* The next parameter. Texts must live until reading_answer; NULL: null. */
void reading_add_id(struct reading *g, struct uuid id);
void reading_add_int(struct reading *g, int64_t value);
void reading_add_bool(struct reading *g, bool value);
void reading_add_text(struct reading *g, const char *text);
/* The next parameters: limit, and the cursor's numbers, or nulls. */
void reading_add_page(struct reading *g, int cursor_numbers);

/* The same, where the cursor is a UUID. */
void reading_add_page_by_id(struct reading *g);

/* Submits it, or answers why not. missing: what it means when the campaign is there and the object is not. */
void reading_answer(struct reading *g, enum err missing);

#endif
