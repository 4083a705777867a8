/* Mail templates of a campaign's own: set, shown, taken away, tried out. None of it is an action: nothing happens in the
 * campaign, so there is no event and no version. */
#include <stdlib.h>
#include <string.h>

#include "core/members.h"
#include "handlers/email.h"
#include "http/answer.h"
#include "http/reading.h"
#include "http/routes.h"
#include "http/server.h"

enum { SUBJECT_MAX_CHARS = 200, TEXT_MAX_CHARS = 20000, HTML_MAX_CHARS = 50000 };

/* --- reading what is there -------------------------------------------------------------------------------------- */

static void open_campaign(struct reading *g, struct request *r, enum read_query read)
{
    reading_open(g, r, read);
    reading_add_id(g, r->campaign_id);
}

static void open_template(struct reading *g, struct request *r, enum read_query read)
{
    open_campaign(g, r, read);
    reading_add_text(g, event_type_name(r->template));
}

void route_list_templates(struct request *r)
{
    struct reading g;
    open_campaign(&g, r, READ_MAIL_TEMPLATES);
    reading_answer(&g, ERR_NO_CAMPAIGN);
}

void route_get_template(struct request *r)
{
    struct reading g;
    open_template(&g, r, READ_MAIL_TEMPLATE);
    reading_answer(&g, ERR_NO_TEMPLATE);
}

/* --- reading a body --------------------------------------------------------------------------------------------- */

/* What a body says of a template, as NUL-terminated texts. */
struct draft {
    char *subject, *text, *html; /* NULL: not there */
};

static void draft_free(struct draft *d)
{
    free(d->subject);
    free(d->text);
    free(d->html);
}

static char *copy(struct text t)
{
    return t.data ? xstrndup(t.data, t.len) : NULL;
}

/* The member at fault, with the line and what is wrong there. */
static void template_fault(struct body *b, const char *member, char *why)
{
    text_clean(why); /* it quotes the template, perhaps not to the end of a character */
    char detail[sizeof b->detail];
    snprintf(detail, sizeof detail, "%s: %s.", member, why);
    body_fault(b, ERR_INVALID, member, detail);
}

/* Whether the texts make a template. */
static void check(struct body *b, const struct draft *d)
{
    const char *at;
    char why[200];
    const struct template_source source = {.subject = d->subject, .text = d->text, .html = d->html};
    struct template *t = email_template(&source, &at, why, sizeof why);
    if (!t)
        template_fault(b, at, why);
    template_free(t);
}

/* False: answered. subject and text are there, or, without `need`, none of the three. */
static bool read_draft(struct request *r, enum body_need need, struct draft *d)
{
    struct body b;
    struct text subject = {0}, text = {0}, html = {0};
    route_body(r, &b);
    body_text(&b, "subject", need, 1, SUBJECT_MAX_CHARS, &subject);
    if (subject.data)
        need = BODY_REQUIRED;
    body_lines(&b, "text", need, 1, TEXT_MAX_CHARS, &text);
    body_lines(&b, "html", BODY_OPTIONAL, 1, HTML_MAX_CHARS, &html);
    if (b.err == ERR_NONE && !subject.data && (text.data || html.data))
        body_fault(&b, ERR_INVALID, "subject", "subject is required, where text or html is given.");
    *d = (struct draft){.subject = copy(subject), .text = copy(text), .html = copy(html)};
    if (b.err == ERR_NONE && d->subject)
        check(&b, d);
    if (!route_body_ends(r, &b)) {
        draft_free(d);
        return false;
    }
    body_clear(&b);
    return true;
}

/* --- changing --------------------------------------------------------------------------------------------------- */

/* Columns: item; no row: there is no such campaign. A PUT is answered with the item. */
static void answer_change(void *arg, enum err err, const PGresult *rows, bool with_item)
{
    struct request *r = request_resume(arg);
    if (!r)
        return;
    if (err == ERR_NONE && PQntuples(rows) == 0)
        err = ERR_NO_CAMPAIGN;
    else if (err == ERR_NONE && PQgetisnull(rows, 0, 0))
        err = ERR_NO_TEMPLATE;
    if (err != ERR_NONE) {
        answer_error(r, err);
    } else if (with_item) {
        struct buf *out = answer_body(r);
        buf_adds(out, PQgetvalue(rows, 0, 0));
        answer_json(r, 200, out);
    } else {
        answer_empty(r, 204);
    }
}

