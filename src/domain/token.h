/* Tokens of verification and unsubscribe links: base64url(campaign id, user id, expiry, HMAC-SHA256 cut to 16 bytes). Nothing is stored: all hosts
 * share the secret. Rotation: secrets is comma-separated, the first signs, all verify. Any thread. */
#ifndef TIDINGS_DOMAIN_TOKEN_H
#define TIDINGS_DOMAIN_TOKEN_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/uuid.h"

#define TOKEN_SIZE 76 /* 56 bytes as 75 characters, and the NUL */

void token_make(const char *secrets, struct uuid campaign, struct uuid user, int64_t expires_s, char out[TOKEN_SIZE]);
/* ERR_NONE, ERR_BAD_TOKEN or ERR_TOKEN_EXPIRED. now_s: seconds since 1970. */
enum err token_read(const char *secrets, const char *token, size_t len, int64_t now_s, struct uuid *campaign,
                    struct uuid *user);

/* The same for unsubscribe links, which do not expire; neither passes for the other. user zero: the account. */
void token_make_unsubscribe(const char *secrets, struct uuid campaign, struct uuid user, char out[TOKEN_SIZE]);
enum err token_read_unsubscribe(const char *secrets, const char *token, size_t len, struct uuid *campaign,
                                struct uuid *user);

/* One-way hashes of the secrets, in their order, to tell whether two hosts have the same; returns how many (at most max). */
size_t token_fingerprints(const char *secrets, struct uuid out[], size_t max);

#endif
