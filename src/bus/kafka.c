/* Kafka client configuration that all our clients share, and what their errors mean. */
#include "bus/kafka.h"

#include <errno.h>
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
    fprintf(stderr, "tidings: librdkafka refuses the property %s: %s\n", name, why); /* the value may be a secret */
    abort();
}

/* --- security --- */

/* What a security protocol uses: the setting, librdkafka's name for it, and whether it must be there. */
struct part {
    const char *env, *property, *value;
    bool used;
    bool needed;
};

enum { PARTS = 7 };

static void security_parts(const struct config *c, struct part out[PARTS])
{
    bool sasl = strncmp(c->kafka_security_protocol, "sasl_", 5) == 0;
    bool tls = strstr(c->kafka_security_protocol, "ssl") != NULL;
    bool own = tls && (c->kafka_ssl_certificate_file || c->kafka_ssl_key_file || c->kafka_ssl_key_password);
    const struct part parts[PARTS] = {
        {"KAFKA_SASL_MECHANISM", "sasl.mechanisms", c->kafka_sasl_mechanism, sasl, sasl},
        {"KAFKA_SASL_USERNAME", "sasl.username", c->kafka_sasl_username, sasl, sasl},
        {"KAFKA_SASL_PASSWORD", "sasl.password", c->kafka_sasl_password, sasl, sasl},
        {"KAFKA_SSL_CA_FILE", "ssl.ca.location", c->kafka_ssl_ca_file, tls, false},
        {"KAFKA_SSL_CERTIFICATE_FILE", "ssl.certificate.location", c->kafka_ssl_certificate_file, tls, own},
        {"KAFKA_SSL_KEY_FILE", "ssl.key.location", c->kafka_ssl_key_file, tls, own},
        {"KAFKA_SSL_KEY_PASSWORD", "ssl.key.password", c->kafka_ssl_key_password, tls, false},
    };
    memcpy(out, parts, sizeof parts);
}

static void set_security(rd_kafka_conf_t *conf, const struct config *c)
{
    struct part parts[PARTS];
    security_parts(c, parts);
    kafka_conf_set(conf, "security.protocol", c->kafka_security_protocol);
    kafka_conf_set(conf, "ssl.endpoint.identification.algorithm", "https");
    for (int i = 0; i < PARTS; i++)
        if (parts[i].used && parts[i].value)
            kafka_conf_set(conf, parts[i].property, parts[i].value);
}

static bool can_read(const char *path)
{
    FILE *file = fopen(path, "re");
    int error = errno;
    bool ok = file && (fgetc(file) != EOF || !ferror(file)); /* a directory can be opened, but not read */
    if (file && !ok)
        error = errno;
    if (file)
        fclose(file);
    errno = error;
    return ok;
}

static bool check_part(const struct config *c, const struct part *p, char *why, size_t why_size)
{
    size_t len = strlen(p->env);
    if (p->needed && !p->value)
        snprintf(why, why_size, "%s must be set too, with KAFKA_SECURITY_PROTOCOL=%s%s", p->env,
                 c->kafka_security_protocol, strstr(p->env, "_SSL_") ? " and a certificate of our own" : "");
    else if (p->value && !p->used) /* someone believes that it protects something */
        snprintf(why, why_size, "%s is set, but KAFKA_SECURITY_PROTOCOL=%s does not use it", p->env,
                 c->kafka_security_protocol);
    else if (p->value && strcmp(p->env + len - 5, "_FILE") == 0 && !can_read(p->value))
        snprintf(why, why_size, "%s: cannot read %s: %s", p->env, p->value, strerror(errno));
    else
        return true;
    return false;
}

/* librdkafka's sentence begins with its name of the property at fault. */
static const char *env_at_fault(const struct part parts[PARTS], const char *sentence)
{
    for (int i = 0; i < PARTS; i++)
        if (strstr(sentence, parts[i].property))
            return parts[i].env;
    return "a Kafka setting";
}

bool kafka_check(const struct config *config, char *why, size_t why_size)
{
    struct part parts[PARTS];
    char sentence[512] = "";
    security_parts(config, parts);
    for (int i = 0; i < PARTS; i++)
        if (!check_part(config, &parts[i], why, why_size))
            return false;
    if (strcmp(config->kafka_security_protocol, "plaintext") == 0)
        return true; /* no files, no secrets: nothing more can be wrong */
    /* A client reads all of it when it is made, and connects only when it is used. */
    rd_kafka_conf_t *conf = kafka_conf(config, "check");
    rd_kafka_conf_set_log_cb(conf, NULL); /* one sentence is enough */
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, sentence, sizeof sentence);
    if (rk) {
        rd_kafka_destroy(rk);
        return true;
    }
    rd_kafka_conf_destroy(conf);
    const char *env = env_at_fault(parts, sentence);
    snprintf(why, why_size, "%s cannot be used%s: %s", env,
             strcmp(env, "KAFKA_SSL_KEY_FILE") == 0 ? ", with KAFKA_SSL_KEY_PASSWORD as it is" : "", sentence);
    return false;
}

/* --- the configuration --- */

rd_kafka_conf_t *kafka_conf(const struct config *config, const char *client)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char id[128];
    snprintf(id, sizeof id, "tidings-%s", client);
    rd_kafka_conf_set_log_cb(conf, on_log);
    kafka_conf_set(conf, "client.id", id);
    kafka_conf_set(conf, "bootstrap.servers", config->kafka_brokers);
    set_security(conf, config);
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

/* --- errors --- */

static bool is_denial(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
}

static const char *meaning(rd_kafka_resp_err_t error, const char *text)
{
    if (strstr(text, "SSL alert")) /* refused by the broker after the handshake: reported as a broken connection */
        error = RD_KAFKA_RESP_ERR__SSL;
    switch (error) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
        /* It repeats the nonce, which newer brokers do not let pass: "invalid credentials", though they are right. */
        if (strstr(text, "SCRAM") && rd_kafka_version() < 0x020601ff)
            return "authentication failed (KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD; or the broker is Kafka 4.0 "
                   "or later, which takes SCRAM only from librdkafka 2.6.1 on)";
        return "authentication failed (KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, KAFKA_SASL_MECHANISM)";
    case RD_KAFKA_RESP_ERR__SSL:
        return strstr(text, "certificate") ? "a broker's certificate or ours was not accepted (KAFKA_SSL_CA_FILE, "
                                             "KAFKA_SSL_CERTIFICATE_FILE, the host names in KAFKA_BROKERS)"
                                           : "no TLS connection could be made (KAFKA_SECURITY_PROTOCOL)";
    default: return is_denial(error) ? "the Kafka user lacks a right" : NULL;
    }
}

void kafka_trouble_note(struct kafka_trouble *t, rd_kafka_resp_err_t error, const char *text)
{
    if (!text)
        text = rd_kafka_err2str(error);
    const char *what = meaning(error, text);
    /* That a broker is away as well says less. */
    if (!what && (t->refused || t->denied || (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && t->text[0])))
        return;
    /* Without the timings at its end, which would make every sentence a new one. */
    const char *detail = strstr(text, " (after ");
    int len = detail ? (int)(detail - text) : (int)strlen(text);
    snprintf(t->text, sizeof t->text, "%s%s%.*s", what ? what : "", what ? ": " : "", len, text);
    t->denied = is_denial(error);
    t->refused = what && !t->denied && !strstr(text, "unexpected eof"); /* or the broker was just going away */
}
