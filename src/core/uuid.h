/* UUIDs as 16 bytes in network order, and random bytes. Any thread. UUIDv7 by RFC 9562. */
#ifndef TIDINGS_CORE_UUID_H
#define TIDINGS_CORE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uuid {
    uint8_t b[16];
};

#define UUID_TEXT_SIZE 37 /* 36 characters and the NUL */

struct uuid uuid_v7(void);                                /* now; random bits from a per-thread generator seeded by the kernel */
void uuid_format(struct uuid id, char out[UUID_TEXT_SIZE]); /* lower case */
bool uuid_parse(const char *text, size_t len, struct uuid *id); /* exactly 36 characters, either case; false otherwise */
bool uuid_equal(struct uuid a, struct uuid b);

/* An object that has a place in its campaign carries that place in its id's last four bytes (big-endian), so that a
 * look-up by id is one by (campaign, place) and needs no index of its own. The other bits stay a UUIDv7's. */
struct uuid uuid_with_place(struct uuid id, uint32_t place);
uint32_t uuid_place(struct uuid id);

void random_bytes(void *out, size_t len); /* from the kernel; aborts when it has none */
uint64_t random_u64(void);                /* fast, per thread; not for secrets */

#endif
