/* Referral codes: a balanced Feistel network over 40 bits, written in Crockford's base 32.
 * Codes that were given out must stay readable: nothing here may change (test_referral_code.c pins some). */
#include "domain/referral_code.h"

#define CODE_LENGTH (REFERRAL_CODE_SIZE - 1)
#define HALF_BITS 20
#define HALF_MASK 0xfffffu
#define ROUNDS 8
#define PLACE_MAX 0x7fffffffu

struct code_key {
    uint64_t a, b;
};

static uint64_t load_u64be(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

/* Each campaign has a permutation of its own. */
static struct code_key key_for(const uint8_t key[16], struct uuid campaign)
{
    return (struct code_key){load_u64be(key) ^ load_u64be(campaign.b),
                             load_u64be(key + 8) ^ load_u64be(campaign.b + 8)};
}

/* splitmix64's finalizer: every bit of the input moves every bit of the output. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint32_t round_of(struct code_key k, unsigned number, uint32_t half)
{
    uint64_t x = mix(k.a + (number + 1) * 0x9e3779b97f4a7c15 + half);
    return (uint32_t)(mix(x ^ k.b) >> (64 - HALF_BITS));
}

static uint64_t permute(struct code_key k, uint64_t value)
{
    uint32_t left = (uint32_t)(value >> HALF_BITS), right = (uint32_t)value & HALF_MASK;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t next = left ^ round_of(k, i, right);
        left = right;
        right = next;
    }
    return (uint64_t)left << HALF_BITS | right;
}

static uint64_t unpermute(struct code_key k, uint64_t value)
{
    uint32_t left = (uint32_t)(value >> HALF_BITS), right = (uint32_t)value & HALF_MASK;
    for (unsigned i = ROUNDS; i-- > 0;) {
        uint32_t before = right ^ round_of(k, i, left);
        right = left;
        left = before;
    }
    return (uint64_t)left << HALF_BITS | right;
}

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void referral_code_make(const uint8_t key[16], struct uuid campaign, uint32_t place, char out[REFERRAL_CODE_SIZE])
{
    uint64_t value = permute(key_for(key, campaign), place);
    for (int i = CODE_LENGTH - 1; i >= 0; i--, value >>= 5)
        out[i] = alphabet[value & 31];
    out[CODE_LENGTH] = '\0';
}

static int digit_value(char c)
{
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    if (c == 'O')
        c = '0';
    if (c == 'I' || c == 'L')
        c = '1';
    for (int i = 0; i < 32; i++)
        if (alphabet[i] == c)
            return i;
    return -1;
}

bool referral_code_read(const uint8_t key[16], struct uuid campaign, const char *code, size_t len, uint32_t *place)
{
    uint64_t value = 0;
    if (len != CODE_LENGTH)
        return false;
    for (size_t i = 0; i < len; i++) {
        int digit = digit_value(code[i]);
        if (digit < 0)
            return false;
        value = value << 5 | (uint64_t)digit;
    }
    value = unpermute(key_for(key, campaign), value);
    if (value < 1 || value > PLACE_MAX)
        return false;
    *place = (uint32_t)value;
    return true;
}
