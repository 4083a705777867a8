/* Secrets of webhooks: "whsec_" and base64. */
#include "http/webhook_secret.h"

#include <openssl/evp.h>
#include <string.h>

#include "core/uuid.h"

enum { SECRET_MIN = 24, SECRET_MAX = WEBHOOK_SECRET_BYTES }; /* bytes */

bool webhook_secret_valid(struct text secret)
{
    size_t prefix = strlen(SECRET_PREFIX);
    unsigned char bytes[WEBHOOK_SECRET_SIZE];
    if (secret.len <= prefix || secret.len >= WEBHOOK_SECRET_SIZE || memcmp(secret.data, SECRET_PREFIX, prefix) != 0)
        return false;
    const char *base64 = secret.data + prefix;
    int encoded = (int)(secret.len - prefix), padding = 0;
    while (padding < 2 && base64[encoded - 1 - padding] == '=')
        padding++;
    /* OpenSSL passes over blanks, and takes '=' for a digit. */
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (strspn(base64, digits) != (size_t)(encoded - padding))
        return false;
    int decoded = EVP_DecodeBlock(bytes, (const unsigned char *)base64, encoded);
    return decoded - padding >= SECRET_MIN && decoded - padding <= SECRET_MAX;
}

void webhook_secret_make(char secret[WEBHOOK_SECRET_SIZE])
{
    unsigned char bytes[32];
    random_bytes(bytes, sizeof bytes);
    memcpy(secret, SECRET_PREFIX, strlen(SECRET_PREFIX));
    EVP_EncodeBlock((unsigned char *)secret + strlen(SECRET_PREFIX), bytes, sizeof bytes);
}
