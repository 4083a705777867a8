/* Sees to it that what a consumer was assigned is fetched.
 *
 * After an assignment librdkafka asks the group's coordinator once for the committed offsets. When that is answered with an
 * error (the coordinator has just moved or was started again: NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, ...) 2.0.2 does
 * not ask again: the partitions stay assigned and nobody ever fetches them, while heartbeats go on. So whatever does
 * not begin is assigned anew: librdkafka asks again then. What gave records already goes on after the last one.
 *
 *   assigned ──an error, not begun: after 1 s, 2 s, … 10 s──▶ assigned anew
 *            ──statistics, not begun after 20 s─────────────▶
 *
 * Loop thread only. */
#ifndef TIDINGS_BUS_STARTS_H
#define TIDINGS_BUS_STARTS_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct starts;

/* rk must outlive it. group: for the log. */
struct starts *starts_new(rd_kafka_t *rk, const char *group);
void starts_free(struct starts *s); /* NULL is fine */

/* rd_kafka_assign was called with list. ids[0..count): the partitions by which starts_saw calls them, by index. */
void starts_assigned(struct starts *s, const rd_kafka_topic_partition_list_t *list, const int32_t *ids, size_t count);
void starts_revoked(struct starts *s); /* from now on nothing is assigned anew */

/* A record of partition ids[at] comes out of its queue. */
void starts_saw(struct starts *s, size_t at, int64_t offset);

void starts_suspect(struct starts *s);                 /* librdkafka reported an error: it may have been that */
void starts_look(struct starts *s, const char *stats); /* librdkafka's statistics */
void starts_tick(struct starts *s);                    /* does what is due; at least some times a second */

size_t starts_missing(const struct starts *s); /* partitions that should be fetched by now and are not */
const char *starts_trouble(struct starts *s);  /* why, for people; "" when there are none */

#endif
