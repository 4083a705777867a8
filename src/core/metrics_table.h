/* The one table of metrics: id, kind (COUNTER, GAUGE, SECONDS = histogram of durations, SIZES = histogram of counts),
 * name, label names ("", "a" or "a,b"), help. */
#ifndef TIDINGS_CORE_METRICS_TABLE_H
#define TIDINGS_CORE_METRICS_TABLE_H

/* clang-format off */
#define METRICS_TABLE(X)                                                                                               \
  X(M_HTTP_REQUESTS,     COUNTER, "tidings_http_requests_total",           "route,status", "HTTP answers by route and status") \
  X(M_HTTP_SECONDS,      SECONDS, "tidings_http_request_duration_seconds", "route", "time from a request's last byte to its answer") \
  X(M_HTTP_CONNECTIONS,  GAUGE,   "tidings_http_connections",              "",      "open HTTP connections")              \
  X(M_HTTP_REFUSED,      COUNTER, "tidings_http_connections_refused_total", "",     "connections closed at once, past HTTP_MAX_CONNECTIONS") \
  X(M_LOOP_LAG,          SECONDS, "tidings_loop_lag_seconds",              "",      "how late a timer of the loop came")  \
  X(M_LANE_QUEUE,        GAUGE,   "tidings_lane_queue_actions",            "lane",  "actions waiting in the lane")        \
  X(M_LANE_BATCH,        SIZES,   "tidings_lane_batch_actions",            "",      "actions committed in one transaction") \
  X(M_LANE_ROADS,        COUNTER, "tidings_lane_batches_total",            "road",  "lane calls: short (numbered here), general, and those that changed nothing: load, stale, taken") \
  X(M_LANE_COMMIT,       SECONDS, "tidings_lane_commit_seconds",           "",      "time of one lane transaction")       \
  X(M_LANE_ERRORS,       COUNTER, "tidings_lane_errors_total",             "class", "failed lane transactions by class of error") \
  X(M_LANE_UP,           GAUGE,   "tidings_lane_up",                       "lane",  "1 while the lane is connected")      \
  X(M_UPKEEP_PAGES,      COUNTER, "tidings_upkeep_pages_total",            "",      "pages of rows removed: of deleted campaigns, of expired idempotency keys") \
  X(M_SECRET_MISMATCH,   GAUGE,   "tidings_token_secret_mismatch_hosts",   "",      "processes on this database whose TOKEN_SECRET does not match this one's") \
  X(M_READ_SECONDS,      SECONDS, "tidings_read_seconds",                  "query", "time of one read, waiting included") \
  X(M_RELAY_PRODUCED,    COUNTER, "tidings_relay_events_total",            "source", "events given to Kafka, from memory or Postgres") \
  X(M_RELAY_ACKED,       COUNTER, "tidings_relay_acknowledged_total",      "",      "events acknowledged by Kafka")       \
  X(M_RELAY_LAG,         GAUGE,   "tidings_relay_lag_events",              "",      "events committed and not yet acknowledged by Kafka") \
  X(M_RELAY_LAG_SECONDS, GAUGE,   "tidings_relay_lag_seconds",             "",      "age of the oldest event not yet acknowledged by Kafka") \
  X(M_RELAY_LATENCY,     SECONDS, "tidings_relay_latency_seconds",         "",      "time from an event's timestamp to Kafka's acknowledgement") \
  X(M_RELAY_RESETS,      COUNTER, "tidings_relay_resets_total",            "",      "times the producer was made anew after a failed delivery") \
  X(M_RELAYS,            GAUGE,   "tidings_relays",                        "",      "processes that relay on this database, as this one knows") \
  X(M_RELAY_SHARDS,      GAUGE,   "tidings_relay_shards",                  "",      "shards that this process relays") \
  X(M_OUTBOX,            GAUGE,   "tidings_outbox_events",                 "",      "events of all shards past the saved cursors, whoever relays them") \
  X(M_RELAY_ALARM,       GAUGE,   "tidings_relay_alarm",                   "",      "1 when the relay stopped and needs a person") \
  X(M_CHECK_FAULTS,      COUNTER, "tidings_check_faults_total",            "check", "must be 0: a hole in a shard's numbers, a gap in an aggregate's versions, a version that differs") \
  X(M_EVENTS,            COUNTER, "tidings_events_committed_total",        "type",  "events committed by this process")   \
  X(M_MESSAGES,          COUNTER, "tidings_messages_total",                "group,type", "records taken from Kafka by group and event type") \
  X(M_HANDLED,           COUNTER, "tidings_handled_total",                 "group,outcome", "records finished: done, skipped, dead, ignored; held, parked: put into Postgres to be finished from there") \
  X(M_HELD,              GAUGE,   "tidings_held_records",                  "group,state", "rows of dead_letters: retry, parked, dead; of the whole database, counted up to 10000") \
  X(M_HANDLER_ERRORS,    COUNTER, "tidings_handler_errors_total",          "group,type", "failed attempts of a handler")  \
  X(M_HANDLER_SECONDS,   SECONDS, "tidings_handler_seconds",               "group,type", "processing time of a record: its run's time divided by the run's length") \
  X(M_RUN_SIZE,          SIZES,   "tidings_handler_run_records",           "group", "records in one handler call")        \
  X(M_GROUP_LAG,         GAUGE,   "tidings_group_lag_records",             "group", "records of the assigned partitions not yet finished") \
  X(M_GROUP_WINDOW,      GAUGE,   "tidings_group_window_records",          "group", "records taken and not yet finished") \
  X(M_GROUP_PARTITIONS,  GAUGE,   "tidings_group_partitions",              "group", "partitions assigned to this process") \
  X(M_GROUP_MISSING,     GAUGE,   "tidings_group_missing_partitions",      "group", "of them, those that should be fetched and are not; they have no part in the lag") \
  X(M_MAILS,             COUNTER, "tidings_mails_total",                   "outcome", "mails: sent, failed, expired, discarded, unsubscribed, retried") \
  X(M_OUTPUT_TRANSACTIONS, COUNTER, "tidings_output_transactions_total",   "group,outcome", "Kafka transactions of a group with output: committed, failed") \
  X(M_OUTPUT_RECORDS,    COUNTER, "tidings_output_records_total",          "group", "records committed to a group's output topic") \
  X(M_OUTPUT_SECONDS,    SECONDS, "tidings_output_transaction_seconds",    "group", "time of one Kafka transaction of a group with output") \
  X(M_OUTPUT_WAITING,    GAUGE,   "tidings_output_waiting_records",        "group", "output that waits for a Kafka transaction") \
  X(M_INVALIDATIONS,     COUNTER, "tidings_cache_invalidations_total",     "type",  "events that said that something cached does not hold any more, by type") \
  X(M_INVALIDATIONS_LIVE, GAUGE,  "tidings_cache_invalidations_live",      "",      "1 while such events reach this process; else KEY_CACHE_MS bounds what is remembered") \
  X(M_DELIVERIES,        COUNTER, "tidings_deliveries_total",              "kind,outcome", "rewards delivered by email or webhook: delivered, failed, retried, postponed") \
  X(M_LATE_DELIVERIES,   COUNTER, "tidings_deliveries_after_release_total", "",     "must be 0: rewards that were delivered although they had been released") \
  X(M_WEBHOOKS,          COUNTER, "tidings_webhook_attempts_total",        "outcome", "calls of accounts' webhooks: delivered, retried, failed, cancelled (not called), stopped (broken off by the process's end)") \
  X(M_WEBHOOK_SECONDS,   SECONDS, "tidings_webhook_call_seconds",          "",      "time of one call of an account's webhook") \
  X(M_WEBHOOKS_ENTERED,  COUNTER, "tidings_webhook_deliveries_total",      "",      "deliveries of events to accounts' webhooks that were entered") \
  X(M_LOG_DROPPED,       COUNTER, "tidings_log_dropped_total",             "",      "log lines dropped because standard error was slow")
/* clang-format on */

#endif
