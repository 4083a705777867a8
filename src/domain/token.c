/* Tokens: what they say and a MAC over it, in base64url. */
#include "domain/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_SIZE 40 /* campaign, user, expiry in seconds (big-endian) */
#define MAC_SIZE 16
#define BYTES (BODY_SIZE + MAC_SIZE)
#define CHARS (TOKEN_SIZE - 1)

/* A MAC of another purpose under the same secret must never pass for a token. */
#define PURPOSE_SIZE sizeof "tidings verification token 1"
static const char verification[PURPOSE_SIZE] = "tidings verification token 1";
static const char unsubscription[PURPOSE_SIZE] = "tidings unsubscribe token 1";
static const char fingerprint_purpose[] = "tidings token fingerprint 1";

static void mac_of(const char *secret, size_t secret_len, const char purpose[PURPOSE_SIZE],
                   const uint8_t body[BODY_SIZE], uint8_t mac[MAC_SIZE])
{
    uint8_t message[PURPOSE_SIZE + BODY_SIZE], full[EVP_MAX_MD_SIZE];
    memcpy(message, purpose, PURPOSE_SIZE);
    memcpy(message + PURPOSE_SIZE, body, BODY_SIZE);
    /* Sending or accepting a token without a real secret would be worse than stopping. */
    if (secret_len == 0 || !HMAC(EVP_sha256(), secret, (int)secret_len, message, sizeof message, full, NULL)) {
        fputs("tidings: no secret to sign tokens with, or HMAC failed\n", stderr);
        abort();
    }
    memcpy(mac, full, MAC_SIZE);
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(const uint8_t bytes[BYTES], char out[TOKEN_SIZE])
{
    uint32_t bits = 0;
    int count = 0;
    for (size_t i = 0; i < BYTES; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 6; count -= 6)
            *out++ = alphabet[bits >> (count - 6) & 63];
    }
    *out++ = alphabet[bits << (6 - count) & 63];
    *out = '\0';
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Only the one spelling that encode gives is read: the bits that are left over must be zero. */
static bool decode(const char *text, size_t len, uint8_t bytes[BYTES])
{
    uint32_t bits = 0;
    int count = 0;
    if (len != CHARS)
        return false;
    for (size_t i = 0; i < len; i++) {
        int value = sextet(text[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            *bytes++ = (uint8_t)(bits >> count);
        }
    }
    return (bits & ((1u << count) - 1)) == 0;
}

static void make_token(const char *secrets, const char purpose[PURPOSE_SIZE], struct uuid campaign, struct uuid user,
                       int64_t expires_s, char out[TOKEN_SIZE])
{
    uint8_t bytes[BYTES];
    memcpy(bytes, campaign.b, 16);
    memcpy(bytes + 16, user.b, 16);
    for (int i = 0; i < 8; i++)
        bytes[32 + i] = (uint8_t)((uint64_t)expires_s >> (56 - 8 * i));
    mac_of(secrets, strcspn(secrets, ","), purpose, bytes, bytes + BODY_SIZE);
    encode(bytes, out);
}

static bool signed_by_one_of(const char *secrets, const char purpose[PURPOSE_SIZE], const uint8_t bytes[BYTES])
{
    bool good = false;
    while (*secrets) {
        size_t len = strcspn(secrets, ",");
        uint8_t mac[MAC_SIZE];
        if (len > 0) {
            mac_of(secrets, len, purpose, bytes, mac);
            good |= CRYPTO_memcmp(mac, bytes + BODY_SIZE, MAC_SIZE) == 0;
        }
        secrets += len + (secrets[len] == ',');
    }
    return good;
}

static enum err read_token(const char *secrets, const char purpose[PURPOSE_SIZE], const char *token, size_t len,
                           int64_t now_s, struct uuid *campaign, struct uuid *user)
{
    uint8_t bytes[BYTES];
    uint64_t expires = 0;
    if (!decode(token, len, bytes) || !signed_by_one_of(secrets, purpose, bytes))
        return ERR_BAD_TOKEN;
    for (int i = 0; i < 8; i++)
        expires = expires << 8 | bytes[32 + i];
    if (now_s >= (int64_t)expires)
        return ERR_TOKEN_EXPIRED;
    memcpy(campaign->b, bytes, 16);
    memcpy(user->b, bytes + 16, 16);
    return ERR_NONE;
}

void token_make(const char *secrets, struct uuid campaign, struct uuid user, int64_t expires_s, char out[TOKEN_SIZE])
{
    make_token(secrets, verification, campaign, user, expires_s, out);
}

enum err token_read(const char *secrets, const char *token, size_t len, int64_t now_s, struct uuid *campaign,
                    struct uuid *user)
{
    return read_token(secrets, verification, token, len, now_s, campaign, user);
}

void token_make_unsubscribe(const char *secrets, struct uuid campaign, struct uuid user, char out[TOKEN_SIZE])
{
    make_token(secrets, unsubscription, campaign, user, INT64_MAX, out);
}

enum err token_read_unsubscribe(const char *secrets, const char *token, size_t len, struct uuid *campaign,
                                struct uuid *user)
{
    return read_token(secrets, unsubscription, token, len, 0, campaign, user);
}

size_t token_fingerprints(const char *secrets, struct uuid out[], size_t max)
{
    size_t count = 0;
    while (*secrets && count < max) {
        size_t len = strcspn(secrets, ",");
        uint8_t mac[EVP_MAX_MD_SIZE];
        if (len > 0 && HMAC(EVP_sha256(), secrets, (int)len, (const uint8_t *)fingerprint_purpose,
                            sizeof fingerprint_purpose, mac, NULL))
            memcpy(out[count++].b, mac, sizeof out->b);
        secrets += len + (secrets[len] == ',');
    }
    return count;
}
