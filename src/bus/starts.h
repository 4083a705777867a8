/* Sees to it that what a consumer was assigned is fetched.
 *
 * After an assignment librdkafka asks the group's coordinator once for the committed offsets. When that is answered with an
 * error (the coordinator has just moved or was started again: NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, ...) 2.0.2 does
 * not ask again: the partitions stay assigned and nobody ever fetches them, while heartbeats go on. So whatever does
 * not begin is given its offset by us: we ask for it ourselves, again and again, and assign the same list anew, each
 * partition with the offset to go on from. With those librdkafka has nothing to ask, and an answer to its own question that
 * comes late is passed over.
 *
 *   assigned ──an error after 1 s, statistics after 5 s: not begun──▶ asked ──offsets──▶ assigned anew
 *                                                  back-off ◀──error──┘
 *
 * Loop thread only. */
#ifndef TIDINGS_BUS_STARTS_H
#define TIDINGS_BUS_STARTS_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct starts;

/* Results of its questions come to queue: pass them to starts_answer. rk and queue must outlive it. group: for the log. */
struct starts *starts_new(rd_kafka_t *rk, rd_kafka_queue_t *queue, const char *group, const char *group_id);
void starts_free(struct starts *s); /* NULL is fine */

/* rd_kafka_assign was called with list. ids[0..count): the partitions by which starts_saw calls them, by index. */
void starts_assigned(struct starts *s, const rd_kafka_topic_partition_list_t *list, const int32_t *ids, size_t count);
void starts_revoked(struct starts *s); /* from now on nothing is assigned anew */

/* A record of partition ids[at] comes out of its queue. False: it was out before (it was fetched twice); leave it. */
bool starts_saw(struct starts *s, size_t at, int64_t offset);

void starts_suspect(struct starts *s);                         /* librdkafka reported an error: it may have been that */
void starts_look(struct starts *s, const char *stats);         /* librdkafka's statistics */
void starts_answer(struct starts *s, rd_kafka_event_t *event); /* RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT */
void starts_tick(struct starts *s);                            /* does what is due; at least some times a second */

size_t starts_missing(const struct starts *s); /* partitions that should be fetched by now and are not */
const char *starts_trouble(struct starts *s);  /* why, for people; "" when there are none */

#endif
