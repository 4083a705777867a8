/* Webhooks: the account's endpoints, and what was sent to them. They are no lane's: a change is one statement, over the reads'
 * connections. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/members.h"
#include "delivery/webhook.h"
#include "http/answer.h"
#include "http/idempotency.h"
#include "http/reading.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/url.h"
#include "http/webhook_secret.h"

enum { DESCRIPTION_MAX_CHARS = 200, EVENT_TYPES_MAX = 32 };

/* --- changes ---------------------------------------------------------------------------------------------------- */

/* What waits for one. */
struct change {
    void *request;
    int status; /* when it was done */
};

static enum err err_of(const char *slug)
{
    for (int e = ERR_NONE + 1; e < ERR_COUNT; e++)
        if (strcmp(err_slug((enum err)e), slug) == 0)
            return (enum err)e;
    return ERR_INTERNAL;
}

static void refuse(struct request *r, enum err err)
{
    char detail[80];
    if (err == ERR_LIMIT_REACHED) {
        snprintf(detail, sizeof detail, "An account may have %" PRId64 " webhooks.", r->http->config->webhooks_max);
        answer_fault(r, err, NULL, detail);
    } else if (err == ERR_KEY_REUSED) {
        answer_fault(r, err, "Idempotency-Key", NULL);
    } else {
        answer_error(r, err);
    }
}

static void add_location(struct request *r, const char *item)
{
    static const char member[] = "{\"webhook_id\":\"";
    char location[sizeof "/v1/webhooks/" + UUID_TEXT_SIZE];
    if (strncmp(item, member, sizeof member - 1) != 0)
        return;
    snprintf(location, sizeof location, "/v1/webhooks/%.*s", UUID_TEXT_SIZE - 1, item + sizeof member - 1);
    answer_header(r, "location", location);
}

/* Columns: item, fault, replayed. */
static void on_changed(void *arg, enum err err, const PGresult *rows)
{
    struct change c = *(struct change *)arg;
    free(arg);
    struct request *r = request_resume(c.request);
    if (!r)
        return;
    if (err == ERR_NONE && PQgetvalue(rows, 0, 2)[0] == 't')
        answer_header(r, "idempotency-replayed", "true");
    if (err == ERR_NONE && !PQgetisnull(rows, 0, 1))
        err = err_of(PQgetvalue(rows, 0, 1));
    if (err != ERR_NONE) {
        refuse(r, err);
        return;
    }
    const char *item = PQgetvalue(rows, 0, 0);
    if (c.status == 201)
        add_location(r, item);
    struct buf *out = answer_body(r);
    buf_adds(out, item);
    answer_json(r, c.status, out);
}

/* args: members that were begun, and end here. */
static void change(struct request *r, const char *kind, struct uuid webhook, struct uuid delivery, struct buf *args,
                   int status)
{
    char account[16], id[UUID_TEXT_SIZE], delivery_id[UUID_TEXT_SIZE], key[UUID_TEXT_SIZE], request[UUID_TEXT_SIZE];
    struct idempotency k = {.given = false};
    member_int(args, "keep_s", r->http->config->idempotency_keep_s);
    members_end(args);
    if (strcmp(r->route->method, "POST") == 0 && !idempotency_of(r, &k))
        return;
    snprintf(account, sizeof account, "%" PRIu32, r->key.account_no);
    uuid_format(webhook, id);
    uuid_format(delivery, delivery_id);
    uuid_format(k.key, key);
    uuid_format(k.request, request);
    const char *const values[] = {
        account, kind, id, delivery_id, buf_cstr(args), k.given ? key : NULL, k.given ? request : NULL};
    struct change *c = xmalloc(sizeof *c);
    *c = (struct change){.request = request_wait(r, ERR_OUTCOME_UNKNOWN), .status = status};
    enum err err = reader_submit(r->http->reader, READ_CHANGE_WEBHOOK, 7, values, on_changed, c);
    if (err == ERR_NONE)
        return;
    free(c);
    answer_error(request_resume(r), err);
}

