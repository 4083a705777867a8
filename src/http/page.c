/* Pages for people. */
#include "http/page.h"

#include <string.h>

#include "http/answer.h"
#include "http/url.h"

static const char style[] =
    "body{font:18px/1.5 system-ui,sans-serif;color:#222;background:#f6f6f4;margin:0}"
    "main{max-width:30em;margin:15vh auto 0;padding:2em;background:#fff;border-radius:8px}"
    "h1{font-size:1.4em;margin-top:0}"
    "button{font:inherit;padding:.6em 1.4em;border:0;border-radius:6px;background:#1a5fb4;color:#fff;"
    "cursor:pointer}"
    "small{color:#777}";

/* What a page may do: show itself and post its form to where it came from. */
static const char policy[] = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
                             "frame-ancestors 'none'";

static void begin(struct request *r, struct buf *out, const char *title)
{
    answer_header(r, "content-security-policy", policy);
    answer_header(r, "referrer-policy", "no-referrer"); /* the token is in the page's address */
    answer_header(r, "x-content-type-options", "nosniff");
    buf_adds(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"><title>");
    buf_adds(out, title);
    buf_adds(out, "</title><style>");
    buf_adds(out, style);
    buf_adds(out, "</style></head><body><main><h1>");
    buf_adds(out, title);
    buf_adds(out, "</h1>\n");
}

static void end(struct buf *out)
{
    buf_adds(out, "</main></body></html>\n");
}

/* A button that posts the token. action: relative, so that it keeps whatever prefix PUBLIC_URL has, and without the token. */
static void add_button(struct buf *out, const char *action, const char *label, const char *token, size_t token_len)
{
    buf_adds(out, "<form method=\"post\" action=\"");
    buf_adds(out, action);
    buf_adds(out, "\"><input type=\"hidden\" name=\"token\" value=\"");
    buf_add_html(out, token, token_len);
    buf_adds(out, "\"><button>");
    buf_adds(out, label);
    buf_adds(out, "</button></form>\n");
}

void page_confirm(struct request *r, struct buf *out, const char *token, size_t token_len)
{
    begin(r, out, "Confirm your e-mail address");
    buf_adds(out, "<p>One click, and you are in.</p>\n");
    add_button(out, "verify", "Confirm", token, token_len);
    end(out);
}

void page_confirmed(struct request *r, struct buf *out)
{
    begin(r, out, "Thank you");
    buf_adds(out, "<p>Your e-mail address is confirmed. You can close this page.</p>\n");
    end(out);
}

void page_unsubscribe(struct request *r, struct buf *out, const char *token, size_t token_len)
{
    begin(r, out, "No more mails?");
    buf_adds(out, "<p>You will get no more mails of this campaign. Your place in it stays yours.</p>\n");
    add_button(out, "unsubscribe", "Unsubscribe", token, token_len);
    end(out);
}

void page_unsubscribed(struct request *r, struct buf *out)
{
    begin(r, out, "You are unsubscribed");
    buf_adds(out, "<p>You will get no more mails of this campaign. You can close this page.</p>\n");
    end(out);
}

void page_answer_link(struct request *r,
                      enum err (*read)(const struct request *r, const struct buf *token, struct uuid *campaign,
                                       struct uuid *user),
                      void (*show)(struct request *r, struct buf *out, const char *token, size_t token_len))
{
    struct buf token = {0};
    struct uuid campaign, user;
    size_t len;
    const char *query = request_query(r, &len);
    enum err err = url_field(query, len, "token", &token) ? read(r, &token, &campaign, &user) : ERR_BAD_TOKEN;
    if (err == ERR_NONE) {
        struct buf *out = answer_body(r);
        show(r, out, token.data, token.len);
        answer_send(r, 200, PAGE_TYPE, out);
    } else {
        answer_error(r, err);
    }
    buf_free(&token);
}

static const char *title_of(enum err err)
{
    switch (err) {
    case ERR_BAD_TOKEN: return "This link is not valid";
    case ERR_TOKEN_EXPIRED: return "This link has expired";
    case ERR_NO_CAMPAIGN:
    case ERR_NO_USER: return "This signup is no longer there";
    default: return err_retriable(err) ? "We cannot do that right now" : "Something went wrong";
    }
}

static const char *advice_for(enum err err)
{
    switch (err) {
    case ERR_BAD_TOKEN:
        return "Please open the link from your mail again, in full: it may have been cut when it was copied.";
    case ERR_TOKEN_EXPIRED: return "Please ask for a new mail.";
    default:
        return err_retriable(err) ? "Please open the link from your mail again in a minute."
                                  : "Please open the link from your mail again.";
    }
}

void page_problem(struct request *r, const struct problem *p, struct buf *out)
{
    begin(r, out, title_of(p->err));
    buf_adds(out, "<p>");
    buf_adds(out, advice_for(p->err));
    buf_adds(out, "</p>\n<p><small>Reference: ");
    buf_add_html(out, r->id, strlen(r->id));
    buf_adds(out, "</small></p>\n");
    end(out);
}
