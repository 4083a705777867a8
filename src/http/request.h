/* One HTTP request. It outlives its client: libh2o frees its own part when the connection ends, and what was asked of a
 * lane or a reader comes back all the same. Loop thread only.
 *
 * A handler answers at once (answer.h), or asks for something: an action with request_submit, a read with reading.h, anything
 * else with request_wait; in whose callback
 *     struct request *r = request_resume(arg);
 *     if (!r) return;
 * gives the request back, or NULL when its client is gone or was answered meanwhile (it took too long). */
#ifndef TIDINGS_HTTP_REQUEST_H
#define TIDINGS_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/uuid.h"
#include "domain/event.h"
#include "http/auth.h"
#include "http/router.h"
#include "store/action.h"

#define REQUEST_ID_MAX 128

struct http;
struct conn;
struct st_h2o_req_t;

struct request {
    struct http *http;        /* only while req is not NULL */
    struct st_h2o_req_t *req; /* NULL: answered, or the client is gone */
    struct conn *conn;
    const struct route *route; /* NULL: none */
    bool api;                  /* under /v1: any web page may read the answer, nobody may store it */
    struct api_key key;        /* when the route asks for one */
    struct uuid campaign_id, user_id, referral_id, reward_id; /* of the path; zero: not there */
    struct uuid webhook_id, delivery_id;                      /* likewise */
    int64_t dead_letter_id;                                   /* likewise */
    enum event_type template;                                 /* likewise: whose mail it is for */
    bool rules_in_body;                                       /* a reward is named by a member of reward_rules */
    bool user_in_body; /* a user who is not there is a member's fault, not the path's */
    int64_t started_us;

    unsigned refs; /* libh2o's, and one for each outcome that is waited for */
    bool waiting;
    enum err late; /* what to answer when the outcome does not come in time */
    void (*on_outcome)(struct request *r, struct action *a, const struct action_result *result);
    int64_t deadline_us;
    struct request *older, *newer; /* among those that wait */
    char id[REQUEST_ID_MAX + 1];
};

struct request *request_begin(struct http *h, struct st_h2o_req_t *req);

/* The client's X-Request-Id, when it is 1 to 128 visible ASCII characters; else a new one. */
void request_id_of(const struct st_h2o_req_t *req, char id[REQUEST_ID_MAX + 1]);

/* Hands the action over, with the request's Idempotency-Key if it has one, or answers why not. on_outcome is called when
 * the client still waits; it must answer. */
void request_submit(struct request *r, struct action *a,
                    void (*on_outcome)(struct request *r, struct action *a, const struct action_result *result));
/* For anything else that ends in a callback: the arg to give to it. The callback must come, once. */
void *request_wait(struct request *r, enum err late);
struct request *request_resume(void *arg);

/* Parts of what the client sent; valid until the answer. A header that is not there: NULL. */
const char *request_header(const struct request *r, const char *lower_case_name, size_t *len);
const char *request_body(const struct request *r, size_t *len);
const char *request_query(const struct request *r, size_t *len);

/* Answers those that have waited too long; `all`: those that still wait at the server's end. */
void requests_expire(struct http *h, int64_t now_us, bool all);

#endif