/* --- members ---------------------------------------------------------------------------------------------------- */

static void add_url(struct body *b, const struct config *config, enum body_need need, struct buf *args)
{
    struct text url;
    char text[URL_MAX + 1], origin[WEBHOOK_ORIGIN_SIZE], detail[160];
    if (!body_text(b, "url", need, 1, URL_MAX, &url))
        return;
    if (!url_is_web(url.data, url.len)) { /* ASCII, so it fits */
        body_fault(b, ERR_INVALID, "url", "url must be a complete http or https address.");
        return;
    }
    memcpy(text, url.data, url.len);
    text[url.len] = '\0';
    const char *special = strcmp(config->webhook_allow_private, "on") == 0 ? NULL : webhook_special(text);
    if (!webhook_origin(text, origin)) {
        body_fault(b, ERR_INVALID, "url", "url must be a complete http or https address.");
    } else if (special) {
        snprintf(detail, sizeof detail, "url has %s, which webhooks may not go to.", special);
        body_fault(b, ERR_INVALID, "url", detail);
    }
    member_text(args, "url", url.data, url.len);
}

/* A type's name, or "*" alone. */
static bool type_is_good(const json_t *types, size_t i)
{
    const char *name = json_string_value(json_array_get(types, i));
    if (!name)
        return false;
    for (size_t k = 0; k < i; k++)
        if (strcmp(json_string_value(json_array_get(types, k)), name) == 0)
            return false;
    return strcmp(name, "*") == 0 ? json_array_size(types) == 1 : event_type_parse(name, strlen(name)) != EVENT_NONE;
}

static void add_event_types(struct body *b, bool all_by_default, struct buf *args)
{
    json_t *types = NULL;
    if (!body_array(b, "event_types", BODY_OPTIONAL, EVENT_TYPES_MAX, &types)) {
        if (all_by_default)
            member_json(args, "event_types", "[\"*\"]");
        return;
    }
    bool good = json_array_size(types) > 0;
    for (size_t i = 0; good && i < json_array_size(types); i++)
        good = type_is_good(types, i);
    if (!good) {
        body_fault(b, ERR_INVALID, "event_types",
                   "event_types must be types of events, each once, or [\"*\"] for all.");
        return;
    }
    char *text = json_dumps(types, JSON_COMPACT);
    if (!text)
        abort(); /* out of memory */
    member_json(args, "event_types", text);
    free(text);
}

static void add_description(struct body *b, bool null_removes, struct buf *args)
{
    struct text description;
    bool removed = null_removes && body_null(b, "description");
    if (body_text(b, "description", BODY_OPTIONAL, 1, DESCRIPTION_MAX_CHARS, &description))
        member_text(args, "description", description.data, description.len);
    else if (removed)
        member_json(args, "description", NULL);
}

static void add_secret(struct body *b, struct buf *args)
{
    struct text secret;
    char made[WEBHOOK_SECRET_SIZE];
    if (body_text(b, "secret", BODY_OPTIONAL, 1, WEBHOOK_SECRET_SIZE, &secret)) {
        if (!webhook_secret_valid(secret))
            body_fault(b, ERR_INVALID, "secret", "secret must be whsec_ and the base64 of 24 to 64 bytes.");
        member_text(args, "secret", secret.data, secret.len);
        return;
    }
    webhook_secret_make(made);
    member_string(args, "secret", made);
}

static void add_status(struct body *b, struct buf *args)
{
    struct text status;
    if (!body_text(b, "status", BODY_OPTIONAL, 1, 16, &status))
        return;
    bool enabled = status.len == strlen("enabled") && memcmp(status.data, "enabled", status.len) == 0;
    bool disabled = status.len == strlen("disabled") && memcmp(status.data, "disabled", status.len) == 0;
    if (enabled || disabled)
        member_string(args, "status", enabled ? "enabled" : "disabled");
    else
        body_fault(b, ERR_INVALID, "status", "status must be enabled or disabled.");
}

