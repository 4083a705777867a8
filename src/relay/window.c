/* The relay's window: what to send, what to read again, how far the cursor may move. */
#include "relay/window.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/hash.h"

struct sent {
    int64_t seq, at_us;
    size_t bytes;
    struct uuid id;
};

struct part {
    int64_t passed;
    struct sent *ring; /* in flight, oldest at head; grows to max_count */
    size_t ring_size, head, count, bytes;
    bool proven; /* an event of this producer was acknowledged: more than one may be in flight */
    bool halted;
    int64_t acked_seq; /* last acknowledged, 0 = none yet */
    struct uuid acked_id;
    int64_t acked_us; /* when */
};

struct window {
    uint32_t shards, partitions, per_shard;
    size_t max_count, max_bytes;
    struct part *parts; /* by partition; those of shard s are s, s + shards, s + 2 × shards, … */
    int64_t *heads;     /* by shard */
    bool *own;          /* by shard */
};

struct window *window_new(uint32_t shards, uint32_t partitions, size_t max_count, size_t max_bytes)
{
    struct window *w = xcalloc(1, sizeof *w);
    w->shards = shards;
    w->partitions = partitions;
    w->per_shard = partitions / shards;
    w->max_count = max_count;
    w->max_bytes = max_bytes;
    w->parts = xcalloc(partitions, sizeof *w->parts);
    w->heads = xcalloc(shards, sizeof *w->heads);
    w->own = xcalloc(shards, sizeof *w->own);
    return w;
}

void window_free(struct window *w)
{
    if (!w)
        return;
    for (uint32_t i = 0; i < w->partitions; i++)
        free(w->parts[i].ring);
    free(w->parts);
    free(w->heads);
    free(w->own);
    free(w);
}

static struct part *part_of(const struct window *w, uint32_t shard, uint32_t k)
{
    return &w->parts[shard + k * w->shards];
}

static int64_t settled(const struct part *p)
{
    return p->count > 0 ? p->ring[p->head].seq - 1 : p->passed;
}

static bool has_room(const struct window *w, const struct part *p)
{
    if (p->halted)
        return false;
    return p->proven ? p->count < w->max_count && p->bytes < w->max_bytes : p->count == 0;
}

void window_own(struct window *w, uint32_t shard, bool own)
{
    w->own[shard] = own;
}

void window_start_at(struct window *w, uint32_t shard, int64_t seq)
{
    for (uint32_t k = 0; k < w->per_shard; k++) {
        struct part *p = part_of(w, shard, k);
        if (p->count == 0 && p->passed < seq)
            p->passed = seq;
    }
    window_saw(w, shard, seq);
}

void window_go_back(struct window *w, uint32_t shard, int64_t seq)
{
    for (uint32_t k = 0; k < w->per_shard; k++)
        part_of(w, shard, k)->passed = seq;
}

void window_saw(struct window *w, uint32_t shard, int64_t seq)
{
    if (seq > w->heads[shard])
        w->heads[shard] = seq;
}

void window_unsee(struct window *w)
{
    for (uint32_t i = 0; i < w->shards; i++)
        w->heads[i] = 0;
    for (uint32_t i = 0; i < w->partitions; i++)
        window_saw(w, i % w->shards, w->parts[i].passed);
}

static void push(struct window *w, struct part *p, const struct event_row *row, size_t bytes)
{
    if (p->count == p->ring_size) {
        size_t size = p->ring_size ? p->ring_size * 2 : 64;
        if (size > w->max_count)
            size = w->max_count;
        struct sent *ring = xcalloc(size, sizeof *ring);
        for (size_t i = 0; i < p->count; i++)
            ring[i] = p->ring[(p->head + i) % p->ring_size];
        free(p->ring);
        p->ring = ring;
        p->ring_size = size;
        p->head = 0;
    }
    p->ring[(p->head + p->count++) % p->ring_size] =
        (struct sent){.seq = row->seq, .at_us = row->at_us, .bytes = bytes, .id = row->id};
    p->bytes += bytes;
}

/* Which partition an event belongs to. */
static uint32_t target_of(const struct window *w, const struct event_row *row)
{
    char key[UUID_TEXT_SIZE];
    if (row->type == EVENT_NONE)
        return UINT32_MAX;
    if (w->per_shard == 1)
        return row->shard;
    return aggregate_hash(key, event_key(row, key)) % w->partitions;
}

static void feed_row(struct window *w, const struct event_row *row, window_send send, void *arg)
{
    uint32_t target = target_of(w, row);
    window_saw(w, row->shard, row->seq);
    for (uint32_t k = 0; k < w->per_shard && w->own[row->shard]; k++) {
        uint32_t partition = row->shard + k * w->shards;
        struct part *p = &w->parts[partition];
        if (p->passed != row->seq - 1)
            continue;
        if (partition == target) {
            size_t bytes = has_room(w, p) ? send(arg, partition, row) : 0;
            if (bytes == 0)
                continue;
            push(w, p, row, bytes);
        }
        p->passed = row->seq;
    }
}

void window_feed(struct window *w, const struct event_row *rows, size_t count, window_send send, void *arg)
{
    for (size_t i = 0; i < count; i++)
        feed_row(w, &rows[i], send, arg);
}

