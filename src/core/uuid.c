/* UUIDs and random bytes. */
#include "core/uuid.h"

#include <endian.h>
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
    static _Thread_local uint64_t block[256];
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

/* The eight digits of four bytes, all at once: each half byte is moved into a byte of its own, then made a character. */
static void put_hex(const uint8_t bytes[4], char out[8])
{
    uint32_t four;
    memcpy(&four, bytes, sizeof four);
    uint64_t x = le32toh(four);
    x = (x & 0xffff) | (x & 0xffff0000) << 16;
    x = (x & 0x000000ff000000ff) | (x & 0x0000ff000000ff00) << 8;
    x = (x & 0x00f000f000f000f0) >> 4 | (x & 0x000f000f000f000f) << 8;
    uint64_t letters = (x + 0x0606060606060606) >> 4 & 0x0101010101010101;
    x = htole64(x + 0x3030303030303030 + letters * ('a' - '0' - 10));
    memcpy(out, &x, sizeof x);
}

void uuid_format(struct uuid id, char out[UUID_TEXT_SIZE])
{
    char digits[32];
    for (int i = 0; i < 4; i++)
        put_hex(id.b + 4 * i, digits + 8 * i);
    memcpy(out, digits, 8);
    memcpy(out + 9, digits + 8, 4);
    memcpy(out + 14, digits + 12, 4);
    memcpy(out + 19, digits + 16, 4);
    memcpy(out + 24, digits + 20, 12);
    out[8] = out[13] = out[18] = out[23] = '-';
    out[UUID_TEXT_SIZE - 1] = '\0';
}

/* Where each byte's two digits stand in the text. */
static const uint8_t digits_at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

/* Of a hexadecimal digit: its value + 1; 0: it is none. */
static const uint8_t hex_values[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

bool uuid_parse(const char *text, size_t len, struct uuid *id)
{
    struct uuid read;
    if (len != UUID_TEXT_SIZE - 1 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-')
        return false;
    for (int i = 0; i < 16; i++) {
        unsigned high = hex_values[(uint8_t)text[digits_at[i]]], low = hex_values[(uint8_t)text[digits_at[i] + 1]];
        if (high == 0 || low == 0)
            return false;
        read.b[i] = (uint8_t)((high - 1) << 4 | (low - 1));
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
