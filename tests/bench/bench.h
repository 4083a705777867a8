/* Counting instructions of a hot path. A program of this directory warms up, then runs its path many times; under valgrind
 * only what lies between bench_on and bench_off is counted. tests/bench/run compares the counts with budgets.txt. */
#ifndef TIDINGS_TESTS_BENCH_H
#define TIDINGS_TESTS_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

/* Counting is off at the start; it concerns the calling thread. */
static inline void bench_on(void)
{
    CALLGRIND_TOGGLE_COLLECT;
}

static inline void bench_off(void)
{
    CALLGRIND_TOGGLE_COLLECT;
}

/* All that was counted since the last report belongs to `times` operations of this name. */
#define bench_report(name, times)                                                                                      \
    do {                                                                                                               \
        printf("%s %zu\n", name, (size_t)(times));                                                                     \
        CALLGRIND_DUMP_STATS_AT(name);                                                                                 \
    } while (0)

#define bench_check(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
