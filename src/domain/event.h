/* Event contracts and the envelope. Pure: no I/O, any thread; every room may include it. */
#ifndef TIDINGS_DOMAIN_EVENT_H
#define TIDINGS_DOMAIN_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/uuid.h"

/* The contract table: constant, number stored in the events table (never reuse one), type, what email-workers key it by
 * (a member of data that names a user, or "account"; NULL: not processed by that group), members of data that must be
 * UUIDs (space-separated), other members (name:type, s = string, i = integer). */
/* clang-format off */
#define EVENT_TABLE(X)                                                                                                 \
  X(EVENT_USER_SIGNED_UP,     1, "user.signed_up",             "user_id",     "user_id campaign_id", "email:s")        \
  X(EVENT_USER_VERIFIED,      2, "user.verified",              "user_id",     "user_id campaign_id", "email:s")        \
  X(EVENT_REFERRAL_CREATED,   3, "referral.created",           NULL,          "referral_id referrer_id referred_id campaign_id", "") \
  X(EVENT_REFERRAL_VERIFIED,  4, "referral.verified",          "referrer_id", "referral_id referrer_id referred_id campaign_id", "points_per_referral:i") \
  X(EVENT_REWARD_EARNED,      5, "reward.earned",              "user_id",     "user_reward_id user_id campaign_id reward_id", "") \
  X(EVENT_MILESTONE_REACHED,  6, "campaign.milestone_reached", "account",     "campaign_id", "milestone:s participant_count:i") \
  X(EVENT_CAMPAIGN_CREATED,   7, "campaign.created",           NULL,          "campaign_id", "name:s points_per_referral:i") \
  X(EVENT_CAMPAIGN_UPDATED,   8, "campaign.updated",           NULL,          "campaign_id", "name:s points_per_referral:i") \
  X(EVENT_CAMPAIGN_CLOSED,    9, "campaign.closed",            NULL,          "campaign_id", "")                      \
  X(EVENT_CAMPAIGN_DELETED,  10, "campaign.deleted",           NULL,          "campaign_id", "")                      \
  X(EVENT_VERIFICATION_REQUESTED, 11, "user.verification_requested", "user_id", "user_id campaign_id", "email:s")     \
  X(EVENT_REWARD_CREATED,    12, "reward.created",             NULL,          "reward_id campaign_id", "name:s")        \
  X(EVENT_REWARD_RELEASED,   13, "reward.released",            "account",     "user_reward_id user_id campaign_id reward_id", "reason:s") \
  X(EVENT_REWARD_EXHAUSTED,  14, "reward.exhausted",           NULL,          "reward_id campaign_id", "stock:i")       \
  X(EVENT_REWARD_DELIVERED,  15, "reward.delivered",           NULL,          "user_reward_id user_id campaign_id reward_id", "") \
  X(EVENT_API_KEY_REVOKED,   16, "api_key.revoked",            NULL,          "key_id", "")
/* clang-format on */

enum event_type {
    EVENT_NONE,
#define EVENT_ENUM(id, number, name, email_key, uuids, others) id = number,
    EVENT_TABLE(EVENT_ENUM)
#undef EVENT_ENUM
        EVENT_TYPE_MAX
};

const char *event_type_name(enum event_type t);                   /* NULL when unknown */
enum event_type event_type_parse(const char *name, size_t len);   /* EVENT_NONE when unknown */
const char *event_email_key(enum event_type t);                   /* see the table */
/* Appends the types' names as a Postgres array of texts that is indexed by their numbers, for SQL that shows them. */
void event_names(struct buf *out);
/* The type of a record whose value begins as event_value makes it, from its first bytes, unparsed. False: it does not. */
bool event_peek(const char *value, size_t len, enum event_type *type);

/* A row of the events table, as the lane's answer or a gap read gives it. Text is not NUL-terminated. */
struct event_row {
    uint32_t shard;
    int64_t seq;                 /* place in its shard, from 1 */
    int64_t version;             /* place in its aggregate, from 1 */
    enum event_type type;        /* EVENT_NONE: the event was purged, only shard and seq mean anything */
    int format;                  /* EVENT_FORMAT of the writer */
    int64_t at_us;               /* wall clock, microseconds since 1970 */
    struct uuid id;
    struct uuid account_id;
    struct uuid campaign_id;     /* all zero: an event of the account itself */
    const char *data;            /* the JSON bytes that are sent as `data` */
    size_t data_len;
};

#define EVENT_FORMAT 1           /* version of the value bytes; a change keeps the old ones and is pinned by golden files */

/* What a record says of a row more than once, in its key, value and headers, as text. */
struct event_text {
    char id[UUID_TEXT_SIZE];
    char key[UUID_TEXT_SIZE];    /* the aggregate's id */
    char at[RFC3339_SIZE];
};
void event_text(const struct event_row *row, struct event_text *out);

/* Appends the record's value: the only function that makes value bytes, whichever path the row came by. text: event_text's.
 * {"id":…,"type":…,"account_id":…,"campaign_id":…,"data":…,"timestamp":…,"version":…}
 * campaign_id is null for an event of the account itself. A row of an unknown type or format aborts: a caller that can
 * meet one (a newer host wrote it) must look first. */
void event_value_of(const struct event_row *row, const struct event_text *text, struct buf *out);
void event_value(const struct event_row *row, struct buf *out); /* the same, where the text is not needed otherwise */
/* The record's key: the aggregate's id as text; returns its length (36). */
size_t event_key(const struct event_row *row, char out[UUID_TEXT_SIZE]);

struct event_data;

/* A parsed record, for consumers. */
struct event {
    struct uuid id, account_id, campaign_id;
    enum event_type type;
    int64_t version;
    int64_t at_us;
    struct event_data *data;     /* checked against the contract, see event_data_…; owned: event_clear */
};

/* Parses and checks a record's value against the contract. Returns true; false with a sentence in why (it names the
 * field). An unknown type gives true with type EVENT_NONE and data NULL: such a record is ignored, not an error. */
bool event_parse(const char *value, size_t len, struct event *out, char *why, size_t why_size);
void event_clear(struct event *e);

/* Members of a parsed event's data; the contract guarantees that they are there. */
struct uuid event_data_uuid(const struct event *e, const char *member);
const char *event_data_text(const struct event *e, const char *member);
int64_t event_data_int(const struct event *e, const char *member);

#endif
