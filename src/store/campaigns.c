/* A hash table of bounded size; when it is full, the first one that the present batch does not use makes room, beginning
 * where the last search ended. */
#include "store/campaigns.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/hash.h"

/* The database notices every change that comes with an event, and all do. Should anybody write past the lanes: so long. */
static const int64_t KEEP_US = 60000000;

struct campaigns {
    size_t capacity, count, hand, bucket_count;
    struct campaign **all; /* in no order */
    struct campaign **buckets;
    uint64_t *ages; /* by shard: entries of another age are forgotten */
    uint64_t batch;
};

struct campaigns *campaigns_new(size_t capacity, uint32_t shards)
{
    struct campaigns *c = xcalloc(1, sizeof *c);
    c->capacity = capacity;
    for (c->bucket_count = 64; c->bucket_count < capacity; c->bucket_count *= 2)
        ;
    c->all = xcalloc(capacity, sizeof *c->all);
    c->buckets = xcalloc(c->bucket_count, sizeof *c->buckets);
    c->ages = xcalloc(shards, sizeof *c->ages);
    return c;
}

static void entry_free(struct campaign *e)
{
    free((void *)(uintptr_t)e->landing_url.data);
    free(e->milestones);
    free(e);
}

void campaigns_free(struct campaigns *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        entry_free(c->all[i]);
    free(c->all);
    free(c->buckets);
    free(c->ages);
    free(c);
}

void campaigns_begin(struct campaigns *c)
{
    c->batch++;
}

/* Where the entry is linked, or would be. Ids are random but for the time, and nobody chooses them but we. */
static struct campaign **link_of(struct campaigns *c, struct uuid id)
{
    struct campaign **link = &c->buckets[hash64(id.b, sizeof id.b) & (c->bucket_count - 1)];
    while (*link && !uuid_equal((*link)->id, id))
        link = &(*link)->next;
    return link;
}

struct campaign *campaigns_find(struct campaigns *c, struct uuid id)
{
    struct campaign *e = *link_of(c, id);
    if (!e)
        return NULL;
    if (e->used_in != c->batch) {
        if (e->age != c->ages[e->shard] || clock_mono_us() - e->loaded_us > KEEP_US)
            return NULL;
        e->used_in = c->batch;
        e->batch_places = e->batch_events = 0;
    }
    return e;
}

static void evict(struct campaigns *c)
{
    for (size_t tries = 0; tries < c->count; tries++) {
        c->hand = (c->hand + 1) % c->count;
        if (c->all[c->hand]->used_in != c->batch)
            break;
    }
    struct campaign *e = c->all[c->hand];
    *link_of(c, e->id) = e->next;
    c->all[c->hand] = c->all[--c->count];
    entry_free(e);
}

static struct text copy_text(struct text t)
{
    return t.data ? (struct text){xstrndup(t.data, t.len), t.len} : t;
}

void campaigns_put(struct campaigns *c, const struct campaign *loaded)
{
    struct campaign **link = link_of(c, loaded->id), *e = *link;
    if (!e && c->count == c->capacity) {
        evict(c);
        link = link_of(c, loaded->id);
    }
    if (!e) {
        e = xcalloc(1, sizeof *e);
        c->all[c->count++] = e;
        *link = e;
    } else {
        free((void *)(uintptr_t)e->landing_url.data);
        free(e->milestones);
    }
    struct campaign *next = e->next;
    size_t bytes = loaded->milestone_count * sizeof *loaded->milestones;
    *e = *loaded;
    e->next = next;
    e->landing_url = copy_text(loaded->landing_url);
    e->milestones = bytes ? memcpy(xmalloc(bytes), loaded->milestones, bytes) : NULL;
    e->age = c->ages[e->shard];
    e->used_in = c->batch; /* the next ones that are put must not push it out */
    e->loaded_us = clock_mono_us();
}

void campaigns_forget(struct campaigns *c, struct uuid id)
{
    struct campaign *e = *link_of(c, id);
    if (e)
        e->loaded_us -= 2 * KEEP_US;
}

void campaigns_forget_shard(struct campaigns *c, uint32_t shard)
{
    c->ages[shard]++;
}
