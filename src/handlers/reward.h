/* reward-workers, the part that decides what is said (reward_text.c) apart from the part that keeps the books and
 * delivers (reward.c). */
#ifndef TIDINGS_HANDLERS_REWARD_H
#define TIDINGS_HANDLERS_REWARD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/config.h"
#include "delivery/template.h"
#include "domain/event.h"

/* What a delivery is made of besides its event; read from the database. */
struct reward_facts {
    int campaign_no, reward_no;
    bool webhook; /* else a mail */
    char *campaign_name, *email, *reward_name;
    char *url, *secret; /* of a webhook, else NULL */
    char *message;      /* for the mail, or NULL */
};

/* Whether the group can work with these settings: see struct handler. */
bool reward_check(const struct config *c, char *why, size_t why_size);

/* The mail's template, "reward". NULL with a sentence in why. */
struct template *reward_template(const struct config *c, char *why, size_t why_size);
/* Appends the mail that delivers a reward; html is left alone if it has none. */
void reward_mail(const struct template *t, const struct reward_facts *facts, struct buf *subject, struct buf *text,
                 struct buf *html);

/* Appends the webhook's body: the same bytes whenever it is made. */
void reward_body(const struct event *e, const struct reward_facts *facts, struct buf *out);

#endif
