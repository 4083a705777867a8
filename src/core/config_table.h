/* The one table of settings: field, environment variable, type, minimum, maximum, default, help.
 * INT: integer within [min, max]. STR: text of at most max bytes, min 1 = must not be empty. SECRET: a STR that is never
 * printed. ENUM: one of the words in `help` up to the colon, separated by '|'. A NULL default means: unset (NULL). */
#ifndef TIDINGS_CORE_CONFIG_TABLE_H
#define TIDINGS_CORE_CONFIG_TABLE_H

/* clang-format off */
#define CONFIG_TABLE(X)                                                                                                \
  X(database_url, "DATABASE_URL", SECRET, 1, 4096, "postgresql://localhost/tidings",                                   \
    "libpq connection string of the primary; a direct connection, not a transaction pooler")                           \
  X(kafka_brokers, "KAFKA_BROKERS", STR, 1, 4096, "localhost:9092", "comma-separated list of Kafka brokers")           \
  X(kafka_topic, "KAFKA_TOPIC", STR, 1, 249, "domain-events", "topic of the domain events")                            \
  X(stats_topic, "STATS_TOPIC", STR, 0, 249, "campaign-stats", "topic of the counts of events per campaign and minute; empty: they are not kept, analytics-workers do not run") \
  X(kafka_group_prefix, "KAFKA_GROUP_PREFIX", STR, 0, 128, "", "put before each consumer group's name, for sharing a cluster") \
  X(kafka_security_protocol, "KAFKA_SECURITY_PROTOCOL", ENUM, 0, 0, "plaintext", "plaintext|ssl|sasl_plaintext|sasl_ssl: how brokers are spoken to; with ssl (TLS) their host names are verified") \
  X(kafka_sasl_mechanism, "KAFKA_SASL_MECHANISM", ENUM, 0, 0, NULL, "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512: how sasl_plaintext and sasl_ssl log in") \
  X(kafka_sasl_username, "KAFKA_SASL_USERNAME", STR, 0, 256, NULL, "user of sasl_plaintext and sasl_ssl")              \
  X(kafka_sasl_password, "KAFKA_SASL_PASSWORD", SECRET, 0, 1024, NULL, "password of sasl_plaintext and sasl_ssl")      \
  X(kafka_ssl_ca_file, "KAFKA_SSL_CA_FILE", STR, 0, 4096, NULL, "PEM file of the authorities that brokers' certificates are verified with; unset: the system's") \
  X(kafka_ssl_certificate_file, "KAFKA_SSL_CERTIFICATE_FILE", STR, 0, 4096, NULL, "PEM file of the certificate shown to brokers, followed by its intermediates; unset: none") \
  X(kafka_ssl_key_file, "KAFKA_SSL_KEY_FILE", STR, 0, 4096, NULL, "PEM file of that certificate's private key")        \
  X(kafka_ssl_key_password, "KAFKA_SSL_KEY_PASSWORD", SECRET, 0, 1024, NULL, "password of that private key, if it is encrypted") \
  X(pool_size, "KAFKA_WORKER_POOL_SIZE", INT, 1, 512, "10", "worker threads of each consumer group")                   \
  X(email_pool_size, "EMAIL_WORKER_POOL_SIZE", INT, 1, 512, NULL, "worker threads of email-workers; unset: KAFKA_WORKER_POOL_SIZE") \
  X(reward_pool_size, "REWARD_WORKER_POOL_SIZE", INT, 1, 512, NULL, "worker threads of reward-workers; unset: KAFKA_WORKER_POOL_SIZE") \
  X(groups, "GROUPS_ENABLED", STR, 0, 1024, "all", "consumer groups to run in this process: all, none, or a comma-separated list") \
  X(worker_db_connections, "WORKER_DB_CONNECTIONS", INT, 1, 256, "4", "Postgres connections shared by all workers of the process") \
  X(group_window, "GROUP_WINDOW", INT, 16, 1000000, "5000", "records per partition taken from Kafka and not yet finished") \
  X(run_max, "GROUP_RUN_MAX", INT, 1, 10000, "1000", "records that one handler call takes at most")                     \
  X(retry_quick_attempts, "RETRY_QUICK_ATTEMPTS", INT, 1, 1000, "3", "attempts in memory, at which only its own key waits; then the record is held in Postgres and the group goes on") \
  X(retry_max_attempts, "RETRY_MAX_ATTEMPTS", INT, 1, 1000, "100", "attempts of a record that fails for a passing reason, then dead letter") \
  X(retry_base_ms, "RETRY_BASE_MS", INT, 1, 60000, "200", "first back-off of a retry in ms; doubles each time, with jitter") \
  X(retry_max_ms, "RETRY_MAX_MS", INT, 1, 3600000, "3600000", "longest back-off of a retry in ms")                       \
  X(retry_max_age_s, "RETRY_MAX_AGE_SECONDS", INT, 1, 31536000, "259200", "time from a record's first failure after which it is not tried any more, in seconds") \
  X(dead_letter_topics, "DEAD_LETTER_TOPICS", ENUM, 0, 0, "off", "off|on: whether dead letters are copied to Kafka, to <KAFKA_TOPIC>.<group>.dlq; the topics must be there") \
  X(handled_keep_days, "HANDLED_KEEP_DAYS", INT, 1, 3650, "14", "days that a group remembers handled events; longer than the topic's retention") \
  X(http_listen, "HTTP_LISTEN", STR, 1, 256, "127.0.0.1:8080", "address:port to listen on; [::1]:8080 for IPv6")       \
  X(http_max_connections, "HTTP_MAX_CONNECTIONS", INT, 1, 1000000, "10000", "open HTTP connections; more are closed at once") \
  X(http_max_body, "HTTP_MAX_BODY_BYTES", INT, 1024, 1048576, "65536", "largest request body in bytes")                \
  X(http_idle_timeout_ms, "HTTP_REQUEST_TIMEOUT_MS", INT, 100, 3600000, "15000", "idle time, headers and body of one request, together, in ms") \
  X(http_answer_timeout_ms, "HTTP_ANSWER_TIMEOUT_MS", INT, 100, 3600000, "30000", "longest wait for an action's outcome in ms, then 503 outcome-unknown") \
  X(public_url, "PUBLIC_URL", STR, 1, 1024, "http://127.0.0.1:8080", "base URL under which people reach this service; links in mails start with it") \
  X(token_secret, "TOKEN_SECRET", SECRET, 16, 4096, NULL, "secret that signs verification links, the same on all hosts; comma-separated to rotate: first signs, all verify") \
  X(token_ttl_s, "TOKEN_TTL_SECONDS", INT, 60, 31536000, "604800", "life of a verification link in seconds")           \
  X(verify_resend_s, "VERIFY_RESEND_SECONDS", INT, 0, 86400, "60", "least time between two verification mails to a user in seconds") \
  X(verify_resend_per_day, "VERIFY_RESEND_PER_DAY", INT, 1, 1000, "5", "verification mails that a user may ask for in 24 hours") \
  X(idempotency_keep_s, "IDEMPOTENCY_KEEP_SECONDS", INT, 60, 2592000, "86400", "how long an answer is kept under its Idempotency-Key, in seconds") \
  X(upkeep_ms, "UPKEEP_INTERVAL_MS", INT, 100, 3600000, "5000", "how often rows that are not needed any more are looked for, in ms") \
  X(purge_delay_s, "PURGE_DELAY_SECONDS", INT, 0, 31536000, "60", "time from the deletion of a campaign until its rows are taken away, in seconds") \
  X(key_cache_ms, "KEY_CACHE_MS", INT, 0, 600000, "5000", "how long an API key's lookup is remembered in ms while revocations may not be heard of, e.g. without Kafka") \
  X(key_cache_live_ms, "KEY_CACHE_LIVE_MS", INT, 0, 600000, "30000", "how long it is remembered at most while revocations are heard of through Kafka, in ms; never less than KEY_CACHE_MS") \
  X(ops_token, "OPS_TOKEN", SECRET, 16, 1024, NULL, "token of operators for /v1/ops/, sent as Authorization: Bearer; unset: there are no such paths") \
  X(lanes, "LANES", INT, 1, 64, "1", "write connections to Postgres")                                                  \
  X(lane_batch, "LANE_BATCH", INT, 1, 5000, "400", "actions committed in one transaction at most")                     \
  X(campaign_cache, "CAMPAIGN_CACHE", INT, 1, 10000000, "20000", "campaigns whose standing is remembered, at some 200 bytes each: those that many sign up to in turn") \
  X(lane_queue, "LANE_QUEUE", INT, 1, 1000000, "20000", "actions waiting in one lane at most; more are answered 503 at once") \
  X(lane_queue_bytes, "LANE_QUEUE_BYTES", INT, 65536, 1073741824, "33554432", "bytes of actions waiting in one lane at most") \
  X(lane_lock_timeout_ms, "LANE_LOCK_TIMEOUT_MS", INT, 10, 600000, "2000", "wait for a shard's lock in ms, then 503")   \
  X(readers, "READ_CONNECTIONS", INT, 1, 64, "2", "read connections to Postgres")                                      \
  X(read_queue, "READ_QUEUE", INT, 1, 1000000, "20000", "reads waiting at most; more are answered 503 at once")        \
  X(db_connect_timeout_s, "DB_CONNECT_TIMEOUT_SECONDS", INT, 2, 60, "3", "time to connect to Postgres in seconds")     \
  X(db_stall_ms, "DB_STALL_MS", INT, 1000, 600000, "10000", "a connection whose answer takes longer counts as lost, in ms") \
  X(relay_window, "RELAY_WINDOW", INT, 1, 1000000, "5000", "events per partition given to Kafka and not yet acknowledged") \
  X(relay_window_bytes, "RELAY_WINDOW_BYTES", INT, 65536, 1073741824, "2097152", "bytes per partition given to Kafka and not yet acknowledged, counted with 1 KB an event for its headers") \
  X(relay_poll_ms, "RELAY_POLL_MS", INT, 1, 60000, "10", "how often the relay looks for events that other processes committed, while there are others, in ms") \
  X(relay_save_ms, "RELAY_SAVE_MS", INT, 10, 60000, "500", "how often the relay saves its cursors, in ms")             \
  X(kafka_linger_ms, "KAFKA_LINGER_MS", INT, 0, 1000, "2", "time the producer waits to fill a batch, in ms")           \
  X(mail_transport, "MAIL_TRANSPORT", ENUM, 0, 0, "maildir", "smtp|maildir|discard: where mails go; discard writes the row alone, for load tests") \
  X(maildir, "MAILDIR", STR, 1, 4096, "var/mail", "directory of MAIL_TRANSPORT=maildir")                               \
  X(mail_from, "MAIL_FROM", STR, 3, 320, "Tidings <tidings@localhost>", "From of all mails")                           \
  X(mail_max_age_s, "MAIL_MAX_AGE_SECONDS", INT, 60, 31536000, "604800", "events older than this are recorded as expired, their mail not sent") \
  X(mail_rate, "MAIL_RATE_PER_CAMPAIGN", INT, 0, 1000000, "0", "mails per minute that one campaign may have sent by email-workers of this process; 0: no limit") \
  X(smtp_url, "SMTP_URL", STR, 1, 1024, "smtp://127.0.0.1:25", "server of MAIL_TRANSPORT=smtp: smtp://host:port or smtps://host:port") \
  X(smtp_username, "SMTP_USERNAME", STR, 0, 256, NULL, "SMTP AUTH user; unset: no AUTH")                               \
  X(smtp_password, "SMTP_PASSWORD", SECRET, 0, 1024, NULL, "SMTP AUTH password")                                       \
  X(smtp_starttls, "SMTP_STARTTLS", ENUM, 0, 0, "try", "off|try|require: STARTTLS on smtp:// connections; with SMTP_USERNAME, try is require") \
  X(smtp_ca_file, "SMTP_CA_FILE", STR, 0, 4096, NULL, "PEM file of the authorities that the mail server's certificate is verified with; unset: the system's") \
  X(smtp_timeout_ms, "SMTP_TIMEOUT_MS", INT, 100, 600000, "20000", "time for one mail over SMTP in ms")                \
  X(templates_dir, "TEMPLATES_DIR", STR, 1, 4096, NULL, "directory of mail templates that replace the built-in ones")  \
  X(webhook_timeout_ms, "WEBHOOK_TIMEOUT_MS", INT, 100, 60000, "10000", "time for one call of a webhook in ms")   \
  X(webhook_allow_private, "WEBHOOK_ALLOW_PRIVATE", ENUM, 0, 0, "off", "off|on: whether webhooks may go to loopback, private and other special addresses") \
  X(reward_deadline_s, "REWARD_DEADLINE_SECONDS", INT, 0, 31536000, "604800", "time from the earning of a reward after which it is released if it could not be delivered, in seconds; longer than RETRY_MAX_AGE_SECONDS; 0: never") \
  X(saga_poll_ms, "SAGA_POLL_MS", INT, 10, 3600000, "200", "how often rewards are looked for whose delivery has ended, or whose deadline has passed, in ms") \
  X(webhook_pool_size, "WEBHOOK_WORKER_POOL_SIZE", INT, 1, 512, "16", "calls of accounts' webhooks under way at a time in this process, each on a thread") \
  X(webhook_calls, "WEBHOOK_ENDPOINT_CALLS", INT, 1, 512, "4", "calls under way at a time to one endpoint, in all processes; to one whose last call failed there is one") \
  X(webhook_schedule, "WEBHOOK_RETRY_SCHEDULE", STR, 1, 512, "5s,5m,30m,2h,5h,10h,14h,20h,24h", "waits before the second, third, … attempt of a webhook's delivery: comma-separated numbers with ms, s, m or h, each of 1ms to 40h, 30 at most; up to a fifth is added to each") \
  X(webhook_disable_s, "WEBHOOK_DISABLE_SECONDS", INT, 1, 31536000, "432000", "an endpoint to which nothing has got through for so long is disabled, in seconds") \
  X(webhook_grace_s, "WEBHOOK_SECRET_GRACE_SECONDS", INT, 0, 2592000, "86400", "how long a webhook's old secret signs beside the new one, in seconds") \
  X(webhooks_max, "WEBHOOKS_PER_ACCOUNT", INT, 1, 1000, "20", "webhook endpoints that an account may have") \
  X(webhook_keep_days, "WEBHOOK_KEEP_DAYS", INT, 1, 3650, "30", "days that deliveries of webhooks stay in their log, whether they got through or still wait; events older than this are not sent") \
  X(shards, "SHARDS", INT, 1, 1024, "10", "hash classes of aggregates; fixed at the first migrate")                    \
  X(log_level, "LOG_LEVEL", ENUM, 0, 0, "info", "debug|info|warn|error: least level that is logged")                  \
  X(log_format, "LOG_FORMAT", ENUM, 0, 0, "logfmt", "logfmt|json: format of the log on standard error")                \
  X(shutdown_timeout_ms, "SHUTDOWN_TIMEOUT_MS", INT, 100, 600000, "10000", "time for a clean stop in ms")
/* clang-format on */

#endif
