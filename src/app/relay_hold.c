/* Takes the relays' locks one by one as processes let go of them. */
#include "app/relay_hold.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/pg.h"

enum { EVERY_MS = 200, SAY_S = 5 };

/* Shards that others still relay; -1: with the reason said. */
static long ask(PGconn *conn)
{
    PGresult *r = PQexec(conn, "select relay_hold()");
    long left = -1;
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        fprintf(stderr, "tidings: %s", PQresultErrorMessage(r));
    else if (PQgetisnull(r, 0, 0))
        fprintf(stderr, "tidings: another command holds the relays at the moment\n");
    else
        left = strtol(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    return left;
}

bool relay_hold(PGconn *conn, int timeout_s)
{
    int64_t start_us = clock_mono_us(), said_us = start_us;
    for (long left; (left = ask(conn)) != 0;) {
        int64_t now_us = clock_mono_us();
        if (left < 0)
            return false;
        if (now_us - start_us > timeout_s * 1000000LL) {
            fprintf(
                stderr,
                "tidings: processes do not let go of %ld shards: one that stopped with an alarm must be ended first\n",
                left);
            return false;
        }
        if (now_us - said_us > SAY_S * 1000000LL) {
            said_us = now_us;
            fprintf(stderr, "waiting for processes to let go of %ld shards\n", left);
        }
        clock_sleep_ms(EVERY_MS);
    }
    return true;
}
