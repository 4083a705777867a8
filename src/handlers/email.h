/* email-workers: what a mail says (email_text.c), mails that are only recorded (email_record.c), and the rest: who gets
 * one, keeping the books, sending (email.c). */
#ifndef TIDINGS_HANDLERS_EMAIL_H
#define TIDINGS_HANDLERS_EMAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/config.h"
#include "delivery/template.h"
#include "domain/event.h"
#include "handlers/handler.h"

#define EMAIL_TYPES                                                                                                    \
    (1u << EVENT_USER_SIGNED_UP | 1u << EVENT_USER_VERIFIED | 1u << EVENT_VERIFICATION_REQUESTED |                     \
     1u << EVENT_REFERRAL_VERIFIED | 1u << EVENT_REWARD_EARNED | 1u << EVENT_MILESTONE_REACHED |                       \
     1u << EVENT_REWARD_RELEASED)

/* What a mail is made of besides its event; read from the database. */
struct mail_facts {
    int campaign_no;
    char *campaign_name;
    char *landing_url; /* or NULL */
    char *recipient;
    char *reward;     /* the name of the reward that it is about, or NULL */
    uint32_t place;   /* the recipient's; 0: the account */
    int64_t verified; /* the recipient's verified referrals */
    int64_t points_per_referral;
};

/* Whether the group can work with these settings: see struct handler. */
bool email_check(const struct config *c, char *why, size_t why_size);

struct email_texts {
    struct template *templates[EVENT_TYPE_MAX]; /* NULL: that type causes no mail */
};

/* Reads the templates. False with a sentence in why; to be freed either way. */
bool email_texts_load(struct email_texts *t, const struct config *config, uint32_t types, char *why, size_t why_size);
void email_texts_free(struct email_texts *t);

/* Appends subject and body of the event's mail. code_key: the installation's. now_s: seconds since 1970; a verification
 * link is good for TOKEN_TTL_SECONDS from now, however old the event is. */
void email_text(const struct email_texts *t, const struct config *config, const struct event *e,
                const struct mail_facts *facts, const uint8_t code_key[16], int64_t now_s, struct buf *subject,
                struct buf *body);

/* Whether the event is about a reward, which its mail names. */
bool email_about_reward(const struct event *e);

/* The user that the mail goes to; false: it goes to the account. */
bool email_recipient(const struct event *e, struct uuid *user);

/* A mail that is not going to be sent. */
struct email_final {
    struct record *record;
    const char *status;
    bool entered; /* by email_record: its row is there and was not before */
};

/* Enters their rows, within apply. What is not entered then was there already, or something is wrong with it. Sorts
 * finals. id_suffix: what makes a message id of an event's id. */
bool email_record(struct run *run, struct email_final *finals, size_t count, const char *id_suffix, PGresult **failed);

#endif
