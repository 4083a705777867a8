/* Who asks: the API key of `Authorization: Bearer …`, looked up by its SHA-256 and remembered for a short while, also
 * when it is nobody's. Requests that come with one key while it is being looked up share the read. Loop thread only. */
#ifndef TIDINGS_HTTP_AUTH_H
#define TIDINGS_HTTP_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/uuid.h"
#include "store/reader.h"

/* Bounds of the cache. What is nobody's has its own, so that guessing keys does not push known ones out. */
#define AUTH_MAX_KNOWN 4096
#define AUTH_MAX_UNKNOWN 1024
#define AUTH_MAX_LOADS 1024 /* reads in flight; past it ERR_OVERLOADED */

struct api_key {
    struct uuid key_id;
    uint32_t account_no;
    struct uuid account_id;
    bool secret; /* else publishable */
};

struct auth;
/* life_ms: how long a lookup is remembered while revocations may not be heard of; live_life_ms: while they are. */
struct auth *auth_new(struct reader *reader, int64_t life_ms, int64_t live_life_ms);

/* Whether revocations come to auth_revoked from now on. It begins with no. With yes, all that is known is forgotten: a
 * revocation may have been missed. */
void auth_set_live(struct auth *a, bool live);
/* The key is no good any more: it is forgotten, and so is what the lookups bring that are under way. Who waits for one of
 * them gets its answer; who comes after this does not. */
void auth_revoked(struct auth *a, struct uuid key_id);
/* Who still waits is told ERR_SHUTTING_DOWN; reads in flight end later and touch nothing. */
void auth_free(struct auth *a);

/* key: valid during the call, NULL unless err is ERR_NONE. */
typedef void (*auth_done)(void *arg, enum err err, const struct api_key *key);

/* Looks at the value of an Authorization header (NULL: there is none). Returns true when the outcome is known now: *err
 * and, with ERR_NONE, *key. Else done is called once, later. Errors: ERR_UNAUTHORIZED, or those of the reader. */
bool auth_check(struct auth *a, const char *header, size_t len, enum err *err, struct api_key *key, auth_done done,
                void *arg);

/* Whether the header has this token, of which nothing shows in how long that takes but its length. Any thread. */
bool auth_has_token(const char *header, size_t len, const char *token);

/* The key within a header's value, or NULL when it cannot be one of ours: tk_sec_ or tk_pub_ and 16 to 100 characters of
 * base64url. Such are refused without a read. */
const char *auth_bearer(const char *header, size_t len, size_t *key_len);

#endif