/* How many events of its shard would fill the partition, by the size of those in flight; 0: it has no room. */
static size_t reach_of(const struct window *w, const struct part *p)
{
    enum { USUAL_BYTES = 1500, STRANGERS = 8 };
    if (!has_room(w, p))
        return 0;
    if (!p->proven) /* one of its own; where partitions share a shard, it is somewhere among theirs */
        return w->per_shard == 1 ? 1 : STRANGERS * w->per_shard;
    size_t each = p->count > 0 ? p->bytes / p->count : USUAL_BYTES;
    size_t room = w->max_count - p->count, by_bytes = (w->max_bytes - p->bytes) / (each ? each : 1) + 1;
    return (room < by_bytes ? room : by_bytes) * w->per_shard;
}

bool window_gap(const struct window *w, uint32_t shard, size_t page, int64_t *from, size_t *count)
{
    bool gap = false;
    for (uint32_t k = 0; k < w->per_shard && w->own[shard]; k++) {
        const struct part *p = part_of(w, shard, k);
        size_t reach = reach_of(w, p);
        size_t missing = p->passed < w->heads[shard] ? (size_t)(w->heads[shard] - p->passed) : 0;
        size_t enough = missing < page ? missing : page;
        bool crowded = p->count > w->max_count / 2 || p->bytes > w->max_bytes / 2;
        if (missing == 0 || reach == 0 || (reach < enough && crowded) || (gap && p->passed >= *from))
            continue;
        *from = p->passed;
        *count = reach < enough ? reach : enough;
        gap = true;
    }
    return gap;
}

bool window_ack(struct window *w, uint32_t partition, int64_t seq, int64_t now_us, int64_t *at_us)
{
    if (partition >= w->partitions)
        return false;
    struct part *p = &w->parts[partition];
    if (p->count == 0 || p->ring[p->head].seq != seq)
        return false;
    const struct sent *s = &p->ring[p->head];
    *at_us = s->at_us;
    p->acked_seq = seq;
    p->acked_id = s->id;
    p->acked_us = now_us;
    p->proven = true;
    p->bytes -= s->bytes;
    p->head = (p->head + 1) % p->ring_size;
    p->count--;
    return true;
}

void window_rewind(struct window *w)
{
    for (uint32_t i = 0; i < w->partitions; i++) {
        struct part *p = &w->parts[i];
        p->passed = settled(p);
        p->head = p->count = p->bytes = 0;
        p->proven = false;
    }
}

void window_distrust_idle(struct window *w, int64_t idle_since_us)
{
    for (uint32_t i = 0; i < w->partitions; i++)
        if (w->parts[i].count == 0 && w->parts[i].acked_us < idle_since_us)
            w->parts[i].proven = false;
}

void window_halt(struct window *w, uint32_t partition)
{
    w->parts[partition].halted = true;
}

uint32_t window_halted(const struct window *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->partitions; i++)
        n += w->parts[i].halted;
    return n;
}

int64_t window_cursor(const struct window *w, uint32_t shard)
{
    int64_t least = INT64_MAX;
    for (uint32_t k = 0; k < w->per_shard; k++) {
        int64_t s = settled(part_of(w, shard, k));
        if (s < least)
            least = s;
    }
    return least;
}

int64_t window_head(const struct window *w, uint32_t shard)
{
    return w->heads[shard];
}

bool window_id_at(const struct window *w, uint32_t shard, int64_t seq, struct uuid *id)
{
    for (uint32_t k = 0; k < w->per_shard; k++) {
        const struct part *p = part_of(w, shard, k);
        if (p->acked_seq == seq && seq > 0) {
            *id = p->acked_id;
            return true;
        }
    }
    return false;
}

bool window_newest(const struct window *w, uint32_t shard, int64_t *seq, struct uuid *id)
{
    *seq = 0;
    for (uint32_t k = 0; k < w->per_shard; k++) {
        const struct part *p = part_of(w, shard, k);
        if (p->acked_seq > *seq) {
            *seq = p->acked_seq;
            *id = p->acked_id;
        }
        const struct sent *last = p->count > 0 ? &p->ring[(p->head + p->count - 1) % p->ring_size] : NULL;
        if (last && last->seq > *seq) {
            *seq = last->seq;
            *id = last->id;
        }
    }
    return *seq > 0;
}

int64_t window_oldest_us(const struct window *w)
{
    int64_t oldest = INT64_MAX;
    for (uint32_t i = 0; i < w->partitions; i++) {
        const struct part *p = &w->parts[i];
        if (p->count > 0 && p->ring[p->head].at_us < oldest)
            oldest = p->ring[p->head].at_us;
    }
    return oldest;
}

size_t window_in_flight(const struct window *w)
{
    size_t n = 0;
    for (uint32_t i = 0; i < w->partitions; i++)
        n += w->parts[i].count;
    return n;
}

size_t window_shard_in_flight(const struct window *w, uint32_t shard)
{
    size_t n = 0;
    for (uint32_t k = 0; k < w->per_shard; k++)
        n += part_of(w, shard, k)->count;
    return n;
}
