/* What threads that do nothing but sleep get done: how much of the ideal this machine lets anybody have.
 *
 * sleepers THREADS SLEEP_US SECONDS   Prints the sleeps that all threads end in a second. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { THREADS_MAX = 1000 };

static atomic_llong slept;
static atomic_bool ended;

static void *sleep_on(void *us)
{
    const struct timespec t = {.tv_sec = *(long *)us / 1000000, .tv_nsec = *(long *)us % 1000000 * 1000};
    while (!ended) {
        nanosleep(&t, NULL);
        atomic_fetch_add_explicit(&slept, 1, memory_order_relaxed);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];
    int count = argc == 4 ? atoi(argv[1]) : 0, seconds = argc == 4 ? atoi(argv[3]) : 0;
    long us = argc == 4 ? atol(argv[2]) : 0;
    if (count < 1 || count > THREADS_MAX || us < 1 || seconds < 1) {
        fprintf(stderr, "usage: sleepers THREADS SLEEP_US SECONDS\n");
        return 1;
    }
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, sleep_on, &us) != 0)
            return 1;
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    long long before = slept;
    nanosleep(&(struct timespec){.tv_sec = seconds}, NULL);
    printf("%lld\n", (slept - before) / seconds);
    ended = true;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
