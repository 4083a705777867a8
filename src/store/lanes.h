/* Lanes: the only writers of the lane tables. Concurrent actions of a lane share one transaction. Loop thread only. */
#ifndef TIDINGS_STORE_LANES_H
#define TIDINGS_STORE_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "core/config.h"
#include "domain/event.h"
#include "store/action.h"
#include "store/schema.h"

struct lanes;

/* Committed events of one lane transaction, in seq order per shard; called before the actions' on_done. Rows and their
 * data are valid during the call. */
typedef void (*lanes_on_commit)(void *arg, const struct event_row *rows, size_t count);

/* on_past_lost: a new connection has fewer events than were committed before: the database went back in time.
 * Until lanes_connect every action is refused with ERR_DB_UNAVAILABLE. */
struct lanes *lanes_start(uv_loop_t *loop, const struct config *config, lanes_on_commit on_commit,
                          void (*on_past_lost)(void *arg), void *arg);

/* Opens LANES connections, once, when the installation is known; they come back by themselves, with back-off.
 * installation must outlive the lanes. */
void lanes_connect(struct lanes *l, const struct installation *installation);

/* Takes an action; on_done follows. Any error but ERR_NONE: not taken, the caller still owns it
 * (ERR_OVERLOADED: queue full; ERR_DB_UNAVAILABLE: no connection now; ERR_SHUTTING_DOWN). */
enum err lanes_submit(struct lanes *l, struct action *a);

bool lanes_ready(const struct lanes *l);          /* every lane is connected */
const char *lanes_trouble(const struct lanes *l); /* why not, for people; "" when ready */

/* Takes no more, lets what is queued and in flight end (until deadline_us of clock_mono_us; then 503), closes, calls back. */
void lanes_stop(struct lanes *l, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg);

#endif
