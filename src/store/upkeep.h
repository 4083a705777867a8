/* Takes away what is no longer needed: rows of deleted campaigns, answers kept under Idempotency-Keys. Every now and then an
 * action of each shard's lane, and more of them while there is something. Loop thread only. */
#ifndef TIDINGS_STORE_UPKEEP_H
#define TIDINGS_STORE_UPKEEP_H

#include <uv.h>

#include "core/config.h"
#include "store/lanes.h"

struct upkeep;

/* The lanes and the installation (whose shards may still be 0: not yet known) outlive it. */
struct upkeep *upkeep_start(uv_loop_t *loop, const struct config *config, struct lanes *lanes,
                            const struct installation *installation);
void upkeep_stop(struct upkeep *u, void (*on_stopped)(void *arg), void *arg); /* before the lanes stop */

#endif
