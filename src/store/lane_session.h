/* The session of a lane: what it is pinned to, the lock that names it, and how the outcome of a batch is found after its
 * connection was lost. Everything here blocks: pool threads only. */
#ifndef TIDINGS_STORE_LANE_SESSION_H
#define TIDINGS_STORE_LANE_SESSION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "core/uuid.h"
#include "store/action.h"
#include "store/schema.h"

/* Pins plans and time-outs, takes the session's advisory lock under `key`, prepares the calls, and reads each shard's
 * last seq into heads[0..shards). Refuses a standby, a transaction pooler, a schema that is not ours, and a primary whose
 * synchronous standby does not confirm commits: heads that it has not got are nobody's past after a failover, and an action
 * could only wait. */
bool lane_session_setup(PGconn *conn, const struct config *config, const struct installation *installation, int64_t key,
                        int64_t *heads, char *why, size_t why_size);

/* A batch whose answer was lost. */
struct lost_batch {
    int64_t key; /* of the session that ran it */
    size_t count;
    uint32_t *shards;            /* per action */
    int64_t *after;              /* per action: its shard's last seq known before the batch */
    struct uuid *event_ids;      /* per action: base id */
    struct action_key *keys;     /* per action */
    _Atomic int64_t deadline_us; /* clock_mono_us; the loop may bring it forward */
    PGresult *found;             /* out: rows as of lane_apply (binary); NULL: not found out by the deadline */
    char why[256];               /* out: why not */
};

/* Ends the session that ran the batch, makes sure that it is gone and that what it committed will stay, then looks the
 * batch's events up. Tries until the deadline. */
void lost_batch_resolve(struct lost_batch *lost, const struct config *config);

#endif
