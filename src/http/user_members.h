/* The members of a user that the database cannot make: the referral code and the link with it. Loop thread only. */
#ifndef TIDINGS_HTTP_USER_MEMBERS_H
#define TIDINGS_HTTP_USER_MEMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "http/request.h"

/* Codes cannot be told before the installation's key is known: answers 503 and returns false. */
bool installation_known(struct request *r);

/* Appends referral_code and referral_link, of the user at `place` in the path's campaign. landing_url: the campaign's, or
 * NULL. */
void add_referral(struct request *r, struct buf *out, uint32_t place, const char *landing_url);

#endif
