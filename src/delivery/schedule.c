/* Waits between attempts. */
#include "delivery/schedule.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/uuid.h"

#define WAIT_MAX_MS (40 * 3600000LL) /* webhook_settle takes failures that are two days apart for two outages */
#define JITTER_PARTS 5 /* one of so many parts */

static const struct {
    const char *name;
    int64_t ms;
} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};

/* One wait; 0: it is none. */
static int64_t read_wait(const char *text, size_t len)
{
    int64_t number = 0;
    size_t digits = 0;
    for (; digits < len && digits < 10 && text[digits] >= '0' && text[digits] <= '9'; digits++)
        number = 10 * number + (text[digits] - '0');
    for (size_t i = 0; digits > 0 && i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i].name) == len - digits && memcmp(units[i].name, text + digits, len - digits) == 0)
            return number <= WAIT_MAX_MS / units[i].ms ? number * units[i].ms : 0;
    return 0;
}

bool schedule_read(const char *text, struct schedule *out, char *why, size_t why_size)
{
    out->count = 0;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        int64_t wait = read_wait(at, len);
        if (wait == 0 || out->count == SCHEDULE_WAITS) {
            snprintf(why, why_size, wait == 0 ? "%.*s is no wait such as 5s, 30m or 2h" : "%.*s is one wait too many",
                     (int)(len < 40 ? len : 40), at);
            return false;
        }
        out->waits_ms[out->count++] = wait;
        at += len;
        if (*at == '\0')
            return true;
    }
}

int64_t schedule_wait_ms(const struct schedule *s, int64_t attempt, int64_t at_least_ms)
{
    uint32_t chance;
    if (attempt < 0 || (uint64_t)attempt >= s->count)
        return -1;
    int64_t wait = s->waits_ms[attempt] > at_least_ms ? s->waits_ms[attempt] : at_least_ms;
    random_bytes(&chance, sizeof chance);
    return wait + (int64_t)((double)chance / UINT32_MAX * (double)wait / JITTER_PARTS);
}
