/* Sending over SMTP with libcurl; one struct smtp and its connection per worker thread. */
#ifndef TIDINGS_DELIVERY_SMTP_H
#define TIDINGS_DELIVERY_SMTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"

struct smtp;

enum smtp_end {
    SMTP_SENT,
    SMTP_RETRY,       /* the server refused this mail for now (4xx) */
    SMTP_REJECT,      /* the server refused this mail for good (5xx) */
    SMTP_UNAVAILABLE, /* no mail can be sent now: no connection, no answer in time, no login, the sender refused, 421 */
};

void smtp_global_start(void); /* once per process or more often; any thread */

/* Whether the SMTP_ settings fit together and their file can be used; false with a sentence that names the setting. */
bool smtp_check(const struct config *config, char *why, size_t why_size);

/* SMTP_URL, SMTP_STARTTLS, SMTP_CA_FILE, SMTP_USERNAME, SMTP_PASSWORD, SMTP_TIMEOUT_MS. The server's certificate is
 * verified whenever there is TLS. config must outlive it. Connects when sending. */
struct smtp *smtp_open(const struct config *config);
void smtp_close(struct smtp *s); /* NULL is fine */

/* Sends one message (CRLF line ends) in at most SMTP_TIMEOUT_MS, less when *stop_at (clock_mono_us, 0 = none) comes
 * before; saying QUIT to a server that does not answer may take a second more. Blocks. Without success why has a sentence. */
enum smtp_end smtp_send(struct smtp *s, const char *sender, const char *recipient, const void *data, size_t len,
                        const _Atomic int64_t *stop_at, char *why, size_t why_size);

#endif
