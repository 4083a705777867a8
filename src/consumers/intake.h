/* From a record of Kafka to an item with its key, or the knowledge that this group has nothing to do with it. */
#ifndef TIDINGS_CONSUMERS_INTAKE_H
#define TIDINGS_CONSUMERS_INTAKE_H

#include "consumers/item.h"
#include "consumers/source.h"
#include "core/buf.h"
#include "handlers/handler.h"

/* NULL: not for this handler, finished at once. Else an item and, in *key, the key to queue it by; one that cannot be
 * read is marked `bury`, with the reason, under a key of its own. *series: what to count it as (group_metrics.h). */
struct item *intake_read(const struct handler *h, const struct source_record *r, struct buf *key, int *series);

#endif
