/* What happens to every request before its handler. */
#include "http/gate.h"

#include <stdlib.h>
#include <string.h>

#include "handlers/email.h"
#include "http/answer.h"
#include "http/framing.h"
#include "http/refusal.h"
#include "http/routes.h"
#include "http/server.h"
#include "http/url.h"

#define OPS_PATH "/v1/ops/"

/* Parameters that a pattern may have: all are ids. */
static const struct {
    const char *name;
    size_t offset; /* in struct request */
    enum err err;  /* what an id that cannot be one answers */
    const char *detail;
} parameters[] = {
    {"campaign_id", offsetof(struct request, campaign_id), ERR_NO_CAMPAIGN, "campaign_id in the path is not a UUID."},
    {"user_id", offsetof(struct request, user_id), ERR_NO_USER, "user_id in the path is not a UUID."},
    {"referral_id", offsetof(struct request, referral_id), ERR_NO_REFERRAL, "referral_id in the path is not a UUID."},
    {"reward_id", offsetof(struct request, reward_id), ERR_NO_REWARD, "reward_id in the path is not a UUID."},
    {"webhook_id", offsetof(struct request, webhook_id), ERR_NO_WEBHOOK, "webhook_id in the path is not a UUID."},
    {"delivery_id", offsetof(struct request, delivery_id), ERR_NO_DELIVERY, "delivery_id in the path is not a UUID."},
};

static bool read_id(const struct route_param *p, struct uuid *id)
{
    char text[3 * (UUID_TEXT_SIZE - 1)]; /* room for a UUID with every character encoded */
    size_t len;
    if (uuid_parse(p->value, p->value_len, id)) /* nothing is encoded */
        return true;
    return p->value_len <= sizeof text && url_decode(p->value, p->value_len, false, text, &len) &&
           uuid_parse(text, len, id);
}

/* The one that is a number. */
static bool read_number(struct request *r, const struct route_param *p)
{
    char digits[19] = "";
    if (p->value_len < sizeof digits)
        memcpy(digits, p->value, p->value_len);
    bool good = digits[0] && strspn(digits, "0123456789") == p->value_len;
    if (good)
        r->dead_letter_id = strtoll(digits, NULL, 10);
    else
        answer_fault(r, ERR_NO_DEAD_LETTER, "dead_letter_id", "dead_letter_id in the path is not a number.");
    return good;
}

/* The one that is the name of a mail template: a type of event. */
static bool read_template(struct request *r, const struct route_param *p)
{
    r->template = event_type_parse(p->value, p->value_len);
    bool good = r->template != EVENT_NONE && (EMAIL_TYPES & 1u << r->template);
    if (!good)
        answer_fault(r, ERR_NO_TEMPLATE, "template", "template in the path is no type of event that causes a mail.");
    return good;
}

/* Reads the path's parameters; false: answered. Done only after the key was checked, so that strangers learn nothing. */
static bool read_parameters(struct request *r, const struct route_match *m)
{
    for (size_t i = 0; i < m->param_count; i++) {
        const struct route_param *p = &m->params[i];
        if (r->route->access == ACCESS_OPS && !read_number(r, p))
            return false;
        if (p->name_len == strlen("template") && memcmp(p->name, "template", p->name_len) == 0 && !read_template(r, p))
            return false;
        for (size_t k = 0; k < sizeof parameters / sizeof parameters[0]; k++) {
            if (strlen(parameters[k].name) != p->name_len || memcmp(parameters[k].name, p->name, p->name_len) != 0)
                continue;
            if (!read_id(p, (struct uuid *)((char *)r + parameters[k].offset))) {
                answer_fault(r, parameters[k].err, parameters[k].name, parameters[k].detail);
                return false;
            }
        }
    }
    return true;
}

static void find_route(struct request *r, struct route_match *m)
{
    const char *path, *query;
    size_t path_len, query_len;
    url_split(r->req->input.path.base, r->req->input.path.len, &path, &path_len, &query, &query_len);
    r->api = path_len >= 3 && memcmp(path, "/v1", 3) == 0 && (path_len == 3 || path[3] == '/');
    router_match(r->http->router, r->req->input.method.base, r->req->input.method.len, path, path_len, m);
    if (!r->http->config->ops_token && path_len >= sizeof OPS_PATH - 1 &&
        memcmp(path, OPS_PATH, sizeof OPS_PATH - 1) == 0)
        *m = (struct route_match){.route = NULL};
    r->route = m->route;
}

