/* The few pages for people, who come by the link in a mail: self-contained, no scripts, nothing from elsewhere. */
#ifndef TIDINGS_HTTP_PAGE_H
#define TIDINGS_HTTP_PAGE_H

#include "core/buf.h"
#include "core/uuid.h"
#include "http/problem.h"
#include "http/request.h"

#define PAGE_TYPE "text/html; charset=utf-8"

/* "Confirm your e-mail address": a button that posts the token. */
void page_confirm(struct request *r, struct buf *out, const char *token, size_t token_len);
void page_confirmed(struct request *r, struct buf *out);
/* "No more mails": likewise. */
void page_unsubscribe(struct request *r, struct buf *out, const char *token, size_t token_len);
void page_unsubscribed(struct request *r, struct buf *out);
/* Answers the GET of a link whose token `read` takes: with the page that `show` makes of it. Opening a link changes nothing. */
void page_answer_link(struct request *r,
                      enum err (*read)(const struct request *r, const struct buf *token, struct uuid *campaign,
                                       struct uuid *user),
                      void (*show)(struct request *r, struct buf *out, const char *token, size_t token_len));
/* An error. */
void page_problem(struct request *r, const struct problem *p, struct buf *out);

#endif
