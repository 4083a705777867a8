/* Watches while records are consumed that each aggregate's versions come in order and that a version is always the same
 * event: what `tidings verify` proves for the whole topic, for what passes by. One group of a process has it. Loop thread only. */
#ifndef TIDINGS_CONSUMERS_ORDER_CHECK_H
#define TIDINGS_CONSUMERS_ORDER_CHECK_H

#include "consumers/source.h"

struct order_check;

struct order_check *order_check_new(void);
void order_check_free(struct order_check *o);

/* Counts in tidings_check_faults_total, and logs, a version that comes before the one ahead of it was seen (`gap`) and a version
 * that comes again as another event (`differs`). What does not look like a value of ours is passed over. Of the last
 * ORDER_CHECK_AGGREGATES or so aggregates the version is remembered; the first record of any other says where it is. */
enum { ORDER_CHECK_AGGREGATES = 4096 };
void order_check_see(struct order_check *o, const struct source_record *r);

void order_check_forget(struct order_check *o); /* other partitions, or other places in them, come next */

#endif
