/* A command's hold on the relays of all processes: they let go of their shards and send nothing until the session ends. */
#ifndef TIDINGS_APP_RELAY_HOLD_H
#define TIDINGS_APP_RELAY_HOLD_H

#include <libpq-fe.h>
#include <stdbool.h>

/* Waits until no process relays, at most timeout_s. False with the reason said on stderr. The hold lasts as long as conn. */
bool relay_hold(PGconn *conn, int timeout_s);

#endif
