/* email-workers: what a mail says (email_text.c), what is read for it (email_facts.c), mails that are only recorded
 * (email_record.c), and the rest: who gets one, keeping the books, sending (email.c). */
#ifndef TIDINGS_HANDLERS_EMAIL_H
#define TIDINGS_HANDLERS_EMAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/config.h"
#include "delivery/mailer.h"
#include "delivery/template.h"
#include "domain/event.h"
#include "handlers/handler.h"

#define EMAIL_TYPES                                                                                                    \
    (1u << EVENT_USER_SIGNED_UP | 1u << EVENT_USER_VERIFIED | 1u << EVENT_VERIFICATION_REQUESTED |                     \
     1u << EVENT_REFERRAL_VERIFIED | 1u << EVENT_REWARD_EARNED | 1u << EVENT_MILESTONE_REACHED |                       \
     1u << EVENT_REWARD_RELEASED)

/* The mails that somebody asks for, and gets though unsubscribed. */
#define EMAIL_WANTED (1u << EVENT_VERIFICATION_REQUESTED)

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
    bool open;                  /* no mail is sent yet: there is no row of it, or one that is 'sending' */
    bool unsubscribed;          /* the recipient */
    bool expired;               /* the event is older than MAIL_MAX_AGE_SECONDS, by Postgres' clock */
    bool has_own;               /* the campaign has a template of its own for it */
    const struct template *own; /* that one, of struct email_own; NULL: the service's */
};

/* record->state */
struct email_job {
    struct mail_facts facts;
    char message_id[MAILER_HOST_SIZE + 64];
    const char *planned; /* status for a row that is new */
    const char *counted; /* what M_MAILS counts when the run has ended; NULL: nothing */
};

/* --- what it says --- */

/* Whether the group can work with these settings: see struct handler. */
bool email_check(const struct config *c, char *why, size_t why_size);

struct email_texts {
    struct template *templates[EVENT_TYPE_MAX]; /* NULL: that type causes no mail */
};

/* Reads the templates. False with a sentence in why; to be freed either way. */
bool email_texts_load(struct email_texts *t, const struct config *config, uint32_t types, char *why, size_t why_size);
void email_texts_free(struct email_texts *t);

/* A template that a campaign brings: as template_make, with the values that mails have. */
struct template *email_template(const struct template_source *source, const char **at, char *why, size_t why_size);

struct email_parts {
    struct buf subject, text, html, unsubscribe_url; /* html empty: there is none */
};
void email_parts_clear(struct email_parts *p);
void email_parts_free(struct email_parts *p);

/* Appends the event's mail. code_key: the installation's. now_s: seconds since 1970; a verification link is good for
 * TOKEN_TTL_SECONDS from now, however old the event is. */
void email_text(const struct email_texts *t, const struct config *config, const struct event *e,
                const struct mail_facts *facts, const uint8_t code_key[16], int64_t now_s, struct email_parts *out);

/* Appends what a template makes of sample values. landing_url may be NULL. */
void email_sample(const struct template *t, const struct config *config, const char *campaign_name,
                  const char *landing_url, struct email_parts *out);

/* --- what is read for it --- */

/* Whether the event is about a reward, which its mail names. */
bool email_about_reward(const struct event *e);

/* Appends what the database must know of an event to look up its mail: one element to each array, in the order of mail_read's
 * and mail_record's parameters. */
enum { EMAIL_ARRAYS = 7 };
void email_add_event(struct buf arrays[EMAIL_ARRAYS], const struct event *e);

/* The user that the mail goes to; false: it goes to the account. */
bool email_recipient(const struct event *e, struct uuid *user);

/* The campaigns' own templates that a run needs. All zero: none. */
struct email_own {
    struct email_own_template {
        int campaign_no;
        enum event_type type;
        struct template *template; /* NULL: what is stored is none any more */
    } * templates;
    size_t count;
};
void email_own_clear(struct email_own *own);

/* Reads the facts of the run's records, within apply: a struct email_job in the state of each that there can be a mail
 * of; the others are rejected, or done since their campaign was deleted. The own templates live in `own`, which is cleared
 * first. id_suffix: what makes a message id of an event's id. False: as apply. */
bool email_read_facts(struct run *run, const char *id_suffix, struct email_own *own, PGresult **failed);

/* --- mails that are not sent --- */

struct email_final {
    struct record *record;
    const char *status; /* set by email_record when it has entered it: 'expired', 'unsubscribed' or 'discarded' */
    bool entered;       /* by email_record: its row is there and was not before */
};

/* Enters their rows, within apply. What is not entered then was there already, or something is wrong with it. Sorts
 * finals. */
bool email_record(struct run *run, struct email_final *finals, size_t count, const char *id_suffix, PGresult **failed);

#endif
