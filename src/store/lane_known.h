/* What a lane knows of its shards: their heads, and where their campaigns stand. Loop thread.
 * It is true as long as nobody else commits in the shard, and then its head is another one: whoever relies on it compares the
 * head under the shard's lock. */
#ifndef TIDINGS_STORE_LANE_KNOWN_H
#define TIDINGS_STORE_LANE_KNOWN_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/pglink.h"
#include "store/campaigns.h"
#include "store/lane_result.h"
#include "store/pgarray.h"
#include "store/seen.h"

struct lane_known {
    struct campaigns *campaigns;
    uint32_t shards;
    int64_t *heads; /* by shard: its last seq … */
    bool *has_head; /* … where it is known */
    struct pgarray ask_shards, ask_ids;
    struct seen asked;
};

void lane_known_init(struct lane_known *k, size_t batch, size_t campaigns, uint32_t shards);
void lane_known_free(struct lane_known *k);

/* Nothing is known any more, but the shards' heads (NULL: not those either). */
void lane_known_reset(struct lane_known *k, const int64_t *heads);
void lane_known_forget(struct lane_known *k, uint32_t shard);

/* Whether all that the batch needs is known. */
bool lane_known_has(struct lane_known *k, struct action *const *batch, size_t count);

/* Asks the database for what is missing (statement lane_load), and reads the answer; false: not what the function promises. */
bool lane_known_ask(struct lane_known *k, struct pglink *link, struct action *const *batch, size_t count,
                    pglink_done done, void *arg);
bool lane_known_answer(struct lane_known *k, const PGresult *rows);

/* What a batch of the general road brought about. */
void lane_known_learn(struct lane_known *k, struct action *const *batch, size_t count,
                      const struct lane_result *result);

#endif
