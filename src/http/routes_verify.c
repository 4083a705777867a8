/* The link in the mail: a page with a button, and what the button does. Opening the link changes nothing, since mail
 * scanners open every link. No key: the token is the authority. */
#include "core/clock.h"
#include "domain/token.h"
#include "http/answer.h"
#include "http/page.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/url.h"

static enum err read_token(const struct request *r, const struct buf *token, struct uuid *campaign, struct uuid *user)
{
    return token_read(r->http->config->token_secret, token->data ? token->data : "", token->len,
                      clock_wall_us() / 1000000, campaign, user);
}

void route_verify_page(struct request *r)
{
    page_answer_link(r, read_token, page_confirm);
}

static void on_verified(struct request *r, struct action *a, const struct action_result *result)
{
    (void)a;
    if (result->err != ERR_NONE) {
        answer_error(r, result->err);
        return;
    }
    struct buf *out = answer_body(r);
    page_confirmed(r, out);
    answer_send(r, 200, PAGE_TYPE, out);
}

void route_verify_link(struct request *r)
{
    size_t type_len = 0, len;
    const char *type = request_header(r, "content-type", &type_len), *form = request_body(r, &len);
    if (!type || !content_type_is(type, type_len, "application/x-www-form-urlencoded")) {
        answer_error(r, ERR_MEDIA_TYPE);
        return;
    }
    struct buf token = {0};
    struct uuid campaign, user;
    enum err err = url_field(form, len, "token", &token) ? read_token(r, &token, &campaign, &user) : ERR_BAD_TOKEN;
    buf_free(&token);
    if (err != ERR_NONE) {
        answer_error(r, err);
        return;
    }
    struct action *a = action_new(ACTION_VERIFY, 0);
    a->account_no = 0; /* not known here, and not asked for */
    a->campaign_id = r->campaign_id = campaign;
    a->subject = r->user_id = user;
    request_submit(r, a, on_verified);
}
