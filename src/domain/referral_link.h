/* Links that carry a referral code. Any thread. */
#ifndef TIDINGS_DOMAIN_REFERRAL_LINK_H
#define TIDINGS_DOMAIN_REFERRAL_LINK_H

#include "core/buf.h"

/* Appends the campaign's landing page with ref=CODE in its query; without one (NULL): PUBLIC_URL/?ref=CODE. */
void referral_link(const char *public_url, const char *landing_url, const char *code, struct buf *out);

#endif
