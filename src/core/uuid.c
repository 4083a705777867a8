/* UUIDs and random bytes. */
#include "core/uuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/clock.h"

void random_bytes(void *out, size_t len)
{
    uint8_t *p = out;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fputs("tidings: the kernel gives no random bytes\n", stderr);
            abort();
        }
        p += n;
        len -= (size_t)n;
    }
}

uint64_t random_u64(void)
{
    /* The kernel's own bytes, fetched by the block: as cheap as a generator, and ids made of them cannot be foretold.
     */
    static _Thread_local uint64_t block[64];
    static _Thread_local size_t left;
    if (left == 0) {
        random_bytes(block, sizeof block);
        left = sizeof block / sizeof block[0];
    }
    return block[--left];
}

struct uuid uuid_v7(void)
{
    struct uuid id;
    uint64_t ms = (uint64_t)(clock_wall_us() / 1000), high = random_u64(), low = random_u64();
    for (int i = 0; i < 6; i++)
        id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
    id.b[6] = (uint8_t)(0x70 | (high >> 8 & 0x0f));
    id.b[7] = (uint8_t)high;
    memcpy(id.b + 8, &low, sizeof low);
    id.b[8] = (uint8_t)(0x80 | (id.b[8] & 0x3f));
    return id;
}

/* Hyphens stand before these bytes. */
static int hyphen_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(struct uuid id, char out[UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        if (hyphen_before(i))
            *out++ = '-';
        *out++ = digits[id.b[i] >> 4];
        *out++ = digits[id.b[i] & 15];
    }
    *out = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool uuid_parse(const char *text, size_t len, struct uuid *id)
{
    struct uuid read;
    if (len != UUID_TEXT_SIZE - 1)
        return false;
    for (int i = 0; i < 16; i++) {
        if (hyphen_before(i) && *text++ != '-')
            return false;
        int high = hex_value(*text++), low = hex_value(*text++);
        if (high < 0 || low < 0)
            return false;
        read.b[i] = (uint8_t)(high << 4 | low);
    }
    *id = read;
    return true;
}

bool uuid_equal(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}

struct uuid uuid_with_place(struct uuid id, uint32_t place)
{
    for (int i = 0; i < 4; i++)
        id.b[12 + i] = (uint8_t)(place >> (24 - 8 * i));
    return id;
}

uint32_t uuid_place(struct uuid id)
{
    return (uint32_t)id.b[12] << 24 | (uint32_t)id.b[13] << 16 | (uint32_t)id.b[14] << 8 | (uint32_t)id.b[15];
}
