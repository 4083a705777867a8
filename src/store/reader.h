/* Reads and small changes for HTTP: a few connections in pipeline mode, each read one statement of the tables below. Loop
 * thread only. A read sees everything that was answered before it was submitted. */
#ifndef TIDINGS_STORE_READER_H
#define TIDINGS_STORE_READER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/config.h"
#include "core/err.h"

/* id, metrics label, SQL (the functions are in sql/fn_reads.sql, which says what the columns are) */
/* clang-format off */
#define READ_TABLE(X)                                                                                                  \
  X(READ_API_KEY,        "api_key",        "select * from read_api_key(decode($1, 'hex'))")                            \
  X(READ_CAMPAIGN,       "campaign",       "select * from read_campaign($1::int, $2::uuid)")                           \
  X(READ_CAMPAIGNS,      "campaigns",      "select * from read_campaigns($1::int, $2::int, $3::int, $4::text)")        \
  X(READ_TOTALS,         "totals",         "select * from read_totals($1::int, $2::uuid)")                             \
  X(READ_LEADERBOARD,    "leaderboard",    "select * from read_leaderboard($1::int, $2::uuid, $3::int, $4::int,"       \
                                           " $5::int, $6::boolean)")                                                   \
  X(READ_USER,           "user",           "select * from read_user($1::int, $2::uuid, $3::uuid, $4::boolean)")        \
  X(READ_USERS,          "users",          "select * from read_users($1::int, $2::uuid, $3::int, $4::int, $5::text,"   \
                                           " $6::text, $7::boolean, $8::uuid, $9::text)")                              \
  X(READ_REFERRAL,       "referral",       "select * from read_referral($1::int, $2::uuid, $3::uuid)")                 \
  X(READ_USER_REFERRALS, "user_referrals", "select * from read_user_referrals($1::int, $2::uuid, $3::uuid, $4::int,"   \
                                           " $5::int, $6::text)")                                                      \
  X(READ_REWARD,         "reward",         "select * from read_reward($1::int, $2::uuid, $3::uuid)")                   \
  X(READ_REWARDS,        "rewards",        "select * from read_rewards($1::int, $2::uuid, $3::int, $4::int)")          \
  X(READ_DEAD_LETTERS,   "dead_letters",   "select * from read_dead_letters($1::int, $2::int, $3::bigint, $4, $5)")    \
  X(READ_DEAD_LETTER,    "dead_letter",    "select * from read_dead_letter($1::int, $2::bigint)")                      \
  X(READ_MAIL_TEMPLATES, "mail_templates", "select * from read_mail_templates($1::int, $2::uuid)")                     \
  X(READ_MAIL_TEMPLATE,  "mail_template",  "select * from read_mail_template($1::int, $2::uuid, $3)")                  \
  X(READ_MAIL_PREVIEW,   "mail_preview",   "select * from read_mail_preview($1::int, $2::uuid, $3)")                   \
  X(READ_WEBHOOK,        "webhook",        "select * from read_webhook($1::int, $2::uuid)")                            \
  X(READ_WEBHOOKS,       "webhooks",       "select * from read_webhooks($1::int, $2::int, $3::int)")                   \
  X(READ_WEBHOOK_DELIVERY, "webhook_delivery", "select * from read_webhook_delivery($1::int, $2::uuid, $3::uuid)")     \
  X(READ_WEBHOOK_DELIVERIES, "webhook_deliveries", "select * from read_webhook_deliveries($1::int, $2::uuid, $3::int," \
                                           " $4::uuid, $5::text)")                                                     \
  X(READ_STATS,          "stats",          "select * from read_stats($1::int, $2::uuid, $3::int, $4::int,"             \
                                           " $5::timestamptz, $6::timestamptz, $7::text, $8::text[])")                 \
  X(READ_USER_REWARDS,   "user_rewards",   "select * from read_user_rewards($1::int, $2::uuid, $3::uuid, $4::int,"     \
                                           " $5::int, $6::int, $7::boolean)")                                          \
  X(READ_SAGAS,          "sagas",          "select * from read_sagas($1::int, $2::uuid, $3::int, $4::int, $5::int,"    \
                                           " $6::text)")

/* What writes: small changes that are no domain action. They have a connection of their own, since a commit may wait for long. */
#define CHANGE_TABLE(X)                                                                                                \
  X(READ_HOST_SEEN,      "host_seen",      "select * from host_seen($1::uuid, $2, $3::uuid, $4::uuid[])")              \
  X(READ_HOST_GONE,      "host_gone",      "select * from host_gone($1::uuid)")                                        \
  X(READ_CHANGE_DEAD_LETTER, "change_dead_letter", "select * from change_dead_letter($1::bigint, $2::boolean)")        \
  X(READ_PUT_MAIL_TEMPLATE, "put_mail_template", "select * from put_mail_template($1::int, $2::uuid, $3, $4, $5, $6)") \
  X(READ_DELETE_MAIL_TEMPLATE, "delete_mail_template", "select * from delete_mail_template($1::int, $2::uuid, $3)")    \
  X(READ_UNSUBSCRIBE,    "unsubscribe",    "select * from mail_unsubscribe($1::uuid, $2::uuid)")                       \
  X(READ_CHANGE_WEBHOOK, "change_webhook", "select * from change_webhook($1::int, $2::text, $3::uuid, $4::uuid,"       \
                                           " $5::jsonb, $6::uuid, $7::uuid)")                                          \
  X(READ_SAGAS_DUE,      "sagas_due",      "select * from sagas_due($1::int, $2::int)")
/* clang-format on */

enum read_query {
#define READ_ENUM(id, label, sql) id,
    READ_TABLE(READ_ENUM) READ_CHANGES, /* from here on */
    READ_LAST_READ = READ_CHANGES - 1,
    CHANGE_TABLE(READ_ENUM)
#undef READ_ENUM
        READ_COUNT
};

#define READ_MAX_PARAMS 10

struct reader;

/* rows: text format, valid during the call; NULL unless err is ERR_NONE. Of a change ERR_OUTCOME_UNKNOWN: it was sent, and nobody
 * knows; with any other error nothing was done. Called exactly once, on the loop. */
typedef void (*read_done)(void *arg, enum err err, const PGresult *rows);

struct reader *reader_start(uv_loop_t *loop, const struct config *config);

/* Parameters are NUL-terminated text, copied, or NULL for null. ERR_NONE: on_done follows (never before this returns).
 * Else not taken: ERR_OVERLOADED, ERR_DB_UNAVAILABLE, ERR_SHUTTING_DOWN. */
enum err reader_submit(struct reader *r, enum read_query query, int count, const char *const params[],
                       read_done on_done, void *arg);

bool reader_ready(const struct reader *r);          /* at least one connection for reads, and the one for changes */
const char *reader_trouble(const struct reader *r); /* why not, for people; "" when ready */
void reader_stop(struct reader *r, int64_t deadline_us, void (*on_stopped)(void *arg), void *arg);

#endif
