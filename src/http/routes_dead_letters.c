/* The dead letters, for operators who have OPS_TOKEN. */
#include <inttypes.h>
#include <stdio.h>

#include "handlers/handler.h"
#include "http/answer.h"
#include "http/reading.h"
#include "http/routes.h"
#include "http/server.h"

enum { GROUPS_MAX = 32 };

/* The names of the consumer groups, up to NULL. */
static void group_names(const char *names[GROUPS_MAX])
{
    size_t count = 0;
    for (const struct handler *const *h = all_handlers; *h && count < GROUPS_MAX - 1; h++)
        names[count++] = (*h)->group;
    names[count] = NULL;
}

void route_list_dead_letters(struct request *r)
{
    static const char *const states[] = {"dead", "retry", "parked", NULL};
    struct reading g;
    const char *groups[GROUPS_MAX], *group = NULL, *state = NULL;
    group_names(groups);
    reading_open_list(&g, r, READ_DEAD_LETTERS);
    reading_add_page(&g, 1);
    query_choice(&g.query, "group", groups, &group);
    query_choice(&g.query, "state", states, &state);
    reading_add_text(&g, group);
    reading_add_text(&g, state);
    reading_answer(&g, ERR_NO_DEAD_LETTER);
}

void route_get_dead_letter(struct request *r)
{
    struct reading g;
    reading_open(&g, r, READ_DEAD_LETTER);
    reading_add_int(&g, r->dead_letter_id);
    reading_answer(&g, ERR_NO_DEAD_LETTER);
}

/* Columns: item, there. */
static void on_changed(void *arg, enum err err, const PGresult *rows)
{
    struct request *r = request_resume(arg);
    if (!r)
        return;
    if (err == ERR_NONE && PQgetisnull(rows, 0, 0))
        err = PQgetvalue(rows, 0, 1)[0] == 't' ? ERR_DEAD_LETTER_BUSY : ERR_NO_DEAD_LETTER;
    if (err != ERR_NONE) {
        answer_error(r, err);
        return;
    }
    struct buf *out = answer_body(r);
    buf_adds(out, PQgetvalue(rows, 0, 0));
    answer_json(r, 200, out);
}

static void change(struct request *r, const char *retry)
{
    char id[24];
    snprintf(id, sizeof id, "%" PRId64, r->dead_letter_id);
    void *arg = request_wait(r, ERR_OUTCOME_UNKNOWN);
    enum err err =
        reader_submit(r->http->reader, READ_CHANGE_DEAD_LETTER, 2, (const char *const[]){id, retry}, on_changed, arg);
    if (err != ERR_NONE)
        answer_error(request_resume(arg), err);
}

void route_retry_dead_letter(struct request *r)
{
    if (route_no_body(r))
        change(r, "true");
}

void route_discard_dead_letter(struct request *r)
{
    change(r, "false");
}
