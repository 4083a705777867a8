/* What mails say: templates and their values. */
#include <stdio.h>
#include <string.h>

#include "delivery/mailer.h"
#include "domain/referral_code.h"
#include "domain/referral_link.h"
#include "domain/token.h"
#include "handlers/email.h"

#define VERIFY_PATH "/v1/verify?token="
#define UNSUBSCRIBE_PATH "/v1/unsubscribe?token="
#define SAMPLE_CODE "7K2M9PQX"
#define SAMPLE_TOKEN "a-token-of-75-characters"

/* The values that templates may use. */
/* clang-format off */
#define VALUES(X)                                                                                                      \
    X(campaign) X(email) X(position) X(verified_referrals) X(referral_code) X(referral_link) X(verify_link)            \
    X(milestone) X(participants) X(reward) X(reason) X(unsubscribe_link)
/* clang-format on */

enum {
#define VALUE_ENUM(name) VALUE_##name,
    VALUES(VALUE_ENUM)
#undef VALUE_ENUM
        VALUE_COUNT
};

static const char *const value_names[] = {
#define VALUE_NAME(name) #name,
    VALUES(VALUE_NAME)
#undef VALUE_NAME
        NULL};

bool email_texts_load(struct email_texts *t, const struct config *config, uint32_t types, char *why, size_t why_size)
{
    memset(t, 0, sizeof *t);
    for (int type = 0; type < EVENT_TYPE_MAX; type++) {
        if (!(types & 1u << type))
            continue;
        t->templates[type] =
            template_load(config->templates_dir, event_type_name((enum event_type)type), value_names, why, why_size);
        if (!t->templates[type])
            return false;
    }
    return true;
}

void email_texts_free(struct email_texts *t)
{
    for (int type = 0; type < EVENT_TYPE_MAX; type++)
        template_free(t->templates[type]);
}

struct template *email_template(const struct template_source *source, const char **at, char *why, size_t why_size)
{
    return template_make(source, value_names, at, why, why_size);
}

void email_parts_clear(struct email_parts *p)
{
    buf_clear(&p->subject);
    buf_clear(&p->text);
    buf_clear(&p->html);
    buf_clear(&p->unsubscribe_url);
}

void email_parts_free(struct email_parts *p)
{
    buf_free(&p->subject);
    buf_free(&p->text);
    buf_free(&p->html);
    buf_free(&p->unsubscribe_url);
}

/* --- links --- */

static void add_link(const struct config *config, const char *path, const char *token, struct buf *out)
{
    const char *url = config->public_url;
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/')
        len--;
    buf_add(out, url, len);
    buf_adds(out, path);
    buf_adds(out, token);
}

static void verify_link(const struct config *config, const struct event *e, int64_t now_s, struct buf *out)
{
    char token[TOKEN_SIZE];
    token_make(config->token_secret, e->campaign_id, event_data_uuid(e, "user_id"), now_s + config->token_ttl_s, token);
    add_link(config, VERIFY_PATH, token, out);
}

static void unsubscribe_link(const struct config *config, const struct event *e, struct buf *out)
{
    char token[TOKEN_SIZE];
    struct uuid user = {{0}};
    email_recipient(e, &user);
    token_make_unsubscribe(config->token_secret, e->campaign_id, user, token);
    add_link(config, UNSUBSCRIBE_PATH, token, out);
}

/* --- values --- */

/* By the formula: verified referrals move a user up from its original position, never above 1. */
static int64_t position_of(const struct mail_facts *f)
{
    int64_t position = (int64_t)f->place - f->verified * f->points_per_referral;
    return position < 1 ? 1 : position;
}

void email_text(const struct email_texts *t, const struct config *config, const struct event *e,
                const struct mail_facts *facts, const uint8_t code_key[16], int64_t now_s, struct email_parts *out)
{
    char position[24], verified[24], participants[24] = "", code[REFERRAL_CODE_SIZE] = "";
    struct buf referral = {0}, verify = {0};
    snprintf(position, sizeof position, "%lld", (long long)position_of(facts));
    snprintf(verified, sizeof verified, "%lld", (long long)facts->verified);
    if (facts->place > 0) {
        referral_code_make(code_key, e->campaign_id, facts->place, code);
        referral_link(config->public_url, facts->landing_url, code, &referral);
    }
    if (e->type == EVENT_USER_SIGNED_UP || e->type == EVENT_VERIFICATION_REQUESTED)
        verify_link(config, e, now_s, &verify);
    unsubscribe_link(config, e, &out->unsubscribe_url);
    if (e->type == EVENT_MILESTONE_REACHED)
        snprintf(participants, sizeof participants, "%lld", (long long)event_data_int(e, "participant_count"));
    const char *const values[VALUE_COUNT] = {
        [VALUE_campaign] = facts->campaign_name,
        [VALUE_email] = facts->recipient,
        [VALUE_position] = position,
        [VALUE_verified_referrals] = verified,
        [VALUE_referral_code] = code,
        [VALUE_referral_link] = buf_cstr(&referral),
        [VALUE_verify_link] = buf_cstr(&verify),
        [VALUE_milestone] = e->type == EVENT_MILESTONE_REACHED ? event_data_text(e, "milestone") : NULL,
        [VALUE_participants] = participants,
        [VALUE_reward] = facts->reward,
        [VALUE_reason] = e->type == EVENT_REWARD_RELEASED ? event_data_text(e, "reason") : NULL,
        [VALUE_unsubscribe_link] = buf_cstr(&out->unsubscribe_url),
    };
    template_render(facts->own ? facts->own : t->templates[e->type], values, &out->subject, &out->text, &out->html);
    buf_free(&referral);
    buf_free(&verify);
}

void email_sample(const struct template *t, const struct config *config, const char *campaign_name,
                  const char *landing_url, struct email_parts *out)
{
    struct buf referral = {0}, verify = {0};
    referral_link(config->public_url, landing_url, SAMPLE_CODE, &referral);
    add_link(config, VERIFY_PATH, SAMPLE_TOKEN, &verify);
    add_link(config, UNSUBSCRIBE_PATH, SAMPLE_TOKEN, &out->unsubscribe_url);
    const char *const values[VALUE_COUNT] = {
        [VALUE_campaign] = campaign_name,
        [VALUE_email] = "ada@example.com",
        [VALUE_position] = "42",
        [VALUE_verified_referrals] = "3",
        [VALUE_referral_code] = SAMPLE_CODE,
        [VALUE_referral_link] = buf_cstr(&referral),
        [VALUE_verify_link] = buf_cstr(&verify),
        [VALUE_milestone] = "1000_participants",
        [VALUE_participants] = "1000",
        [VALUE_reward] = "Stickers",
        [VALUE_reason] = "http://example.com/hook answered with status 410",
        [VALUE_unsubscribe_link] = buf_cstr(&out->unsubscribe_url),
    };
    template_render(t, values, &out->subject, &out->text, &out->html);
    buf_free(&referral);
    buf_free(&verify);
}

bool email_check(const struct config *c, char *why, size_t why_size)
{
    struct email_texts texts;
    if (!c->token_secret) {
        snprintf(why, why_size, "TOKEN_SECRET must be set: it signs the verification links that email-workers send");
        return false;
    }
    if (!mailer_check(c, why, why_size))
        return false;
    bool ok = email_texts_load(&texts, c, EMAIL_TYPES, why, why_size);
    email_texts_free(&texts);
    return ok;
}
