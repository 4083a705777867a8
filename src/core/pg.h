/* Postgres connections: how one is opened, what its session is pinned to, and what an error means. */
#ifndef TIDINGS_CORE_PG_H
#define TIDINGS_CORE_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/pgexec.h"

/* What kind of failure a SQLSTATE is: decides who is to blame and what happens next. */
enum pg_failure {
    PG_OK,
    PG_DATA,       /* the statement's input: split the batch until the culprit is alone */
    PG_TRANSIENT,  /* nobody's fault: resources, read-only, serialization, deadlock, lock time-out: try again or 503 */
    PG_CONNECTION, /* the connection is gone or unusable */
    PG_BUG,        /* our SQL or schema is wrong: 500, never retried blindly */
};
/* conn NULL: the result alone is judged. */
enum pg_failure pg_classify(const PGconn *conn, const PGresult *result);

/* Opens a connection and pins its session (READ COMMITTED, synchronous_commit=on, TimeZone=UTC, search_path=tidings,
 * client_encoding=UTF8, tcp_user_timeout, application_name). Blocks: up to connect_timeout_s for
 * each host of the URL, and for DNS as long as the resolver takes: never call on the loop thread. Returns a connection, or NULL with the reason in why. */
PGconn *pg_open(const char *url, const char *application_name, int connect_timeout_s, char *why, size_t why_size);

/* What sets a session up must be quick: the calls below block for PG_SETUP_MS at most, and a connection that did not answer by
 * then is of no use any more. Pool and worker threads only. */
enum { PG_SETUP_MS = 5000 };
struct pg_limit pg_setup_limit(void); /* of a statement that is sent now */

/* The result of statements without parameters, the last one's; NULL: no answer in time, or not sent. */
PGresult *pg_ask(PGconn *conn, const char *sql);

/* Runs statements without rows; true on success, else the reason in why. */
bool pg_run(PGconn *conn, const char *sql, char *why, size_t why_size);

/* Whether the server takes writes; false with a sentence in why when it is a standby: what it shows may lag behind. */
bool pg_require_primary(PGconn *conn, char *why, size_t why_size);

/* Prepares a statement; true on success, else the reason in why. */
bool pg_prepare(PGconn *conn, const char *name, const char *sql, char *why, size_t why_size);

/* Prepares, under the function's name, the call of a function with so many parameters (at most 40), as rows. */
bool pg_prepare_call(PGconn *conn, const char *function, int params, char *why, size_t why_size);

/* Whether a statement went well, else the reason in why. Frees r (NULL: it had no answer). */
bool pg_judge(PGconn *conn, PGresult *r, char *why, size_t why_size);

/* Why a statement failed (r NULL: it had no answer), one line. */
void pg_why(const PGconn *conn, const PGresult *r, char *why, size_t why_size);

#endif
