/* What consumers/source.h calls a membership, as librdkafka has it. */
#ifndef TIDINGS_BUS_MEMBERSHIP_H
#define TIDINGS_BUS_MEMBERSHIP_H

#include <librdkafka/rdkafka.h>
#include <stddef.h>

#include "consumers/source.h"

struct membership {
    size_t holders; /* the loop's */
    rd_kafka_consumer_group_metadata_t *metadata;
};

/* Of a consumer that was just assigned partitions. Waits for its thread, as rd_kafka_assign does. Loop thread. The caller
 * holds it. */
struct membership *membership_of(rd_kafka_t *rk);

#endif
