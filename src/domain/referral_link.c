/* Links that carry a referral code. */
#include "domain/referral_link.h"

#include <string.h>

/* What goes between the URL up to its fragment and the parameter. */
static const char *separator(const char *url, size_t len)
{
    if (!memchr(url, '?', len))
        return "?";
    return url[len - 1] == '?' || url[len - 1] == '&' ? "" : "&";
}

void referral_link(const char *public_url, const char *landing_url, const char *code, struct buf *out)
{
    const char *url = landing_url ? landing_url : public_url;
    size_t len = strcspn(url, "#");
    const char *fragment = url + len;
    if (!landing_url) { /* PUBLIC_URL is a base, with or without the slash */
        while (len > 0 && url[len - 1] == '/')
            len--;
        buf_add(out, url, len);
        buf_adds(out, "/?ref=");
        buf_adds(out, code);
        return;
    }
    buf_add(out, url, len);
    buf_adds(out, separator(url, len));
    buf_adds(out, "ref=");
    buf_adds(out, code);
    buf_adds(out, fragment);
}
