/* The queues of records by key: a hash table of FIFOs, the list of those that are ready, the heap of those that wait.
 * Part of the dispatch. */
#ifndef TIDINGS_CONSUMERS_KEYS_H
#define TIDINGS_CONSUMERS_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "consumers/item.h"

enum key_state { KEY_IDLE, KEY_READY, KEY_HELD, KEY_WAITING };

struct key_queue {
    struct key_queue *bucket_next;
    struct key_queue *prev, *next; /* in the ready list */
    struct item *head, *tail;
    size_t count;
    enum key_state state;
    int64_t due_us; /* KEY_WAITING */
    size_t heap_at; /* KEY_WAITING */
    uint64_t hash;
    size_t len;
    char key[];
};

struct keys {
    struct key_queue **buckets;
    size_t bucket_count, count;
    struct key_queue *ready_head, *ready_tail;
    size_t ready_keys, ready_items;
    struct key_queue **heap; /* by due_us, least first */
    size_t heap_len, heap_cap;
};

void keys_init(struct keys *k);
void keys_free(struct keys *k); /* the table; the queues must be gone */

struct key_queue *keys_get(struct keys *k, const void *key, size_t len); /* made KEY_IDLE when it is new */
void keys_push(struct keys *k, struct key_queue *q, struct item *it);    /* at the end */
void keys_unlink(struct keys *k, struct key_queue *q, struct item *it);
void keys_drop_if_empty(struct keys *k, struct key_queue *q); /* not while KEY_HELD */

void keys_set_ready(struct keys *k, struct key_queue *q); /* at the end of the ready list */
void keys_set_held(struct keys *k, struct key_queue *q);
void keys_set_waiting(struct keys *k, struct key_queue *q, int64_t due_us);

#endif
