/* Hashes: Kafka's murmur2, which decides shards and partitions for ever, and one for hash tables in memory. */
#include "core/hash.h"

static uint32_t load_u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t murmur2(const void *data, size_t len)
{
    const uint32_t m = 0x5bd1e995;
    const uint8_t *p = data;
    uint32_t h = 0x9747b28c ^ (uint32_t)len;
    for (; len >= 4; p += 4, len -= 4) {
        uint32_t k = load_u32le(p) * m;
        k = (k ^ k >> 24) * m;
        h = h * m ^ k;
    }
    if (len >= 3)
        h ^= (uint32_t)p[2] << 16;
    if (len >= 2)
        h ^= (uint32_t)p[1] << 8;
    if (len >= 1)
        h = (h ^ p[0]) * m;
    h = (h ^ h >> 13) * m;
    return h ^ h >> 15;
}

uint64_t hash64(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3;
    /* FNV leaves the low bits weak for short keys, and tables use just those. */
    h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
    return h ^ h >> 33;
}

uint32_t aggregate_hash(const char *id_text, size_t len)
{
    return murmur2(id_text, len) & 0x7fffffff;
}
