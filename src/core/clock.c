/* Clocks, RFC 3339 times by plain arithmetic (no locale, no time zone database), and back-off. */
#include "core/clock.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "core/uuid.h"

#define SECOND_US INT64_C(1000000)
#define DAY_S INT64_C(86400)
#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

static int64_t clock_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * SECOND_US + ts.tv_nsec / 1000;
}

int64_t clock_mono_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

int64_t clock_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

int64_t clock_coarse_us(void)
{
    return clock_us(CLOCK_MONOTONIC_COARSE);
}

void clock_sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Days since 1970-01-01 of a date in the Gregorian calendar; years are counted from March so that the leap day comes
 * last (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void date_from_days(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
    days += 719468;
    int64_t era = days / 146097, of_era = days - era * 146097; /* days >= 0: 1970 and later only */
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

static char *put_digits(char *out, int64_t value, int digits)
{
    uint32_t rest = (uint32_t)value;
    for (int i = digits - 1; i >= 0; i--, rest /= 10)
        out[i] = (char)('0' + rest % 10);
    return out + digits;
}

#define WHOLE_SECONDS (sizeof "2025-01-01T12:00:00." - 1)

static void put_second(char *out, int64_t seconds)
{
    int64_t of_day = seconds % DAY_S, year, month, day;
    date_from_days(seconds / DAY_S, &year, &month, &day);
    out = put_digits(out, year, 4);
    *out++ = '-';
    out = put_digits(out, month, 2);
    *out++ = '-';
    out = put_digits(out, day, 2);
    *out++ = 'T';
    out = put_digits(out, of_day / 3600, 2);
    *out++ = ':';
    out = put_digits(out, of_day / 60 % 60, 2);
    *out++ = ':';
    out = put_digits(out, of_day % 60, 2);
    *out = '.';
}

void rfc3339_format(int64_t wall_us, char out[RFC3339_SIZE])
{
    if (wall_us < 0)
        wall_us = 0;
    if (wall_us / SECOND_US > LAST_SECOND)
        wall_us = LAST_SECOND * SECOND_US + SECOND_US - 1;
    /* Most times that are written are of the same second as the one before. */
    static _Thread_local struct {
        int64_t second;
        char text[WHOLE_SECONDS];
    } last = {.second = -1};
    int64_t second = wall_us / SECOND_US;
    if (second != last.second) {
        put_second(last.text, second);
        last.second = second;
    }
    memcpy(out, last.text, sizeof last.text);
    out = put_digits(out + sizeof last.text, wall_us % SECOND_US, 6);
    *out++ = 'Z';
    *out = '\0';
}

/* Reading: each step takes what it expects from the text or says no. */
struct reader {
    const char *at, *end;
};

static bool take_digits(struct reader *r, int digits, int64_t min, int64_t max, int64_t *value)
{
    int64_t v = 0;
    if (r->end - r->at < digits)
        return false;
    for (int i = 0; i < digits; i++, r->at++) {
        if (*r->at < '0' || *r->at > '9')
            return false;
        v = v * 10 + (*r->at - '0');
    }
    *value = v;
    return v >= min && v <= max;
}

static bool take_one_of(struct reader *r, const char *set, char *which)
{
    if (r->at == r->end || *r->at == '\0' || !strchr(set, *r->at))
        return false;
    *which = *r->at++;
    return true;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static bool take_date(struct reader *r, int64_t *days)
{
    int64_t year, month, day;
    char c;
    if (!take_digits(r, 4, 0, 9999, &year) || !take_one_of(r, "-", &c) || !take_digits(r, 2, 1, 12, &month) ||
        !take_one_of(r, "-", &c) || !take_digits(r, 2, 1, days_in_month(year, month), &day))
        return false;
    *days = days_from_date(year, month, day);
    return true;
}

/* An optional fraction of a second; what is finer than a microsecond is cut off. */
static bool take_fraction(struct reader *r, int64_t *us)
{
    char c;
    int digits = 0;
    *us = 0;
    if (!take_one_of(r, ".", &c))
        return true;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++, digits++)
        if (digits < 6)
            *us = *us * 10 + (*r->at - '0');
    for (int i = digits; i < 6; i++)
        *us *= 10;
    return digits >= 1 && digits <= 9;
}

static bool take_offset(struct reader *r, int64_t *seconds)
{
    int64_t hours, minutes;
    char sign, c;
    *seconds = 0;
    if (!take_one_of(r, "Zz+-", &sign))
        return false;
    if (sign == 'Z' || sign == 'z')
        return true;
    if (!take_digits(r, 2, 0, 23, &hours) || !take_one_of(r, ":", &c) || !take_digits(r, 2, 0, 59, &minutes))
        return false;
    *seconds = (hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
    return true;
}

int rfc3339_parse(const char *text, size_t len, int64_t *wall_us)
{
    struct reader r = {text, text + len};
    int64_t days, hour, minute, second, us, offset;
    char c;
    if (!take_date(&r, &days) || !take_one_of(&r, "Tt", &c) || !take_digits(&r, 2, 0, 23, &hour) ||
        !take_one_of(&r, ":", &c) || !take_digits(&r, 2, 0, 59, &minute) || !take_one_of(&r, ":", &c) ||
        !take_digits(&r, 2, 0, 60, &second) || !take_fraction(&r, &us) || !take_offset(&r, &offset) || r.at != r.end)
        return -1;
    int64_t seconds = days * DAY_S + hour * 3600 + minute * 60 + second - offset;
    if (second == 60 && seconds % DAY_S != 0)
        return -1; /* a leap second ends a day of UTC; it is read as the first second of the next */
    *wall_us = seconds * SECOND_US + us;
    return 0;
}

int64_t backoff_ms(int attempt, int64_t base_ms, int64_t max_ms)
{
    int64_t high = base_ms < max_ms ? base_ms : max_ms;
    for (int i = 0; i < attempt && high < max_ms; i++)
        high = high > max_ms / 2 ? max_ms : high * 2;
    int64_t low = base_ms / 2 < high ? base_ms / 2 : high;
    if (high < 1)
        return 1;
    if (low < 1)
        low = 1;
    return low + (int64_t)(random_u64() % (uint64_t)(high - low + 1));
}
