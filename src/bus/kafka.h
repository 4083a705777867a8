/* Shared Kafka client configuration. Any thread. */
#ifndef TIDINGS_BUS_KAFKA_H
#define TIDINGS_BUS_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/config.h"

/* Whether the settings fit together and their files can be used. False with a sentence that names the setting: the process
 * cannot work with them. Blocks a little (it reads the files). */
bool kafka_check(const struct config *config, char *why, size_t why_size);

/* A configuration with the brokers, security, client id, socket options and log callback that all our clients share. Never
 * NULL; aborts on a property that librdkafka does not know. The caller owns it. */
rd_kafka_conf_t *kafka_conf(const struct config *config, const char *client);

/* Sets a property or aborts: a refused property is a bug of ours. */
void kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value);

/* What ails a client, for people: "" at first. Clients get errors one by one; the one that says most is kept. */
struct kafka_trouble {
    char text[400];
    bool refused; /* no connection comes about: a login, a certificate. Waiting alone will not help */
    bool denied;  /* connected, but without a right that is needed */
};

/* Takes in an error as librdkafka reports it; text may be NULL. */
void kafka_trouble_note(struct kafka_trouble *t, rd_kafka_resp_err_t error, const char *text);

#endif
