/* The call of a lane: a batch of actions as the parameters of one SQL function, and its rows as results. This is the general
 * road, which every action can go. Loop thread. */
#ifndef TIDINGS_STORE_LANE_CALL_H
#define TIDINGS_STORE_LANE_CALL_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/pglink.h"
#include "store/action.h"
#include "store/lane_result.h"
#include "store/pgarray.h"

#define LANE_CALL_PARAMS 29

/* Buffers that are reused from batch to batch. Zero-initialise; lane_call_free. */
struct lane_call {
    struct pgarray arrays[LANE_CALL_PARAMS];
    const char *values[LANE_CALL_PARAMS];
    int lengths[LANE_CALL_PARAMS];
    int formats[LANE_CALL_PARAMS];
};

/* Whether an action is applied one by one, which costs about a millisecond; the others are applied set-wise. */
bool lane_call_one_by_one(const struct action *a);

/* Prepares the statement of lane calls. Blocks; false with the reason in why. */
bool lane_call_prepare(PGconn *conn, char *why, size_t why_size);

/* Sends batch[0..count) as one transaction. Reorders the batch: sign-ups, verifications, others. */
bool lane_call_send(struct lane_call *call, struct pglink *link, struct action **batch, size_t count, pglink_done done,
                    void *arg);

/* Reads the rows (of a lane call or of lane_outcome) into out; text in it points into rows. False: the rows are not what the
 * function promises (a bug). An action without a row keeps ERR_INTERNAL. */
bool lane_call_decode(struct lane_result *out, const PGresult *rows, struct action *const *batch, size_t count);

void lane_call_free(struct lane_call *call);

#endif
