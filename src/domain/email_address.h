/* Checks on e-mail addresses. Any thread. */
#ifndef TIDINGS_DOMAIN_EMAIL_ADDRESS_H
#define TIDINGS_DOMAIN_EMAIL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#define EMAIL_MAX 254 /* bytes; RFC 5321's path limit less the brackets */

/* Whether text[0..len) is an address we accept: local@domain, a dot-atom (RFC 5321, UTF-8 letters allowed as by RFC
 * 6531) of at most 64 bytes, a domain of labels with at least one dot or "localhost". No quotes, blanks, controls. */
bool email_valid(const char *text, size_t len);

/* The form that addresses are compared by: NFC and case-folded. Returns the length, at most key_size, or 0 when it does
 * not fit. ASCII takes a short cut. text must be email_valid. */
size_t email_key(const char *text, size_t len, char *key, size_t key_size);

#endif
