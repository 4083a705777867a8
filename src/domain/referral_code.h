/* Referral codes: a keyed permutation of the user's place in its campaign. No index, no collision, no look-up.
 * Not a secret: it only keeps codes from being counted through by hand. Any thread. */
#ifndef TIDINGS_DOMAIN_REFERRAL_CODE_H
#define TIDINGS_DOMAIN_REFERRAL_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/uuid.h"

#define REFERRAL_CODE_SIZE 9 /* 8 characters of Crockford's base 32 (upper case) and the NUL */

/* key: the installation's 16 bytes from the database (store/schema.h), which never change. place: 1..2^31-1 */
void referral_code_make(const uint8_t key[16], struct uuid campaign, uint32_t place, char out[REFERRAL_CODE_SIZE]);
/* Lower case and O, I, L (read as 0, 1, 1) are accepted. False: no place has this code. The place may not exist yet. */
bool referral_code_read(const uint8_t key[16], struct uuid campaign, const char *code, size_t len, uint32_t *place);

#endif
