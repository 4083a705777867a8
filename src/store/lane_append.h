/* The short road of a lane: sign-ups that the lane numbers itself, appended by one call that does little more than insert
 * (sql/fn_lanes_append.sql). It only ever succeeds or says that an address is taken; what needs another decision (no such
 * campaign, a closed one, a referrer who is not there, a second use of an address in the batch) goes the general road. Loop
 * thread. */
#ifndef TIDINGS_STORE_LANE_APPEND_H
#define TIDINGS_STORE_LANE_APPEND_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/pglink.h"
#include "store/lane_known.h"
#include "store/lane_result.h"

struct lane_append;

/* Sends at most `batch` actions, numbered from what is known. */
struct lane_append *lane_append_new(size_t batch, struct lane_known *known);
void lane_append_free(struct lane_append *p); /* NULL is fine */

/* Prepares the statements of a new connection. Blocks; false with the reason in why. */
bool lane_append_prepare(PGconn *conn, char *why, size_t why_size);

bool lane_append_takes(const struct action *a);

/* Numbers the batch and sends it as one transaction. SKIPPED: none of it can go this road; nothing was sent. */
enum append_sent { APPEND_SENT, APPEND_SKIPPED, APPEND_FAILED };
enum append_sent lane_append_send(struct lane_append *p, struct pglink *link, struct action *const *batch, size_t count,
                                  pglink_done done, void *arg);
void lane_append_shards(const struct lane_append *p, const char **value,
                        int *len); /* as a parameter, of what was sent */

/* Reads the answer into `out`; text of its rows and results is p's until the next answer. In the last two cases nothing was
 * appended: all but actions whose address is taken come again. An action that must go the general road is marked so. */
enum append_outcome { APPEND_DONE, APPEND_STALE, APPEND_TAKEN, APPEND_BROKEN };
enum append_outcome lane_append_decode(struct lane_append *p, const PGresult *row, size_t count,
                                       struct lane_result *out);

#endif
