/* For LD_PRELOAD: a host whose wall clock is TIDINGS_TEST_CLOCK_S seconds ahead. Only clock_gettime is changed, by which the
 * service asks: librdkafka's waits until a point in time ask in another way and stay as they are (with libfaketime they would
 * not end). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, id, now);
    const char *ahead = id == CLOCK_REALTIME ? getenv("TIDINGS_TEST_CLOCK_S") : NULL;
    if (result == 0 && ahead)
        now->tv_sec += atol(ahead);
    return result;
}
