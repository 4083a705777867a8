/* Idempotency-Key: header to hashes. */
#include "http/idempotency.h"

#include <h2o.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "core/uuid.h"
#include "http/answer.h"
#include "http/server.h"

enum { KEY_MAX = 255, PARTS = 3 };

/* A hash of parts, each with its length, so that no two lists of parts look alike. */
static struct uuid hash_of(const struct text parts[PARTS])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t digest[EVP_MAX_MD_SIZE];
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; ok && i < PARTS; i++) {
        uint64_t len = parts[i].len;
        ok = EVP_DigestUpdate(md, &len, sizeof len) == 1 && EVP_DigestUpdate(md, parts[i].data, parts[i].len) == 1;
    }
    if (!ok || EVP_DigestFinal_ex(md, digest, NULL) != 1)
        abort(); /* only without memory */
    EVP_MD_CTX_free(md);
    struct uuid id;
    memcpy(id.b, digest, sizeof id.b);
    return id;
}

static bool is_valid(const char *key, size_t len)
{
    bool good = len > 0 && len <= KEY_MAX;
    for (size_t i = 0; good && i < len; i++)
        good = key[i] > ' ' && key[i] <= '~';
    return good;
}

static bool is_repeated(const struct request *r)
{
    const h2o_headers_t *headers = &r->req->headers;
    ssize_t first = h2o_find_header_by_str(headers, H2O_STRLIT("idempotency-key"), -1);
    return h2o_find_header_by_str(headers, H2O_STRLIT("idempotency-key"), first) >= 0;
}

bool idempotency_of(struct request *r, struct idempotency *out)
{
    size_t len = 0, body_len;
    const char *key = request_header(r, "idempotency-key", &len);
    *out = (struct idempotency){.given = key != NULL};
    if (!key)
        return true;
    if (!is_valid(key, len) || is_repeated(r)) {
        answer_fault(r, ERR_INVALID, "Idempotency-Key",
                     "Idempotency-Key must be 1 to 255 visible ASCII characters, given once.");
        return false;
    }
    const char *body = request_body(r, &body_len);
    const h2o_iovec_t *method = &r->req->method, *path = &r->req->path;
    const struct uuid *account = &r->key.account_id;
    /* What a visitor sends with a publishable key must not get in the way of the account's own keys. */
    const char *kind = r->key.secret ? "secret" : "publishable";
    out->key = hash_of(
        (const struct text[PARTS]){{(const char *)account->b, sizeof account->b}, {kind, strlen(kind)}, {key, len}});
    out->request =
        hash_of((const struct text[PARTS]){{method->base, method->len}, {path->base, path->len}, {body, body_len}});
    return true;
}

bool idempotency_read(struct request *r, struct action *a)
{
    struct idempotency k;
    if (!idempotency_of(r, &k))
        return false;
    if (k.given)
        a->key = (struct action_key){
            .given = true,
            .campaign = a->kind == ACTION_CREATE_CAMPAIGN ? (struct uuid){{0}} : a->campaign_id,
            .key = k.key,
            .request = k.request,
            .keep_s = (int32_t)r->http->config->idempotency_keep_s,
        };
    return true;
}
