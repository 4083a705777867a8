/* Shared Kafka client configuration. Any thread. */
#ifndef TIDINGS_BUS_KAFKA_H
#define TIDINGS_BUS_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <stddef.h>

#include "core/config.h"

/* A configuration with the brokers, client id, socket options and log callback that all our clients share (TLS and SASL
 * settings come here too). Never NULL; aborts on a property that librdkafka does not know. The caller owns it. */
rd_kafka_conf_t *kafka_conf(const struct config *config, const char *client);

/* Sets a property or aborts: a refused property is a bug of ours. */
void kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value);

#endif