static void on_put(void *arg, enum err err, const PGresult *rows)
{
    answer_change(arg, err, rows, true);
}

static void on_deleted(void *arg, enum err err, const PGresult *rows)
{
    answer_change(arg, err, rows, false);
}

static void change(struct reading *g, read_done on_done)
{
    void *arg = request_wait(g->r, ERR_OUTCOME_UNKNOWN);
    enum err err = reader_submit(g->r->http->reader, g->read, g->count, g->values, on_done, arg);
    query_clear(&g->query);
    if (err != ERR_NONE)
        answer_error(request_resume(arg), err);
}

void route_put_template(struct request *r)
{
    struct reading g;
    struct draft d;
    if (!read_draft(r, BODY_REQUIRED, &d))
        return;
    open_template(&g, r, READ_PUT_MAIL_TEMPLATE);
    reading_add_text(&g, d.subject);
    reading_add_text(&g, d.text);
    reading_add_text(&g, d.html);
    change(&g, on_put);
    draft_free(&d);
}

void route_delete_template(struct request *r)
{
    struct reading g;
    open_template(&g, r, READ_DELETE_MAIL_TEMPLATE);
    change(&g, on_deleted);
}

/* --- trying out ------------------------------------------------------------------------------------------------- */

struct preview {
    void *request;
    struct draft draft;
};

/* read_mail_preview's columns */
enum { NAME, LANDING_URL, SUBJECT, TEXT, HTML };

static const char *value(const PGresult *rows, int column)
{
    return PQgetisnull(rows, 0, column) ? NULL : PQgetvalue(rows, 0, column);
}

static void answer_preview(struct request *r, const struct template *t, const PGresult *rows)
{
    struct email_parts parts = {0};
    struct buf *out = answer_body(r);
    email_sample(t, r->http->config, value(rows, NAME), value(rows, LANDING_URL), &parts);
    members_begin(out);
    member_string(out, "template", event_type_name(r->template));
    member_string(out, "subject", buf_cstr(&parts.subject));
    member_string(out, "text", buf_cstr(&parts.text));
    member_string(out, "html", parts.html.len > 0 ? buf_cstr(&parts.html) : NULL);
    members_end(out);
    answer_json(r, 200, out);
    email_parts_free(&parts);
}

/* The body's, the campaign's or the service's. */
static void preview(struct request *r, const struct draft *d, const PGresult *rows)
{
    const char *at;
    char why[200];
    struct template_source source = {.subject = d->subject, .text = d->text, .html = d->html};
    if (!source.subject)
        source = (struct template_source){
            .subject = value(rows, SUBJECT), .text = value(rows, TEXT), .html = value(rows, HTML)};
    struct template *own = source.subject ? email_template(&source, &at, why, sizeof why) : NULL;
    answer_preview(r, own ? own : r->http->texts.templates[r->template], rows);
    template_free(own);
}

static void on_preview(void *arg, enum err err, const PGresult *rows)
{
    struct preview *p = arg;
    struct request *r = request_resume(p->request);
    if (r && err == ERR_NONE && PQntuples(rows) == 0)
        err = ERR_NO_CAMPAIGN;
    if (r && err != ERR_NONE)
        answer_error(r, err);
    else if (r)
        preview(r, &p->draft, rows);
    draft_free(&p->draft);
    free(p);
}

void route_preview_template(struct request *r)
{
    struct reading g;
    struct draft d = {0};
    size_t len;
    request_body(r, &len);
    if (len > 0 && !read_draft(r, BODY_OPTIONAL, &d))
        return;
    struct preview *p = xmalloc(sizeof *p);
    *p = (struct preview){.request = request_wait(r, ERR_TIMEOUT), .draft = d};
    open_template(&g, r, READ_MAIL_PREVIEW);
    enum err err = reader_submit(r->http->reader, g.read, g.count, g.values, on_preview, p);
    query_clear(&g.query);
    if (err == ERR_NONE)
        return;
    answer_error(request_resume(p->request), err);
    draft_free(&p->draft);
    free(p);
}
