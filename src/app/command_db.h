/* What subcommands that work on the database share. Blocking; what is wrong is said on stderr. */
#ifndef TIDINGS_APP_COMMAND_DB_H
#define TIDINGS_APP_COMMAND_DB_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "core/config.h"

/* A connection to a database whose schema is this binary's; NULL with the reason said. */
PGconn *command_open(const struct config *config, const char *application_name);

/* The rows of a statement with text parameters, the caller's to clear; NULL with the reason said. */
PGresult *command_ask(PGconn *conn, const char *sql, int count, const char *const *values);

/* Whether an argument is digits alone, and fits into a bigint. */
bool command_is_number(const char *text);

#endif
