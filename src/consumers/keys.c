/* Queues of records by key. */
#include "consumers/keys.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/hash.h"

#define BUCKETS_MIN 256

void keys_init(struct keys *k)
{
    memset(k, 0, sizeof *k);
    k->bucket_count = BUCKETS_MIN;
    k->buckets = xcalloc(k->bucket_count, sizeof(struct key_queue *));
}

void keys_free(struct keys *k)
{
    free(k->buckets);
    free(k->heap);
}

static struct key_queue **bucket_of(const struct keys *k, uint64_t hash)
{
    return &k->buckets[hash & (k->bucket_count - 1)];
}

static void grow_buckets(struct keys *k)
{
    struct keys bigger = *k;
    bigger.bucket_count *= 2;
    bigger.buckets = xcalloc(bigger.bucket_count, sizeof(struct key_queue *));
    for (size_t i = 0; i < k->bucket_count; i++)
        for (struct key_queue *q = k->buckets[i], *next; q; q = next) {
            next = q->bucket_next;
            struct key_queue **to = bucket_of(&bigger, q->hash);
            q->bucket_next = *to;
            *to = q;
        }
    free(k->buckets);
    *k = bigger;
}

struct key_queue *keys_get(struct keys *k, const void *key, size_t len)
{
    uint64_t hash = hash64(key, len);
    for (struct key_queue *q = *bucket_of(k, hash); q; q = q->bucket_next)
        if (q->hash == hash && q->len == len && memcmp(q->key, key, len) == 0)
            return q;
    if (k->count >= k->bucket_count)
        grow_buckets(k);
    struct key_queue *q = xmalloc(sizeof *q + len);
    memset(q, 0, sizeof *q);
    q->hash = hash;
    q->len = len;
    memcpy(q->key, key, len);
    q->bucket_next = *bucket_of(k, hash);
    *bucket_of(k, hash) = q;
    k->count++;
    return q;
}

/* --- the heap of waiting queues --- */

static void heap_put(struct keys *k, size_t at, struct key_queue *q)
{
    k->heap[at] = q;
    q->heap_at = at;
}

static void heap_up(struct keys *k, size_t at)
{
    struct key_queue *q = k->heap[at];
    for (size_t parent; at > 0 && q->due_us < k->heap[parent = (at - 1) / 2]->due_us; at = parent)
        heap_put(k, at, k->heap[parent]);
    heap_put(k, at, q);
}

static void heap_down(struct keys *k, size_t at)
{
    struct key_queue *q = k->heap[at];
    for (size_t child; (child = at * 2 + 1) < k->heap_len; at = child) {
        if (child + 1 < k->heap_len && k->heap[child + 1]->due_us < k->heap[child]->due_us)
            child++;
        if (q->due_us <= k->heap[child]->due_us)
            break;
        heap_put(k, at, k->heap[child]);
    }
    heap_put(k, at, q);
}

static void heap_add(struct keys *k, struct key_queue *q)
{
    if (k->heap_len == k->heap_cap) {
        k->heap_cap = k->heap_cap ? k->heap_cap * 2 : 64;
        k->heap = xrealloc(k->heap, k->heap_cap * sizeof(struct key_queue *));
    }
    heap_put(k, k->heap_len++, q);
    heap_up(k, q->heap_at);
}

static void heap_remove(struct keys *k, struct key_queue *q)
{
    size_t at = q->heap_at;
    struct key_queue *last = k->heap[--k->heap_len];
    if (last == q)
        return;
    heap_put(k, at, last);
    heap_up(k, at);
    heap_down(k, last->heap_at);
}

/* --- states --- */

static void leave_state(struct keys *k, struct key_queue *q)
{
    if (q->state == KEY_READY) {
        *(q->prev ? &q->prev->next : &k->ready_head) = q->next;
        *(q->next ? &q->next->prev : &k->ready_tail) = q->prev;
        q->prev = q->next = NULL;
        k->ready_keys--;
        k->ready_items -= q->count;
    } else if (q->state == KEY_WAITING) {
        heap_remove(k, q);
    }
    q->state = KEY_IDLE;
}

void keys_set_ready(struct keys *k, struct key_queue *q)
{
    leave_state(k, q);
    q->state = KEY_READY;
    q->prev = k->ready_tail;
    *(k->ready_tail ? &k->ready_tail->next : &k->ready_head) = q;
    k->ready_tail = q;
    k->ready_keys++;
    k->ready_items += q->count;
}

void keys_set_held(struct keys *k, struct key_queue *q)
{
    leave_state(k, q);
    q->state = KEY_HELD;
}

void keys_set_waiting(struct keys *k, struct key_queue *q, int64_t due_us)
{
    leave_state(k, q);
    q->state = KEY_WAITING;
    q->due_us = due_us;
    heap_add(k, q);
}

/* --- a queue's items --- */

void keys_push(struct keys *k, struct key_queue *q, struct item *it)
{
    it->key = q;
    it->prev = q->tail;
    it->next = NULL;
    *(q->tail ? &q->tail->next : &q->head) = it;
    q->tail = it;
    q->count++;
    if (q->state == KEY_READY)
        k->ready_items++;
}

void keys_unlink(struct keys *k, struct key_queue *q, struct item *it)
{
    *(it->prev ? &it->prev->next : &q->head) = it->next;
    *(it->next ? &it->next->prev : &q->tail) = it->prev;
    it->prev = it->next = NULL;
    it->key = NULL;
    q->count--;
    if (q->state == KEY_READY)
        k->ready_items--;
}

void keys_drop_if_empty(struct keys *k, struct key_queue *q)
{
    if (q->head || q->state == KEY_HELD)
        return;
    leave_state(k, q);
    struct key_queue **at = bucket_of(k, q->hash);
    while (*at != q)
        at = &(*at)->bucket_next;
    *at = q->bucket_next;
    k->count--;
    free(q);
}
