/* A Postgres connection on the loop that comes back by itself. It is opened, set up and (once) looked up in DNS on a
 * libuv pool thread; then it is driven in pipeline mode by uv_poll. Loop thread only, except `setup`.
 *
 *   DOWN ──back-off──▶ OPENING (pool thread) ──ok──▶ UP ──error, stall, close──▶ DOWN
 *     ▲                    │ failed
 *     └────────────────────┘
 */
#ifndef TIDINGS_CORE_PGLINK_H
#define TIDINGS_CORE_PGLINK_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct pglink;

struct pglink_options {
    const char *url; /* must outlive the link, as must the name */
    const char *application_name;
    int connect_timeout_s;
    int64_t stall_ms;   /* an answer that takes longer: the connection counts as lost */
    size_t max_pending; /* statements sent and not yet answered, at most */
    /* On a pool thread, may block: pins settings, prepares statements. false with a sentence in why: try again later.
     * Calls for one link never overlap, nor do they overlap on_up … on_down. */
    bool (*setup)(PGconn *conn, void *arg, char *why, size_t why_size);
    void (*on_up)(void *arg);                    /* loop thread */
    void (*on_down)(void *arg, const char *why); /* loop thread; after every pending statement got its answer */
    void *arg;
};

/* What came of one statement. */
struct pglink_answer {
    PGresult *result; /* NULL: the connection was lost before the answer was complete. Freed by the link */
    bool warned;      /* the server sent a warning meanwhile: a commit may not be replicated as it should be */
};
typedef void (*pglink_done)(void *arg, const struct pglink_answer *answer);

struct pglink *pglink_open(uv_loop_t *loop, const struct pglink_options *options);

bool pglink_up(const struct pglink *l);
bool pglink_room(const struct pglink *l);           /* up, and fewer than max_pending statements wait */
const char *pglink_trouble(const struct pglink *l); /* why it is down, for people; "" when up */

/* Sends a prepared statement and a Sync in one write: one implicit transaction. Returns false when it was not sent
 * (not up, no room, or the connection just failed; done is not called then). Otherwise done is called exactly once,
 * after the commit came back or the connection was lost, in the order of sending, never before this returns. */
bool pglink_send(struct pglink *l, const char *statement, int count, const char *const *values, const int *lengths,
                 const int *formats, int result_format, pglink_done done, void *arg);

void pglink_drop(struct pglink *l, const char *why); /* gives the connection up; a new one is opened after a back-off */

/* Closes; pending statements are answered as lost first; on_closed comes on the loop later and ends the link's life. */
void pglink_close(struct pglink *l, void (*on_closed)(void *arg), void *arg);

#endif
