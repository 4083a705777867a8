/* An action: what a request asks of a campaign, on its way through a lane and back. One allocation holds it and its text.
 * Loop thread only. */
#ifndef TIDINGS_STORE_ACTION_H
#define TIDINGS_STORE_ACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/uuid.h"

/* Sign-ups and verifications are applied set-wise; the others, whose values are the kinds of sql/fn_lanes_acts.sql, one by one in
 * the same transaction. What each takes besides the campaign, and its args (JSON, checked by the caller): */
enum action_kind {
    ACTION_CREATE_CAMPAIGN = 1,      /* {"name","points_per_referral","milestones","landing_url"} */
    ACTION_UPDATE_CAMPAIGN = 2,      /* those that change, "reward_rules","max_rules"; "expected_version" */
    ACTION_CLOSE_CAMPAIGN = 3,       /* – */
    ACTION_DELETE_CAMPAIGN = 4,      /* – */
    ACTION_REQUEST_VERIFICATION = 5, /* subject: user; {"interval_s","per_day"} */
    ACTION_CREATE_REFERRAL = 6,      /* subject: referred user; {"referrer": id} or {"referrer_place": n} */
    ACTION_VERIFY_REFERRAL = 7,      /* subject: referral */
    ACTION_CREATE_REWARD =
        8, /* {"name","delivery","url","secret","message","stock","threshold","max_rewards","max_rules"} */
    ACTION_GRANT_REWARD = 9, /* subject: user; {"reward": id} */
    ACTION_UPKEEP =
        10, /* of the shard, no campaign: {"rows","delay_s","keep_s"}; result.place: 1 while there is more */
    ACTION_END_SAGAS = 11, /* {"rows": at most 200}; result.place: 1 while there may be more */
    ACTION_SIGN_UP = 100,
    ACTION_VERIFY, /* subject: user */
};

struct text {
    const char *data; /* NULL: absent (SQL null); not NUL-terminated */
    size_t len;
};

/* What became of an action. Pointers are valid during on_done only. */
struct action_result {
    enum err err;      /* ERR_NONE; else nothing was changed by this action (but ERR_OUTCOME_UNKNOWN: not known) */
    struct uuid id;    /* what was made, or is in the way (ERR_EMAIL_TAKEN, ERR_HAS_REFERRER, ERR_ALREADY_EARNED) */
    uint32_t place;    /* sign up: original position in the campaign; ERR_TOO_SOON: seconds to wait;
                          ERR_NO_USER: 1 when it is the referrer; ERR_LIMIT_REACHED: 1 when it is the thresholds' */
    int64_t version;   /* the campaign's version after the action; ERR_VERSION_CONFLICT: the present one */
    int events;        /* events that the action caused: their versions end with `version` */
    int64_t at_us;     /* when it was committed (its events' timestamp); 0 without events */
    struct text extra; /* sign up: the campaign's landing page, may be absent; others: the answer, JSON object */
    bool replayed;     /* all this is an answer given before, under the same Idempotency-Key */
};

/* An Idempotency-Key: see store/idempotency.h. */
struct action_key {
    bool given;
    struct uuid campaign; /* within which it is unique; zero for the creation of a campaign */
    struct uuid key;      /* hash of account, kind of API key, and key */
    struct uuid request;  /* hash of the request */
    int32_t keep_s;       /* how long the answer is kept */
    uint32_t shard;       /* the lanes' own: where the key is kept */
};

struct action {
    enum action_kind kind;
    uint32_t account_no; /* 0: not checked */
    struct uuid account_id;
    struct uuid campaign_id; /* create campaign: made by action_new; else the caller's */
    struct uuid subject;
    uint32_t referrer_place; /* sign up: 0 = none */
    struct text email;       /* sign up: as given */
    struct text email_key;   /* sign up: normal form */
    struct text metadata;    /* sign up: JSON text or absent */
    struct text source;      /* sign up: JSON text or absent */
    struct text args;        /* others: JSON object, absent: none */
    struct action_key key;

    /* Called exactly once, on the loop, for an action that lanes_submit took; the action is freed when it returns. */
    void (*on_done)(struct action *a, const struct action_result *r);
    void *arg;

    /* The lane's own. */
    struct action *next;
    struct uuid object_id; /* user or campaign to be made; the place is put in by the database */
    struct uuid event_id;  /* base id of its events: the k-th has k in the last byte */
    uint32_t shard;        /* of the campaign; upkeep: the caller's */
    bool general_road;     /* a sign-up that lane_append.h cannot decide */
    int64_t queued_us;
    size_t bytes; /* memory, for the queue's bound */
    size_t text_used, text_size;
    char text[];
};

/* A new action with ids made and room for text_bytes of text. Never NULL. */
struct action *action_new(enum action_kind kind, size_t text_bytes);
/* Copies text into the action. Aborts when there is no room: text_bytes was computed wrongly. */
struct text action_text(struct action *a, const char *data, size_t len);
void action_free(struct action *a); /* only for one that lanes_submit did not take; NULL is fine */

#endif
