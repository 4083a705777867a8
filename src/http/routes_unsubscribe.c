/* The link to get no more mails: a page with a button for people, and RFC 8058's one click, which mail programs make for
 * them. Opening the link changes nothing. No key: the token is the authority. */
#include "domain/token.h"
#include "http/answer.h"
#include "http/page.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/url.h"
#include "store/reader.h"

static enum err read_token(const struct request *r, const struct buf *token, struct uuid *campaign, struct uuid *user)
{
    const char *secret = r->http->config->token_secret;
    if (!secret) /* no mail of ours went out */
        return ERR_BAD_TOKEN;
    return token_read_unsubscribe(secret, token->data ? token->data : "", token->len, campaign, user);
}

void route_unsubscribe_page(struct request *r)
{
    page_answer_link(r, read_token, page_unsubscribe);
}

static void on_unsubscribed(void *arg, enum err err, const PGresult *rows)
{
    struct request *r = request_resume(arg);
    if (!r)
        return;
    if (err == ERR_NONE && PQgetvalue(rows, 0, 0)[0] != 't')
        err = ERR_NO_USER;
    if (err != ERR_NONE) {
        answer_error(r, err);
        return;
    }
    struct buf *out = answer_body(r);
    page_unsubscribed(r, out);
    answer_send(r, 200, PAGE_TYPE, out);
}

/* The button sends the token in its form; a mail program posts to the link as it is, with a form that says nothing more. */
static enum err find_token(struct request *r, struct uuid *campaign, struct uuid *user)
{
    struct buf token = {0};
    size_t type_len = 0, len;
    enum err err = ERR_NONE;
    const char *query = request_query(r, &len);
    if (!url_field(query, len, "token", &token)) {
        const char *type = request_header(r, "content-type", &type_len), *form = request_body(r, &len);
        if (!type || !content_type_is(type, type_len, "application/x-www-form-urlencoded"))
            err = ERR_MEDIA_TYPE;
        else if (!url_field(form, len, "token", &token))
            err = ERR_BAD_TOKEN;
    }
    if (err == ERR_NONE)
        err = read_token(r, &token, campaign, user);
    buf_free(&token);
    return err;
}

void route_unsubscribe(struct request *r)
{
    struct uuid campaign, user;
    char campaign_text[UUID_TEXT_SIZE], user_text[UUID_TEXT_SIZE];
    enum err err = find_token(r, &campaign, &user);
    if (err != ERR_NONE) {
        answer_error(r, err);
        return;
    }
    uuid_format(campaign, campaign_text);
    uuid_format(user, user_text);
    void *arg = request_wait(r, ERR_OUTCOME_UNKNOWN);
    err = reader_submit(r->http->reader, READ_UNSUBSCRIBE, 2, (const char *const[]){campaign_text, user_text},
                        on_unsubscribed, arg);
    if (err != ERR_NONE)
        answer_error(request_resume(arg), err);
}
