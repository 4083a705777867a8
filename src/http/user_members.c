/* Referral codes and links in answers. */
#include "http/user_members.h"

#include "core/members.h"
#include "domain/referral_code.h"
#include "domain/referral_link.h"
#include "http/answer.h"
#include "http/server.h"

bool installation_known(struct request *r)
{
    if (r->http->installation->shards > 0)
        return true;
    answer_error(r, ERR_DB_UNAVAILABLE);
    return false;
}

void add_referral(struct request *r, struct buf *out, uint32_t place, const char *landing_url)
{
    char code[REFERRAL_CODE_SIZE];
    struct buf *link = &r->http->link;
    buf_clear(link);
    referral_code_make(r->http->installation->referral_code_key, r->campaign_id, place, code);
    referral_link(r->http->config->public_url, landing_url, code, link);
    member_string(out, "referral_code", code);
    member_text(out, "referral_link", link->data, link->len);
}
