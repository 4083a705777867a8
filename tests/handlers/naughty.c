/* naughty-workers: a handler that does what handlers must not, for tests/e2e/test_naughty.py. What it does with a sign-up
 * is in the address, up to a dash; NAUGHTY=off in the environment makes it good. Its effect is a row of naughty_effects,
 * which has no unique index: two effects of one event are two rows. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/uuid.h"
#include "handlers/handler.h"
#include "handlers/sql.h"

static void naughty_key(const struct event *e, struct buf *out)
{
    struct uuid user = event_data_uuid(e, "user_id");
    buf_add(out, user.b, sizeof user.b);
}

static bool sql(struct run *run, PGresult **failed, const char *text)
{
    PGresult *r = run_sql(run, failed, text, 0, NULL);
    PQclear(r);
    return r != NULL;
}

/* Runs a statement that fails, and says nothing of it. */
static void swallow(struct run *run, const char *text)
{
    PGresult *failed = NULL;
    sql(run, &failed, text);
    PQclear(failed);
}

static bool effect(struct run *run, const struct record *r, PGresult **failed)
{
    char id[UUID_TEXT_SIZE];
    uuid_format(r->event.id, id);
    const char *const values[] = {id, event_data_text(&r->event, "email")};
    PGresult *result =
        run_sql(run, failed, "insert into naughty_effects (event_id, email) values ($1::uuid, $2)", 2, values);
    PQclear(result);
    return result != NULL;
}

static bool misbehave(struct run *run, struct record *r, const char *how, PGresult **failed)
{
    if (strcmp(how, "error") == 0) /* the data's fault: it says so */
        return sql(run, failed, "select 1 / 0");
    if (strcmp(how, "swallow") == 0)
        swallow(run, "select 1 / 0");
    else if (strcmp(how, "rollback") == 0)
        return sql(run, failed, "rollback");
    else if (strcmp(how, "unfinished") == 0)
        PQsendQuery(run->conn, "select 1");
    else if (strcmp(how, "nonsense") == 0)
        r->outcome = (enum outcome)99;
    else if (strcmp(how, "negative") == 0)
        r->outcome = (enum outcome) - 1;
    else if (strcmp(how, "hang") == 0)
        return sql(run, failed, "select pg_sleep(1000)");
    else if (strcmp(how, "slow") == 0)
        return sql(run, failed, "select pg_sleep(2)");
    else if (strcmp(how, "freeze") == 0)
        for (;;)
            pause();
    return true;
}

static bool naughty_apply(struct run *run, PGresult **failed)
{
    const char *mood = getenv("NAUGHTY");
    bool good = mood && strcmp(mood, "off") == 0;
    for (size_t i = 0; i < run->count; i++) {
        struct record *r = run->records[i];
        char how[32] = "";
        const char *email = event_data_text(&r->event, "email");
        size_t len = strcspn(email, "-@");
        if (r->known)
            continue;
        memcpy(how, email, len < sizeof how ? len : 0);
        if (!effect(run, r, failed) || (!good && !misbehave(run, r, how, failed)))
            return false;
        if (PQtransactionStatus(run->conn) != PQTRANS_INTRANS)
            return true; /* what it did from here on would be for good at once */
    }
    return true;
}

const struct handler naughty_handler = {
    .group = "naughty-workers",
    .processes = "user.signed_up",
    .types = 1u << EVENT_USER_SIGNED_UP,
    .dedupe = true,
    .key = naughty_key,
    .apply = naughty_apply,
};
