/* An action: what a request asks of a campaign, on its way through a lane and back. One allocation holds it and its text.
 * Loop thread only. */
#ifndef TIDINGS_STORE_ACTION_H
#define TIDINGS_STORE_ACTION_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/uuid.h"

enum action_kind {
    ACTION_SIGN_UP,         /* batched */
    ACTION_VERIFY,          /* batched */
    ACTION_CREATE_CAMPAIGN, /* alone in its transaction: rare */
};

struct text {
    const char *data; /* NULL: absent (SQL null); not NUL-terminated */
    size_t len;
};

/* What became of an action. Pointers are valid during on_done only. */
struct action_result {
    enum err err;    /* ERR_NONE; else nothing was changed by this action (but ERR_OUTCOME_UNKNOWN: not known) */
    struct uuid id;  /* sign up: the new user; ERR_EMAIL_TAKEN: the user who has the address;
                                create campaign: the campaign; verify: the user */
    uint32_t place;  /* sign up: original position in the campaign */
    int64_t version; /* the campaign's version after the action */
    int events;      /* events that the action caused: their versions end with `version` */
    int64_t at_us;   /* when it was committed (its events' timestamp); 0 without events */
    struct text landing_url; /* sign up: the campaign's, may be absent */
};

struct action {
    enum action_kind kind;
    uint32_t account_no;
    struct uuid account_id;
    struct uuid campaign_id; /* create campaign: made by action_new; else the caller's */
    struct uuid user_id;     /* verify */
    uint32_t referrer_place; /* sign up: 0 = none */
    struct text email;       /* sign up: as given */
    struct text email_key;   /* sign up: normal form */
    struct text metadata;    /* sign up: JSON text or absent */
    struct text
        settings; /* create campaign: JSON {"name":…,"points_per_referral":…,"milestones":[…],"landing_url":…}, checked */

    /* Called exactly once, on the loop, for an action that lanes_submit took; the action is freed when it returns. */
    void (*on_done)(struct action *a, const struct action_result *r);
    void *arg;

    /* The lane's own. */
    struct action *next;
    struct uuid object_id; /* user or campaign to be made; the place is put in by the database */
    struct uuid event_id;  /* base id of its events: the k-th has k in the last four bits */
    uint32_t shard;
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
