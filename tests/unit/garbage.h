/* Hostile input for readers, the same in every run: random bytes, and a good sample with a few bytes changed, cut or
 * doubled. Each input stands in a heap block of exactly its size, so that AddressSanitizer sees a read past its end. */
#ifndef TIDINGS_TESTS_GARBAGE_H
#define TIDINGS_TESTS_GARBAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline uint64_t garbage_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline size_t garbage_make(uint64_t *state, const char *sample, char *out, size_t size)
{
    size_t len = garbage_next(state) % size;
    if (garbage_next(state) % 4 == 0) {
        for (size_t i = 0; i < len; i++)
            out[i] = (char)garbage_next(state);
        return len;
    }
    len = strlen(sample) < size ? strlen(sample) : size;
    memcpy(out, sample, len);
    for (uint64_t changes = 1 + garbage_next(state) % 3; changes > 0 && len > 0; changes--) {
        size_t at = garbage_next(state) % len;
        switch (garbage_next(state) % 4) {
        case 0:
            out[at] = (char)garbage_next(state);
            break;
        case 1:
            out[at] = "\"\\{}[],:-.@ \t0aZ"[garbage_next(state) % 16];
            break;
        case 2:
            len = at;
            break;
        default:
            memmove(out + at, out + at + 1, len - at - 1);
            len--;
        }
    }
    return len;
}

static inline void garbage_try(const char *sample, int rounds, void (*check)(const char *text, size_t len))
{
    uint64_t state = 0x9e3779b97f4a7c15;
    char input[2048];
    for (int i = 0; i < rounds; i++) {
        size_t len = garbage_make(&state, sample, input,
                                  strlen(sample) + 64 < sizeof input ? strlen(sample) + 64 : sizeof input);
        char *exact = malloc(len ? len : 1);
        if (!exact)
            abort();
        memcpy(exact, input, len);
        check(exact, len);
        free(exact);
    }
}

#endif
