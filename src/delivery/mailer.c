/* Composing a mail and sending it by the transport of the settings. */
#include "delivery/mailer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "delivery/mail.h"
#include "delivery/maildir.h"

#define SENDER_SIZE 512

struct mailer {
    const struct config *config;
    struct smtp *smtp; /* MAIL_TRANSPORT=smtp */
    bool discard;
    char sender[SENDER_SIZE];
    struct buf message;
};

static bool transport_is(const struct config *c, const char *word)
{
    return strcmp(c->mail_transport, word) == 0;
}

bool mailer_host(const char *public_url, char host[MAILER_HOST_SIZE])
{
    const char *at = strstr(public_url, "://");
    if (!at)
        return false;
    at += 3;
    size_t len = *at == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":/?#");
    if (len == 0 || len >= MAILER_HOST_SIZE)
        return false;
    snprintf(host, MAILER_HOST_SIZE, "%.*s", (int)len, at);
    return true;
}

/* The address of MAIL_FROM. False: it is not one that fits. */
static bool read_sender(const struct config *c, char sender[SENDER_SIZE])
{
    struct buf b = {0};
    mail_start();
    bool ok = mail_address(c->mail_from, &b) && strchr(buf_cstr(&b), '@') && b.len < SENDER_SIZE;
    if (ok)
        snprintf(sender, SENDER_SIZE, "%s", buf_cstr(&b));
    buf_free(&b);
    return ok;
}

bool mailer_check(const struct config *c, char *why, size_t why_size)
{
    char host[MAILER_HOST_SIZE], sender[SENDER_SIZE];
    const char *problem = NULL;
    if (!mailer_host(c->public_url, host))
        problem = "PUBLIC_URL must be a URL with a host";
    else if (!read_sender(c, sender))
        problem = "MAIL_FROM must be one address, or a name and an address in angle brackets";
    if (problem)
        snprintf(why, why_size, "%s", problem);
    return !problem && (!transport_is(c, "smtp") || smtp_check(c, why, why_size));
}

struct mailer *mailer_open(const struct config *config)
{
    struct mailer *m = xcalloc(1, sizeof *m);
    mail_start();
    m->config = config;
    m->discard = transport_is(config, "discard");
    read_sender(config, m->sender);
    if (transport_is(config, "smtp"))
        m->smtp = smtp_open(config);
    return m;
}

void mailer_close(struct mailer *m)
{
    if (!m)
        return;
    smtp_close(m->smtp);
    buf_free(&m->message);
    free(m);
}

enum smtp_end mailer_send(struct mailer *m, const struct mailer_mail *mail, const _Atomic int64_t *stop_at, char *why,
                          size_t why_size)
{
    bool smtp = m->smtp != NULL;
    const struct mail composed = {
        .from = m->config->mail_from,
        .to = mail->to,
        .message_id = mail->message_id,
        .subject = mail->subject,
        .text = mail->text,
        .html = mail->html,
        .unsubscribe_url = mail->unsubscribe_url,
        .date_us = clock_wall_us(),
    };
    if (m->discard)
        return SMTP_SENT;
    buf_clear(&m->message);
    if (!mail_compose(&composed, smtp, !smtp, &m->message, why, why_size))
        return SMTP_REJECT;
    if (smtp)
        return smtp_send(m->smtp, m->sender, mail->to, m->message.data, m->message.len, stop_at, why, why_size);
    bool put =
        maildir_put(m->config->maildir, mail->file, mail->file_time_us, m->message.data, m->message.len, why, why_size);
    return put ? SMTP_SENT : SMTP_UNAVAILABLE;
}