static void handle(struct request *r, const struct route_match *m)
{
    if (read_parameters(r, m))
        r->route->handle(r);
}

/* --- keys ------------------------------------------------------------------------------------------------------- */

static void on_key(struct request *r, const struct route_match *m, enum err err, const struct api_key *key)
{
    if (err == ERR_UNAUTHORIZED) {
        size_t len;
        bool given = request_header(r, "authorization", &len) != NULL;
        answer_fault(r, err, NULL,
                     given ? "The API key is not known, or was revoked." : "Send it as Authorization: Bearer KEY.");
        return;
    }
    if (err != ERR_NONE) {
        answer_error(r, err);
        return;
    }
    r->key = *key;
    if (r->route->access == ACCESS_SECRET && !key->secret)
        answer_fault(r, ERR_FORBIDDEN, NULL,
                     "This needs a secret key; a publishable one is for what a visitor's browser does.");
    else
        handle(r, m);
}

static void on_key_later(void *arg, enum err err, const struct api_key *key)
{
    struct request *r = request_resume(arg);
    struct route_match m;
    if (!r)
        return;
    find_route(r, &m); /* once more: cheaper than keeping it, as most keys are known at once */
    on_key(r, &m, err, key);
}

static void check_key(struct request *r, const struct route_match *m)
{
    enum err err;
    struct api_key key;
    size_t len = 0;
    const char *header = request_header(r, "authorization", &len);
    void *arg = request_wait(r, ERR_TIMEOUT);
    if (!auth_check(r->http->auth, header, len, &err, &key, on_key_later, arg))
        return;
    request_resume(arg);
    on_key(r, m, err, &key);
}

static void check_operator(struct request *r, const struct route_match *m)
{
    size_t len = 0;
    const char *header = request_header(r, "authorization", &len);
    if (auth_has_token(header, len, r->http->config->ops_token))
        handle(r, m);
    else
        answer_fault(r, ERR_UNAUTHORIZED, NULL, "Send OPS_TOKEN as Authorization: Bearer TOKEN.");
}

/* --- routes ----------------------------------------------------------------------------------------------------- */

static void answer_options(struct request *r, const struct route_match *m)
{
    answer_header(r, "allow", m->allow);
    if (r->api) {
        answer_header(r, "access-control-allow-methods", m->allow);
        answer_header(r, "access-control-allow-headers", ALLOWED_HEADERS);
        answer_header(r, "access-control-max-age", "86400");
    }
    answer_empty(r, 204);
}

static void answer_no_route(struct request *r, const struct route_match *m)
{
    if (!m->path_known) {
        answer_error(r, ERR_NO_ROUTE);
    } else if (h2o_memis(r->req->input.method.base, r->req->input.method.len, H2O_STRLIT("OPTIONS"))) {
        answer_options(r, m);
    } else {
        answer_header(r, "allow", m->allow);
        answer_error(r, ERR_METHOD);
    }
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct http *h = *(struct http **)(self + 1);
    struct request *r = request_begin(h, req);
    struct route_match m;
    const h2o_buffer_t *input = req->conn->callbacks->get_socket(req->conn)->input;
    const char *fault = framing_fault(input->bytes, input->size, req->version < 0x101);
    find_route(r, &m);
    if (fault) {
        answer_and_close(r);
        answer_fault(r, ERR_MALFORMED, NULL, fault);
    } else if (!m.route) {
        answer_no_route(r, &m);
    } else if (m.route->access == ACCESS_OPEN) {
        handle(r, &m);
    } else if (m.route->access == ACCESS_OPS) {
        check_operator(r, &m);
    } else {
        check_key(r, &m);
    }
    return 0;
}

void gate_install(struct http *h, h2o_pathconf_t *everything)
{
    h2o_handler_t *handler = h2o_create_handler(everything, sizeof *handler + sizeof h);
    *(struct http **)(handler + 1) = h;
    handler->on_req = on_request;
    refusal_install(h, everything);
}
