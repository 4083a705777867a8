/* API keys: a bounded cache in front of one read, and waiters that share it.
 *
 *   (no entry) ──first request──▶ LOADING ──row──▶ KNOWN ────life over or pushed out──▶ (no entry)
 *                                    │  └─no row─▶ UNKNOWN ──┘
 *                                    ├──a revocation──▶ out of the cache: only those who wait get the answer
 *                                    └──read failed──▶ (no entry), all waiters get the error */
#include "http/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"

enum { HASH_SIZE = 32, BUCKETS = 2048 };
enum entry_state { LOADING, KNOWN, UNKNOWN, STATES };

struct waiter {
    struct waiter *next;
    auth_done done;
    void *arg;
};

struct entry {
    struct auth *auth;  /* NULL: the cache was closed while this was being loaded */
    struct entry *next; /* in its bucket */
    struct entry *older,
        *newer; /* KNOWN and UNKNOWN: by age, which is also the order in which their life ends. LOADING:
                                    among those that were taken out of the cache */
    bool out;   /* LOADING: taken out; it is in no bucket */
    enum entry_state state;
    uint8_t hash[HASH_SIZE];
    int64_t asked_us; /* life counts from the read's submission: the row was true then at the earliest */
    struct api_key key;
    struct waiter *waiters, **last_waiter;
};

struct by_age {
    struct entry *oldest, *newest;
};

struct auth {
    struct reader *reader;
    int64_t life_us, live_life_us;
    bool live;
    EVP_MD *sha256;
    EVP_MD_CTX *context;
    struct entry *buckets[BUCKETS];
    size_t counts[STATES];
    struct by_age ages[STATES];
};

struct auth *auth_new(struct reader *reader, int64_t life_ms, int64_t live_life_ms)
{
    struct auth *a = xcalloc(1, sizeof *a);
    a->reader = reader;
    a->life_us = life_ms * 1000;
    a->live_life_us = (live_life_ms > life_ms ? live_life_ms : life_ms) * 1000;
    a->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    a->context = EVP_MD_CTX_new();
    if (!a->sha256 || !a->context)
        abort(); /* OpenSSL without SHA-256, or no memory */
    return a;
}

/* --- the header ------------------------------------------------------------------------------------------------- */

static bool is_base64url(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return true;
}

