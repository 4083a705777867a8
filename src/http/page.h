/* The few pages for people, who come by the link in a mail: self-contained, no scripts, nothing from elsewhere. */
#ifndef TIDINGS_HTTP_PAGE_H
#define TIDINGS_HTTP_PAGE_H

#include "core/buf.h"
#include "http/problem.h"
#include "http/request.h"

#define PAGE_TYPE "text/html; charset=utf-8"

/* Text for HTML, in element content and in quoted attributes. */
void page_escape(struct buf *out, const char *text, size_t len);

/* "Confirm your e-mail address": a button that posts the token. */
void page_confirm(struct request *r, struct buf *out, const char *token, size_t token_len);
void page_confirmed(struct request *r, struct buf *out);
/* An error. */
void page_problem(struct request *r, const struct problem *p, struct buf *out);

#endif
