/* Addresses that are not the public Internet's: whoever may name a webhook's target must not reach our own network. */
#include "delivery/address.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V4_BYTES 4
#define V6_BYTES 16

struct range {
    uint8_t prefix[V6_BYTES];
    int bits;
    const char *what;
};

static const struct range v4_ranges[] = {
    {{0}, 8, "an unspecified address"},
    {{10}, 8, "a private address"},
    {{100, 64}, 10, "a carrier's shared address"},
    {{127}, 8, "a loopback address"},
    {{169, 254}, 16, "a link-local address"},
    {{172, 16}, 12, "a private address"},
    {{192, 0, 0}, 24, "a reserved address"},
    {{192, 0, 2}, 24, "a documentation address"},
    {{192, 168}, 16, "a private address"},
    {{198, 18}, 15, "a benchmark address"},
    {{198, 51, 100}, 24, "a documentation address"},
    {{203, 0, 113}, 24, "a documentation address"},
    {{224}, 4, "a multicast address"},
    {{240}, 4, "a reserved address"}, /* and broadcast */
};

static const struct range v6_ranges[] = {
    {{0}, 128, "an unspecified address"},
    {{[15] = 1}, 128, "a loopback address"},
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, "a private address"}, /* translation within a network */
    {{0x01}, 64, "a discard address"},
    {{0x20, 0x01}, 23, "a reserved address"}, /* Teredo among them: an IPv4 address in disguise */
    {{0x20, 0x01, 0x0d, 0xb8}, 32, "a documentation address"},
    {{0xfc}, 7, "a private address"},
    {{0xfe, 0x80}, 10, "a link-local address"},
    {{0xfe, 0xc0}, 10, "a private address"},
    {{0xff}, 8, "a multicast address"},
};

/* Where an IPv6 address has an IPv4 address in it, that one counts. */
static const struct {
    uint8_t prefix[V6_BYTES];
    int bits;
    size_t at;
} embedded[] = {
    {{[10] = 0xff, [11] = 0xff}, 96, 12}, /* IPv4-mapped */
    {{0x00, 0x64, 0xff, 0x9b}, 96, 12},   /* NAT64 */
    {{0x20, 0x02}, 16, 2},                /* 6to4 */
    {{0}, 96, 12},                        /* IPv4-compatible; :: and ::1 are found before */
};

static bool within(const uint8_t *address, const uint8_t *prefix, int bits)
{
    size_t bytes = (size_t)bits / 8;
    int rest = bits % 8;
    if (memcmp(address, prefix, bytes) != 0)
        return false;
    return rest == 0 || (address[bytes] ^ prefix[bytes]) >> (8 - rest) == 0;
}

static const char *find(const struct range *ranges, size_t count, const uint8_t *address)
{
    for (size_t i = 0; i < count; i++)
        if (within(address, ranges[i].prefix, ranges[i].bits))
            return ranges[i].what;
    return NULL;
}

static const char *special_v4(const uint8_t address[V4_BYTES])
{
    return find(v4_ranges, sizeof v4_ranges / sizeof v4_ranges[0], address);
}

static const char *special_v6(const uint8_t address[V6_BYTES])
{
    const char *what = find(v6_ranges, sizeof v6_ranges / sizeof v6_ranges[0], address);
    for (size_t i = 0; !what && i < sizeof embedded / sizeof embedded[0]; i++)
        if (within(address, embedded[i].prefix, embedded[i].bits))
            return special_v4(address + embedded[i].at);
    return what;
}

const char *address_special(const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        return special_v4((const uint8_t *)&v4.sin_addr);
    }
    if (address->sa_family != AF_INET6)
        return "no Internet address";
    memcpy(&v6, address, sizeof v6);
    return special_v6(v6.sin6_addr.s6_addr);
}
