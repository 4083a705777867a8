/* What deliveries of rewards say: the mail and the webhook's body. */
#include <string.h>

#include "core/clock.h"
#include "core/members.h"
#include "delivery/mailer.h"
#include "handlers/reward.h"

#define TEMPLATE "reward"

enum { VALUE_CAMPAIGN, VALUE_EMAIL, VALUE_REWARD, VALUE_MESSAGE, VALUE_COUNT };

static const char *const value_names[] = {"campaign", "email", "reward", "message", NULL};

bool reward_check(const struct config *c, char *why, size_t why_size)
{
    struct template *t = mailer_check(c, why, why_size) ? reward_template(c, why, why_size) : NULL;
    template_free(t);
    return t != NULL;
}

struct template *reward_template(const struct config *c, char *why, size_t why_size)
{
    struct template *t = template_load(c->templates_dir, TEMPLATE, value_names, why, why_size);
    if (t)
        template_allow_lines(t, VALUE_MESSAGE); /* the account wrote it */
    return t;
}

void reward_mail(const struct template *t, const struct reward_facts *facts, struct buf *subject, struct buf *text,
                 struct buf *html)
{
    const char *const values[VALUE_COUNT] = {
        [VALUE_CAMPAIGN] = facts->campaign_name,
        [VALUE_EMAIL] = facts->email,
        [VALUE_REWARD] = facts->reward_name,
        [VALUE_MESSAGE] = facts->message,
    };
    template_render(t, values, subject, text, html);
}

void reward_body(const struct event *e, const struct reward_facts *facts, struct buf *out)
{
    static const char *const ids[] = {"user_reward_id", "user_id", "campaign_id", "reward_id"};
    char at[RFC3339_SIZE], event[UUID_TEXT_SIZE];
    rfc3339_format(e->at_us, at);
    uuid_format(e->id, event);
    members_begin(out);
    member_string(out, "type", event_type_name(e->type));
    member_string(out, "timestamp", at);
    member_json(out, "data", "{");
    member_string(out, "event_id", event);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        member_string(out, ids[i], event_data_text(e, ids[i]));
    member_string(out, "reward_name", facts->reward_name);
    member_string(out, "email", facts->email);
    if (facts->message)
        member_string(out, "message", facts->message);
    members_end(out);
    members_end(out);
}
