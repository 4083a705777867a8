/* Composing mails: headers, a text and, perhaps, HTML as the bytes that are sent. Any thread, after mail_start. */
#ifndef TIDINGS_DELIVERY_MAIL_H
#define TIDINGS_DELIVERY_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

struct mail {
    const char *from;            /* "Name <address>" or an address */
    const char *to;              /* an address */
    const char *message_id;      /* without the angle brackets */
    const char *subject;         /* UTF-8 */
    const char *text;            /* UTF-8, lines end in "\n" */
    const char *html;            /* the same in HTML, or NULL */
    const char *unsubscribe_url; /* for RFC 8058's one click, or NULL */
    int64_t date_us;             /* wall clock */
};

void mail_start(void); /* once per process or more often; any thread */

/* Appends the message. crlf: lines end in CRLF (SMTP), else in LF (Maildir). eight_bit: bytes over 127 may stand as
 * they are; else such a part is quoted-printable. A part in ASCII stands as it is unless a line is too long for mail, so
 * links stay in one piece. With HTML the message is multipart/alternative. Control characters in header values are left
 * out. False with a sentence in why: from or to is no address. */
bool mail_compose(const struct mail *m, bool crlf, bool eight_bit, struct buf *out, char *why, size_t why_size);

/* The address of "Name <address>", for SMTP's envelope. False: there is none, or more than one. */
bool mail_address(const char *from, struct buf *out);

#endif
