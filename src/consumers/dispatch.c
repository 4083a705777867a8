/* Which record may run when. */
#include "consumers/dispatch.h"

#include <stdlib.h>
#include <string.h>

#include "consumers/keys.h"
#include "core/break.h"
#include "core/buf.h"

struct dispatch {
    struct dispatch_options options;
    struct keys keys;
    size_t items, running, bytes;
};

struct dispatch *dispatch_new(const struct dispatch_options *options)
{
    struct dispatch *d = xcalloc(1, sizeof *d);
    d->options = *options;
    keys_init(&d->keys);
    return d;
}

void dispatch_free(struct dispatch *d)
{
    if (!d)
        return;
    keys_free(&d->keys);
    free(d);
}

struct partition *dispatch_assign(struct dispatch *d, int32_t id)
{
    (void)d;
    struct partition *p = xcalloc(1, sizeof *p);
    p->id = id;
    p->committed = p->committing = -1;
    watermark_init(&p->watermark);
    return p;
}

static void partition_end(struct partition *p)
{
    watermark_free(&p->watermark);
    free(p);
}

/* Takes an item out for good and frees it. Its key stays, perhaps empty; an orphaned partition ends with its last item. */
static void remove_item(struct dispatch *d, struct item *it)
{
    struct partition *p = it->partition;
    keys_unlink(&d->keys, it->key, it);
    *(it->partition_prev ? &it->partition_prev->partition_next : &p->first) = it->partition_next;
    if (it->partition_next)
        it->partition_next->partition_prev = it->partition_prev;
    p->items--;
    d->items--;
    d->bytes -= it->bytes;
    item_free(it);
    if (p->orphan && p->items == 0)
        partition_end(p);
}

void dispatch_revoke(struct dispatch *d, struct partition *p)
{
    p->closing = true;
    for (struct item *it = p->first, *next; it; it = next) {
        next = it->partition_next;
        struct key_queue *q = it->key;
        if (it->running)
            continue;
        remove_item(d, it);
        keys_drop_if_empty(&d->keys, q);
    }
}

void dispatch_forget(struct dispatch *d, struct partition *p)
{
    dispatch_revoke(d, p);
    if (p->items == 0)
        partition_end(p);
    else
        p->orphan = true;
}

size_t dispatch_room(const struct dispatch *d, const struct partition *p)
{
    size_t open = watermark_open(&p->watermark);
    if (open >= d->options.window)
        return 0;
    if (d->bytes >= d->options.window_bytes)
        return p->items == 0 ? 1 : 0;
    return d->options.window - open;
}

void dispatch_add(struct dispatch *d, struct partition *p, struct item *it, const void *key, size_t key_len)
{
    struct key_queue *q = keys_get(&d->keys, key, key_len);
    it->partition = p;
    it->ticket = watermark_add(&p->watermark, it->record.offset);
    if (broken("commit-early"))
        watermark_done(&p->watermark, it->ticket);
    it->partition_prev = NULL;
    it->partition_next = p->first;
    if (p->first)
        p->first->partition_prev = it;
    p->first = it;
    p->items++;
    d->items++;
    d->bytes += it->bytes;
    keys_push(&d->keys, q, it);
    if (q->state == KEY_IDLE)
        keys_set_ready(&d->keys, q);
}

void dispatch_skip(struct dispatch *d, struct partition *p, int64_t offset)
{
    (void)d;
    watermark_add_done(&p->watermark, offset);
}

static size_t run_size(const struct dispatch *d, size_t share)
{
    size_t size = (dispatch_ready(d) + share - 1) / share;
    return size < 1 ? 1 : size > d->options.run_max ? d->options.run_max : size;
}

size_t dispatch_take(struct dispatch *d, size_t share, struct item **out)
{
    if (share == 0 || d->keys.ready_keys == 0)
        return 0;
    size_t want = run_size(d, share), n = 0;
    for (struct key_queue *q; n < want && (q = d->keys.ready_head);) {
        if (q->head->alone && n > 0)
            break;
        keys_set_held(&d->keys, q);
        size_t limit = d->options.one_per_key ? 1 : want - n;
        for (struct item *it = q->head; it && limit > 0; it = it->next, limit--) {
            if (it->alone && it != q->head)
                break;
            it->running = true;
            it->partition->running++;
            d->running++;
            out[n++] = it;
            if (it->alone)
                return n;
        }
    }
    return n;
}

/* After a run: the key is free again, its unfinished records still in order at its head. */
static void release_key(struct dispatch *d, struct key_queue *q, int64_t due_us)
{
    q->state = KEY_IDLE;
    if (!q->head)
        keys_drop_if_empty(&d->keys, q);
    else if (due_us > 0)
        keys_set_waiting(&d->keys, q, due_us);
    else
        keys_set_ready(&d->keys, q);
}

void dispatch_return(struct dispatch *d, struct item *const *items, size_t count)
{
    struct key_queue *key = NULL;
    int64_t due_us = 0;
    for (size_t i = 0; i < count; i++) {
        struct item *it = items[i];
        struct partition *p = it->partition;
        if (key && it->key != key) {
            release_key(d, key, due_us);
            due_us = 0;
        }
        key = it->key;
        it->running = false;
        p->running--;
        d->running--;
        if (it->result == ITEM_FINISHED)
            watermark_done(&p->watermark, it->ticket);
        else if (!p->closing && it->result != ITEM_BEHIND && it->due_us > due_us)
            due_us = it->due_us;
        if (it->result == ITEM_FINISHED || p->closing)
            remove_item(d, it);
    }
    if (key)
        release_key(d, key, due_us);
}

int64_t dispatch_due(struct dispatch *d, int64_t now_us)
{
    while (d->keys.heap_len > 0 && d->keys.heap[0]->due_us <= now_us)
        keys_set_ready(&d->keys, d->keys.heap[0]);
    return d->keys.heap_len > 0 ? d->keys.heap[0]->due_us : INT64_MAX;
}

size_t dispatch_ready(const struct dispatch *d)
{
    return d->options.one_per_key ? d->keys.ready_keys : d->keys.ready_items;
}

size_t dispatch_items(const struct dispatch *d)
{
    return d->items;
}

size_t dispatch_running(const struct dispatch *d)
{
    return d->running;
}