/* What stands behind `Bearer`; NULL: nothing. */
static const char *cut_token(const char *header, size_t len, size_t *key_len)
{
    if (!header || len < 7 || strncasecmp(header, "bearer ", 7) != 0)
        return NULL;
    const char *key = header + 7, *end = header + len;
    while (key < end && *key == ' ')
        key++;
    while (key < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *key_len = (size_t)(end - key);
    return key;
}

bool auth_has_token(const char *header, size_t len, const char *token)
{
    size_t given_len;
    const char *given = cut_token(header, len, &given_len);
    return given && given_len == strlen(token) && CRYPTO_memcmp(given, token, given_len) == 0;
}

/* What has the form of a key but for its characters; NULL: nothing. */
static const char *cut_key(const char *header, size_t len, size_t *key_len)
{
    const char *key = cut_token(header, len, key_len);
    if (!key || *key_len < 7 + 16 || *key_len > 7 + 100)
        return NULL;
    return memcmp(key, "tk_sec_", 7) == 0 || memcmp(key, "tk_pub_", 7) == 0 ? key : NULL;
}

const char *auth_bearer(const char *header, size_t len, size_t *key_len)
{
    const char *key = cut_key(header, len, key_len);
    return key && is_base64url(key, *key_len) ? key : NULL;
}

/* --- the cache -------------------------------------------------------------------------------------------------- */

static struct entry **bucket_of(struct auth *a, const uint8_t hash[HASH_SIZE])
{
    return &a->buckets[(hash[0] | (size_t)hash[1] << 8) % BUCKETS];
}

static struct entry *find(struct auth *a, const uint8_t hash[HASH_SIZE])
{
    struct entry *e = *bucket_of(a, hash);
    while (e && memcmp(e->hash, hash, HASH_SIZE) != 0)
        e = e->next;
    return e;
}

static void link_newest(struct by_age *ages, struct entry *e)
{
    e->older = ages->newest;
    e->newer = NULL;
    *(ages->newest ? &ages->newest->newer : &ages->oldest) = e;
    ages->newest = e;
}

static void unlink_aged(struct by_age *ages, struct entry *e)
{
    *(e->older ? &e->older->newer : &ages->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &ages->newest) = e->older;
}

static void set_state(struct auth *a, struct entry *e, enum entry_state state)
{
    a->counts[e->state]--;
    a->counts[state]++;
    e->state = state;
    link_newest(&a->ages[state], e);
}

static void leave_bucket(struct auth *a, struct entry *e)
{
    struct entry **at = bucket_of(a, e->hash);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
}

/* Takes an entry out of the cache; its memory is the caller's. */
static void take_out(struct auth *a, struct entry *e)
{
    if (!e->out)
        leave_bucket(a, e);
    a->counts[e->state]--;
    if (e->state != LOADING || e->out)
        unlink_aged(&a->ages[e->state], e);
}

static void forget(struct auth *a, struct entry *e)
{
    take_out(a, e);
    free(e);
}

static bool is_over(const struct auth *a, const struct entry *e, int64_t now_us)
{
    bool longer = a->live && e->state == KNOWN;
    return now_us - e->asked_us >= (longer ? a->live_life_us : a->life_us);
}

/* Drops what is past its life or its bound, oldest first. */
static void trim(struct auth *a, enum entry_state state, size_t max)
{
    int64_t now = clock_mono_us();
    struct entry *e;
    while ((e = a->ages[state].oldest) && (a->counts[state] > max || is_over(a, e, now)))
        forget(a, e);
}

/* What is being looked up now may be out of date before it comes: who asks from now on looks again. */
static void give_up_loads(struct auth *a)
{
    for (size_t i = 0; i < BUCKETS && a->counts[LOADING] > 0; i++)
        for (struct entry *e = a->buckets[i], *next; e; e = next) {
            next = e->next;
            if (e->state != LOADING)
                continue;
            leave_bucket(a, e);
            e->out = true;
            link_newest(&a->ages[LOADING], e);
        }
}

void auth_revoked(struct auth *a, struct uuid key_id)
{
    for (struct entry *e = a->ages[KNOWN].oldest, *newer; e; e = newer) {
        newer = e->newer;
        if (uuid_equal(e->key.key_id, key_id))
            forget(a, e);
    }
    give_up_loads(a);
}

void auth_set_live(struct auth *a, bool live)
{
    a->live = live;
    if (!live)
        return;
    while (a->ages[KNOWN].oldest)
        forget(a, a->ages[KNOWN].oldest);
    give_up_loads(a);
}

/* --- loading ---------------------------------------------------------------------------------------------------- */

static void tell(struct entry *e, enum err err)
{
    struct waiter *w = e->waiters;
    e->waiters = NULL;
    while (w) {
        struct waiter *next = w->next;
        w->done(w->arg, err, err == ERR_NONE ? &e->key : NULL);
        free(w);
        w = next;
    }
}

/* Columns of read_api_key. */
enum { KEY_ID, ACCOUNT_NO, ACCOUNT_ID, KIND, COLUMNS };

static bool decode_row(const PGresult *rows, struct api_key *key)
{
    if (PQnfields(rows) < COLUMNS)
        return false;
    const char *kind = PQgetvalue(rows, 0, KIND);
    key->account_no = (uint32_t)strtoul(PQgetvalue(rows, 0, ACCOUNT_NO), NULL, 10);
    key->secret = strcmp(kind, "secret") == 0;
    return key->account_no > 0 && (key->secret || strcmp(kind, "publishable") == 0) &&
           uuid_parse(PQgetvalue(rows, 0, KEY_ID), (size_t)PQgetlength(rows, 0, KEY_ID), &key->key_id) &&
           uuid_parse(PQgetvalue(rows, 0, ACCOUNT_ID), (size_t)PQgetlength(rows, 0, ACCOUNT_ID), &key->account_id);
}

static void on_loaded(void *arg, enum err err, const PGresult *rows)
{
    struct entry *e = arg;
    struct auth *a = e->auth;
    if (!a) {
        free(e);
        return;
    }
    enum entry_state state = UNKNOWN;
    if (err == ERR_NONE && PQntuples(rows) == 0) {
        err = ERR_UNAUTHORIZED;
    } else if (err == ERR_NONE && decode_row(rows, &e->key)) {
        state = KNOWN;
    } else {
        if (err == ERR_NONE) {
            log_error("an API key's row cannot be read");
            err = ERR_INTERNAL;
        }
        take_out(a, e);
        tell(e, err);
        free(e);
        return;
    }
    if (e->out) {
        take_out(a, e);
        tell(e, err);
        free(e);
        return;
    }
    set_state(a, e, state);
    tell(e, err);
    trim(a, state, state == KNOWN ? AUTH_MAX_KNOWN : AUTH_MAX_UNKNOWN);
}

static enum err load(struct auth *a, const uint8_t hash[HASH_SIZE], struct entry **out)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * HASH_SIZE + 1] = {0};
    if (a->counts[LOADING] >= AUTH_MAX_LOADS)
        return ERR_OVERLOADED;
    for (size_t i = 0; i < HASH_SIZE; i++) {
        hex[2 * i] = digits[hash[i] >> 4];
        hex[2 * i + 1] = digits[hash[i] & 15];
    }
    struct entry *e = xcalloc(1, sizeof *e), **bucket = bucket_of(a, hash);
    *e = (struct entry){.auth = a, .next = *bucket, .state = LOADING, .asked_us = clock_mono_us()};
    e->last_waiter = &e->waiters;
    memcpy(e->hash, hash, HASH_SIZE);
    enum err err = reader_submit(a->reader, READ_API_KEY, 1, (const char *const[]){hex}, on_loaded, e);
    if (err != ERR_NONE) {
        free(e);
        return err;
    }
    *bucket = e;
    a->counts[LOADING]++;
    *out = e;
    return ERR_NONE;
}

