/* Events of some types that reach every process, whatever groups there are: a consumer without a group that reads all
 * partitions from where they ended when it began. For dropping what is cached. Loop thread only; nothing here blocks.
 *
 *   FIXING (a pool thread asks where the partitions end) ──▶ READING ──connected to all leaders──▶ live
 *      ▲                                                        │ a record was lost to us: all anew
 *      └────────────────────────────────────────────────────────┘ */
#ifndef TIDINGS_BUS_BROADCAST_H
#define TIDINGS_BUS_BROADCAST_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/config.h"
#include "core/inbox.h"
#include "domain/event.h"

struct broadcast;

struct broadcast_options {
    uv_loop_t *loop;
    struct inbox *inbox;
    const struct config *config;
    uint32_t types; /* set of (1u << enum event_type): the others are passed over unparsed */
    /* Each event that was appended to the topic since `live` last became true, once or more. */
    void (*on_event)(void *arg, const struct event *e);
    /* Whether events reach us, as far as is known. When it becomes true, what was read before may have been missed: it must
     * be forgotten now. While a broker hangs, true stays for some 5 seconds. */
    void (*on_live)(void *arg, bool live);
    void *arg;
};

/* Kafka may be absent: it keeps trying. NULL with a sentence in why. */
struct broadcast *broadcast_start(const struct broadcast_options *options, char *why, size_t why_size);

/* on_stopped comes once, at about deadline_us (clock_mono_us) at the latest. */
void broadcast_stop(struct broadcast *b, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg);

#endif
