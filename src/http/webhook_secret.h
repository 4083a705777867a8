/* Secrets that sign webhooks, by the Standard Webhooks specification: "whsec_" and the base64 of 24 to 64 bytes. Pure. */
#ifndef TIDINGS_HTTP_WEBHOOK_SECRET_H
#define TIDINGS_HTTP_WEBHOOK_SECRET_H

#include <stdbool.h>

#include "store/action.h"

#define SECRET_PREFIX "whsec_"
#define WEBHOOK_SECRET_BYTES 64
#define WEBHOOK_SECRET_SIZE (sizeof SECRET_PREFIX + 4 * ((WEBHOOK_SECRET_BYTES + 2) / 3))

bool webhook_secret_valid(struct text secret);
void webhook_secret_make(char secret[WEBHOOK_SECRET_SIZE]); /* a new one, NUL-terminated */

#endif