static void join(struct entry *e, auth_done done, void *arg)
{
    struct waiter *w = xmalloc(sizeof *w);
    *w = (struct waiter){.done = done, .arg = arg};
    *e->last_waiter = w;
    e->last_waiter = &w->next;
}

static bool hash_key(struct auth *a, const char *key, size_t len, uint8_t hash[HASH_SIZE])
{
    return EVP_DigestInit_ex2(a->context, a->sha256, NULL) == 1 && EVP_DigestUpdate(a->context, key, len) == 1 &&
           EVP_DigestFinal_ex(a->context, hash, NULL) == 1;
}

bool auth_check(struct auth *a, const char *header, size_t len, enum err *err, struct api_key *key, auth_done done,
                void *arg)
{
    uint8_t hash[HASH_SIZE];
    size_t key_len;
    const char *text = cut_key(header, len, &key_len);
    if (!text) {
        *err = ERR_UNAUTHORIZED;
        return true;
    }
    if (!hash_key(a, text, key_len, hash)) {
        *err = ERR_INTERNAL;
        return true;
    }
    struct entry *e = find(a, hash);
    if (e && e->state != LOADING && is_over(a, e, clock_mono_us())) {
        forget(a, e);
        e = NULL;
    }
    if (e && e->state != LOADING) {
        *err = e->state == KNOWN ? ERR_NONE : ERR_UNAUTHORIZED;
        *key = e->key;
        return true;
    }
    if (!e && !auth_bearer(header, len, &key_len)) { /* what is in the cache had good characters when it came in */
        *err = ERR_UNAUTHORIZED;
        return true;
    }
    if (!e && (*err = load(a, hash, &e)) != ERR_NONE)
        return true;
    join(e, done, arg);
    return false;
}

void auth_free(struct auth *a)
{
    for (struct entry *e; (e = a->ages[LOADING].oldest);) {
        take_out(a, e);
        e->auth = NULL; /* as below */
        tell(e, ERR_SHUTTING_DOWN);
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        struct entry *e;
        while ((e = a->buckets[i])) {
            take_out(a, e);
            if (e->state == LOADING) {
                e->auth = NULL; /* the read holds it */
                tell(e, ERR_SHUTTING_DOWN);
            } else {
                free(e);
            }
        }
    }
    EVP_MD_CTX_free(a->context);
    EVP_MD_free(a->sha256);
    free(a);
}
