/* Errors are values: one table gives each its name, HTTP status, whether trying again can help, and a title.
 * Any thread. A problem+json answer's `type` is "urn:tidings:problem:<slug>". */
#ifndef TIDINGS_CORE_ERR_H
#define TIDINGS_CORE_ERR_H

#include <stdbool.h>

/*        name                 HTTP  retriable slug                     title */
#define ERR_TABLE(X)                                                                                                   \
    X(ERR_NONE,               200, false, "none",                  "No error")                                         \
    X(ERR_MALFORMED,          400, false, "malformed",             "The request cannot be parsed")                     \
    X(ERR_UNAUTHORIZED,       401, false, "unauthorized",          "A valid API key is required")                      \
    X(ERR_FORBIDDEN,          403, false, "forbidden",             "This API key may not do that")                     \
    X(ERR_NO_ROUTE,           404, false, "no-route",              "No such resource")                                 \
    X(ERR_NO_CAMPAIGN,        404, false, "no-campaign",           "No such campaign")                                 \
    X(ERR_NO_USER,            404, false, "no-user",               "No such user in this campaign")                    \
    X(ERR_NO_REFERRAL,        404, false, "no-referral",           "No such referral in this campaign")                \
    X(ERR_NO_REWARD,          404, false, "no-reward",             "No such reward in this campaign")                  \
    X(ERR_NO_DEAD_LETTER,     404, false, "no-dead-letter",        "No such dead letter")                              \
    X(ERR_NO_TEMPLATE,        404, false, "no-template",           "No such mail template")                            \
    X(ERR_NO_WEBHOOK,         404, false, "no-webhook",            "No such webhook")                                  \
    X(ERR_NO_DELIVERY,        404, false, "no-delivery",           "No such delivery of this webhook")                 \
    X(ERR_METHOD,             405, false, "method-not-allowed",    "Method not allowed here")                          \
    X(ERR_EMAIL_TAKEN,        409, false, "email-taken",           "This e-mail address has already signed up")        \
    X(ERR_ALREADY_VERIFIED,   409, false, "already-verified",      "This user has already verified")                   \
    X(ERR_ALREADY_EARNED,     409, false, "already-earned",        "This user has already earned this reward")         \
    X(ERR_CAMPAIGN_CLOSED,    409, false, "campaign-closed",       "This campaign is closed")                          \
    X(ERR_CAMPAIGN_OPEN,      409, false, "campaign-open",         "Only a closed campaign can be deleted")            \
    X(ERR_HAS_REFERRER,       409, false, "has-referrer",          "This user already has a referrer")                 \
    X(ERR_LIMIT_REACHED,      409, false, "limit-reached",         "There are as many of these as there may be")       \
    X(ERR_OUT_OF_STOCK,       409, false, "out-of-stock",          "This reward is out of stock")                      \
    X(ERR_VERSION_CONFLICT,   409, false, "version-conflict",      "The campaign is at another version")               \
    X(ERR_DEAD_LETTER_BUSY,   409, false, "dead-letter-busy",      "It is being tried, or parked behind another one")  \
    X(ERR_WEBHOOK_DISABLED,   409, false, "webhook-disabled",      "This webhook is disabled")                         \
    X(ERR_TOO_LARGE,          413, false, "too-large",             "The request is too large")                         \
    X(ERR_MEDIA_TYPE,         415, false, "media-type",            "The body must be application/json")                \
    X(ERR_INVALID,            422, false, "invalid",               "A field is not valid")                             \
    X(ERR_NO_REFERRER,        422, false, "unknown-referral-code", "No user has this referral code")                   \
    X(ERR_SELF_REFERRAL,      422, false, "self-referral",         "Nobody can refer themselves")                      \
    X(ERR_KEY_REUSED,         422, false, "idempotency-key-reused", "This Idempotency-Key was used for another request") \
    X(ERR_BAD_TOKEN,          422, false, "bad-token",             "The verification token is not valid")              \
    X(ERR_TOKEN_EXPIRED,      422, false, "token-expired",         "The verification token has expired")               \
    X(ERR_TOO_SOON,           429, true,  "too-soon",              "Too many of these in a short time")                \
    X(ERR_INTERNAL,           500, false, "internal",              "Internal error")                                   \
    X(ERR_OVERLOADED,         503, true,  "overloaded",            "Too many requests are waiting")                    \
    X(ERR_DB_UNAVAILABLE,     503, true,  "database-unavailable",  "The database is not available")                    \
    X(ERR_OUTCOME_UNKNOWN,    503, true,  "outcome-unknown",       "The outcome of this action is not known")          \
    X(ERR_SHUTTING_DOWN,      503, true,  "shutting-down",         "The service is shutting down")                     \
    X(ERR_TIMEOUT,            504, true,  "timeout",               "The request took too long")

enum err {
#define ERR_ENUM(name, status, retriable, slug, title) name,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
        ERR_COUNT
};

const char *err_name(enum err e);      /* "ERR_INVALID" */
int err_http_status(enum err e);       /* 100..599 */
bool err_retriable(enum err e);        /* the same request may succeed later */
const char *err_slug(enum err e);      /* "invalid" */
const char *err_title(enum err e);     /* a sentence for people */

#endif
