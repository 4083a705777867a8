/* Destroys a librdkafka client without blocking the loop: rd_kafka_destroy waits for the client's threads, and one of
 * them may hang. Loop thread only. */
#ifndef TIDINGS_BUS_DESTROYER_H
#define TIDINGS_BUS_DESTROYER_H

#include <librdkafka/rdkafka.h>

#include "core/inbox.h"

struct destroyer;

/* Takes rk; on_destroyed is called on the loop once it is gone, and ends the destroyer. A consumer is not closed here:
 * that was done before, or shall not be. All queue handles must have been destroyed. */
struct destroyer *destroyer_start(struct inbox *inbox, rd_kafka_t *rk, void (*on_destroyed)(void *arg), void *arg);

/* Waits no longer: nothing is called back, the thread goes on by itself without touching the inbox. */
void destroyer_abandon(struct destroyer *d);

#endif
