/* Kafka client configuration that all our clients share. */
#include "bus/kafka.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

/* Called from librdkafka's threads. Levels are syslog's. While a broker is away it reports every single attempt (FAIL,
 * ERROR): what matters of it comes as an event too, and our clients log that once in a while. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    const char *client = rk ? rd_kafka_name(rk) : "";
    /* CONFWARN only says that enable.gapless.guarantee, which the relay wants, is called experimental. */
    bool noise = strcmp(facility, "FAIL") == 0 || strcmp(facility, "ERROR") == 0 || strcmp(facility, "CONFWARN") == 0;
    if (level <= 3 && !noise)
        log_warn("librdkafka reports an error", "client", client, "facility", facility, "text", text);
    else if (level <= 5 && !noise)
        log_info("librdkafka reports", "client", client, "facility", facility, "text", text);
    else
        log_debug("librdkafka reports", "client", client, "facility", facility, "text", text);
}

void kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return;
    fprintf(stderr, "tidings: librdkafka refuses %s=%s: %s\n", name, value, why);
    abort();
}

rd_kafka_conf_t *kafka_conf(const struct config *config, const char *client)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char id[128];
    snprintf(id, sizeof id, "tidings-%s", client);
    rd_kafka_conf_set_log_cb(conf, on_log);
    kafka_conf_set(conf, "client.id", id);
    kafka_conf_set(conf, "bootstrap.servers", config->kafka_brokers);
    kafka_conf_set(conf, "socket.nagle.disable", "true");
    kafka_conf_set(conf, "socket.keepalive.enable", "true");
    kafka_conf_set(conf, "socket.connection.setup.timeout.ms", "5000");
    /* A broker that comes back shall be found soon, and one that stays away must not fill the log. */
    kafka_conf_set(conf, "reconnect.backoff.ms", "100");
    kafka_conf_set(conf, "reconnect.backoff.max.ms", "2000");
    kafka_conf_set(conf, "log.connection.close", "false");
    kafka_conf_set(conf, "topic.metadata.refresh.interval.ms", "10000");
    return conf;
}
