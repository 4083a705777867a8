/* The idempotent producer: what is sent to a partition arrives in order and once, or the producer fails as a whole and is
 * made anew by its owner. Loop thread only. */
#ifndef TIDINGS_BUS_PRODUCER_H
#define TIDINGS_BUS_PRODUCER_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/config.h"

struct producer;

struct producer_options {
    const struct config *config;
    int64_t max_message_bytes; /* of the topic: no batch is made larger; -1: not known */
    /* Per message, in order per partition: tag is what producer_send was given. error RD_KAFKA_RESP_ERR_NO_ERROR: the
     * brokers have it (acks=all). Any other: it failed, and the producer must be closed. */
    void (*on_ack)(void *arg, int32_t partition, int64_t tag, rd_kafka_resp_err_t error);
    void (*on_acks_end)(void *arg);                      /* after a burst of on_ack */
    void (*on_fatal)(void *arg, const char *why);        /* the producer is broken: close it and open another */
    void (*on_brokers_down)(void *arg, const char *why); /* no broker can be reached at the moment; it keeps trying */
    void *arg;
};

/* NULL with a sentence in why. Connects by itself. */
struct producer *producer_open(uv_loop_t *loop, const struct producer_options *options, char *why, size_t why_size);

struct producer_header {
    const char *name, *value;
    size_t name_len, value_len;
};

enum producer_result { PRODUCER_SENT, PRODUCER_FULL, PRODUCER_REFUSED };

/* Copies everything. FULL: try again after an ack. REFUSED: this message can never be sent (*error says why). */
enum producer_result producer_send(struct producer *p, int32_t partition, const void *key, size_t key_len,
                                   const void *value, size_t value_len, const struct producer_header *headers,
                                   size_t header_count, int64_t tag, rd_kafka_resp_err_t *error);

/* Gives up what is in flight (no more callbacks), destroys the client on a pool thread; on_closed (may be NULL) on the loop. */
void producer_close(struct producer *p, void (*on_closed)(void *arg), void *arg);

#endif
