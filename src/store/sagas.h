/* The driver of the sagas of earned rewards: gives up those that are past REWARD_DEADLINE_SECONDS, and has lanes end those that
 * were delivered or given up. All that it goes by is in Postgres (sql/fn_sagas.sql), and the lane's transaction decides: so it
 * can stop anywhere and begin anew, and every process has one. Loop thread only.
 *
 *   WAITING ──timer──▶ LOOKING ──campaigns with work──▶ ENDING (an action of each one's lane) ──there is more──▶ LOOKING
 *      ▲                  └──none, or it failed──┐                                                └──all answered──┐
 *      └─────────────────────────────────────────┴─────────────────────────────────────────────────────────────────┘
 */
#ifndef TIDINGS_STORE_SAGAS_H
#define TIDINGS_STORE_SAGAS_H

#include <uv.h>

#include "core/config.h"
#include "store/lanes.h"
#include "store/reader.h"

struct sagas;

/* All must outlive it. */
struct sagas *sagas_start(uv_loop_t *loop, const struct config *config, struct lanes *lanes, struct reader *reader);
void sagas_stop(struct sagas *s, void (*on_stopped)(void *arg), void *arg); /* before the lanes and the reader stop */

#endif
