/* Where campaigns stand, as a lane knows it: what lets it number sign-ups itself. An entry holds as long as nobody else commits
 * anything in the campaign's shard; the database sees to that (lane_append in sql/fn_lanes_append.sql compares the shard's
 * head under its lock), so an entry that is out of date costs a round trip and never a wrong number. Loop thread only. */
#ifndef TIDINGS_STORE_CAMPAIGNS_H
#define TIDINGS_STORE_CAMPAIGNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/uuid.h"
#include "store/action.h"

struct campaign {
    struct uuid id, account_id;
    uint32_t no, account_no, shard;
    int64_t version; /* of its newest event */
    uint32_t places; /* users that it has: the last one's place */
    bool closed;
    struct text landing_url;
    int32_t *milestones;
    size_t milestone_count;
    uint32_t batch_places, batch_events; /* numbered in the batch that is being made, not yet committed */

    /* The cache's own. */
    struct campaign *next;
    uint64_t age, used_in;
    int64_t loaded_us;
};

struct campaigns;

/* Keeps at most `capacity` campaigns, of shards 0 … shards - 1. */
struct campaigns *campaigns_new(size_t capacity, uint32_t shards);
void campaigns_free(struct campaigns *c); /* NULL is fine */

/* Begins a batch: the campaigns that it finds stay until the next one begins, as long as they are fewer than the capacity. */
void campaigns_begin(struct campaigns *c);

/* NULL: not known (any more). */
struct campaign *campaigns_find(struct campaigns *c, struct uuid id);

/* Enters what was loaded, in place of what was known; text and milestones are copied. */
void campaigns_put(struct campaigns *c, const struct campaign *loaded);

void campaigns_forget(struct campaigns *c, struct uuid id);
void campaigns_forget_shard(struct campaigns *c, uint32_t shard);

#endif
