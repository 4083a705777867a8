/* What mails say: templates and their values, and the settings that go into them. */
#include <stdio.h>
#include <string.h>

#include "delivery/mail.h"
#include "domain/referral_code.h"
#include "domain/referral_link.h"
#include "domain/token.h"
#include "handlers/email.h"

/* The values that templates may use. */
#define VALUES(X)                                                                                                      \
    X(campaign)                                                                                                        \
    X(email) X(position) X(verified_referrals) X(referral_code) X(referral_link) X(verify_link) X(milestone)           \
        X(participants)

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
        char file[64];
        if (!(types & 1u << type))
            continue;
        snprintf(file, sizeof file, "%s.txt", event_type_name((enum event_type)type));
        t->templates[type] = template_load(config->templates_dir, file, value_names, why, why_size);
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

static void verify_link(const struct config *config, const struct event *e, int64_t now_s, struct buf *out)
{
    char token[TOKEN_SIZE];
    const char *url = config->public_url;
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/')
        len--;
    token_make(config->token_secret, e->campaign_id, event_data_uuid(e, "user_id"), now_s + config->token_ttl_s, token);
    buf_add(out, url, len);
    buf_adds(out, "/v1/verify?token=");
    buf_adds(out, token);
}

/* By the formula: verified referrals move a user up from its original position, never above 1. */
static int64_t position_of(const struct mail_facts *f)
{
    int64_t position = (int64_t)f->place - f->verified * f->points_per_referral;
    return position < 1 ? 1 : position;
}

void email_text(const struct email_texts *t, const struct config *config, const struct event *e,
                const struct mail_facts *facts, const uint8_t code_key[16], int64_t now_s, struct buf *subject,
                struct buf *body)
{
    char position[24], verified[24], participants[24] = "", code[REFERRAL_CODE_SIZE] = "";
    struct buf referral = {0}, verify = {0};
    snprintf(position, sizeof position, "%lld", (long long)position_of(facts));
    snprintf(verified, sizeof verified, "%lld", (long long)facts->verified);
    if (facts->place > 0) {
        referral_code_make(code_key, e->campaign_id, facts->place, code);
        referral_link(config->public_url, facts->landing_url, code, &referral);
    }
    if (e->type == EVENT_USER_SIGNED_UP)
        verify_link(config, e, now_s, &verify);
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
    };
    template_render(t->templates[e->type], values, subject, body);
    buf_free(&referral);
    buf_free(&verify);
}

/* --- settings --- */

/* The host of PUBLIC_URL, without port: where message ids are at home. */
bool email_host(const char *url, char *host, size_t size)
{
    const char *at = strstr(url, "://");
    if (!at)
        return false;
    at += 3;
    size_t len = *at == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":/?#");
    if (len == 0 || len >= size)
        return false;
    snprintf(host, size, "%.*s", (int)len, at);
    return true;
}

bool email_sender(const struct config *c, char *sender, size_t size)
{
    struct buf b = {0};
    mail_start();
    bool ok = mail_address(c->mail_from, &b) && strchr(buf_cstr(&b), '@') && b.len < size;
    if (ok)
        snprintf(sender, size, "%s", buf_cstr(&b));
    buf_free(&b);
    return ok;
}

bool email_check(const struct config *c, char *why, size_t why_size)
{
    struct email_texts texts;
    char host[EMAIL_HOST_SIZE], sender[EMAIL_SENDER_SIZE];
    const char *problem = NULL;
    if (!c->token_secret)
        problem = "TOKEN_SECRET must be set: it signs the verification links that email-workers send";
    else if (!email_host(c->public_url, host, sizeof host))
        problem = "PUBLIC_URL must be a URL with a host";
    else if (!email_sender(c, sender, sizeof sender))
        problem = "MAIL_FROM must be one address, or a name and an address in angle brackets";
    else if (strcmp(c->mail_transport, "smtp") == 0 && strncmp(c->smtp_url, "smtp://", 7) != 0 &&
             strncmp(c->smtp_url, "smtps://", 8) != 0)
        problem = "SMTP_URL must begin with smtp:// or smtps://";
    if (problem) {
        snprintf(why, why_size, "%s", problem);
        return false;
    }
    bool ok = email_texts_load(&texts, c, EMAIL_TYPES, why, why_size);
    email_texts_free(&texts);
    return ok;
}