/* --- operations ------------------------------------------------------------------------------------------------- */

void route_create_webhook(struct request *r)
{
    struct body b;
    struct buf args = {0};
    route_body(r, &b);
    members_begin(&args);
    add_url(&b, r->http->config, BODY_REQUIRED, &args);
    add_event_types(&b, true, &args);
    add_description(&b, false, &args);
    add_secret(&b, &args);
    member_int(&args, "max", r->http->config->webhooks_max);
    if (route_body_ends(r, &b)) {
        body_clear(&b);
        change(r, "create", uuid_v7(), (struct uuid){{0}}, &args, 201);
    }
    buf_free(&args);
}

void route_update_webhook(struct request *r)
{
    struct body b;
    struct buf args = {0};
    route_body(r, &b);
    members_begin(&args);
    add_url(&b, r->http->config, BODY_OPTIONAL, &args);
    add_event_types(&b, false, &args);
    add_description(&b, true, &args);
    add_status(&b, &args);
    if (route_body_ends(r, &b)) {
        body_clear(&b);
        change(r, "update", r->webhook_id, (struct uuid){{0}}, &args, 200);
    }
    buf_free(&args);
}

void route_delete_webhook(struct request *r)
{
    struct buf args = {0};
    members_begin(&args);
    change(r, "delete", r->webhook_id, (struct uuid){{0}}, &args, 200);
    buf_free(&args);
}

void route_rotate_webhook_secret(struct request *r)
{
    struct buf args = {0};
    char secret[WEBHOOK_SECRET_SIZE];
    if (!route_no_body(r))
        return;
    webhook_secret_make(secret);
    members_begin(&args);
    member_string(&args, "secret", secret);
    member_int(&args, "grace_s", r->http->config->webhook_grace_s);
    change(r, "rotate", r->webhook_id, (struct uuid){{0}}, &args, 200);
    buf_free(&args);
}

static void deliver(struct request *r, const char *kind, struct uuid delivery)
{
    struct buf args = {0};
    if (!route_no_body(r))
        return;
    members_begin(&args);
    change(r, kind, r->webhook_id, delivery, &args, 202);
    buf_free(&args);
}

void route_test_webhook(struct request *r)
{
    deliver(r, "test", uuid_v7());
}

void route_redeliver_webhook(struct request *r)
{
    deliver(r, "redeliver", r->delivery_id);
}

/* --- reads ------------------------------------------------------------------------------------------------------ */

void route_list_webhooks(struct request *r)
{
    struct reading g;
    reading_open_list(&g, r, READ_WEBHOOKS);
    reading_add_page(&g, 1);
    reading_answer(&g, ERR_NO_WEBHOOK);
}

void route_get_webhook(struct request *r)
{
    struct reading g;
    reading_open(&g, r, READ_WEBHOOK);
    g.no_row = ERR_NO_WEBHOOK;
    reading_add_id(&g, r->webhook_id);
    reading_answer(&g, ERR_NO_WEBHOOK);
}

void route_list_webhook_deliveries(struct request *r)
{
    static const char *const statuses[] = {"pending", "delivered", "failed", "cancelled", NULL};
    struct reading g;
    const char *status = NULL;
    reading_open_list(&g, r, READ_WEBHOOK_DELIVERIES);
    g.no_row = ERR_NO_WEBHOOK;
    reading_add_id(&g, r->webhook_id);
    reading_add_page_by_id(&g);
    query_choice(&g.query, "status", statuses, &status);
    reading_add_text(&g, status);
    reading_answer(&g, ERR_NO_WEBHOOK);
}

void route_get_webhook_delivery(struct request *r)
{
    struct reading g;
    reading_open(&g, r, READ_WEBHOOK_DELIVERY);
    g.no_row = ERR_NO_WEBHOOK;
    reading_add_id(&g, r->webhook_id);
    reading_add_id(&g, r->delivery_id);
    reading_answer(&g, ERR_NO_DELIVERY);
}
