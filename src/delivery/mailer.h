/* Sending mails by MAIL_TRANSPORT: over SMTP, into a Maildir, or nowhere. One struct mailer per worker thread. */
#ifndef TIDINGS_DELIVERY_MAILER_H
#define TIDINGS_DELIVERY_MAILER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "delivery/smtp.h"

#define MAILER_HOST_SIZE 256

struct mailer;

/* Whether mails can be sent with these settings. False with a sentence in why. Any thread. */
bool mailer_check(const struct config *c, char *why, size_t why_size);
/* The host of PUBLIC_URL, without its port: where message ids are at home. False: it has none that fits. Any thread. */
bool mailer_host(const char *public_url, char host[MAILER_HOST_SIZE]);

struct mailer *mailer_open(const struct config *config); /* config must outlive it */
void mailer_close(struct mailer *m);                     /* NULL is fine */

struct mailer_mail {
    const char *to;         /* an address */
    const char *message_id; /* without the angle brackets; the same for the same mail, however often it is sent */
    const char *subject, *text;
    const char *html, *unsubscribe_url; /* or NULL: see struct mail */
    const char *file; /* Maildir: the file's name is made of these two, so the same mail again replaces the first */
    int64_t file_time_us;
};

/* Sends one mail; blocks, see smtp_send. A Maildir that cannot be written is SMTP_UNAVAILABLE, a mail that cannot be
 * composed SMTP_REJECT; without SMTP_SENT why has a sentence. MAIL_TRANSPORT=discard: done at once. */
enum smtp_end mailer_send(struct mailer *m, const struct mailer_mail *mail, const _Atomic int64_t *stop_at, char *why,
                          size_t why_size);

#endif
