/* The log: lines are made by the caller's thread, put into a bounded ring and written by a thread of their own. */
#include "core/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/metrics.h"

#define RING_SIZE ((size_t)1 << 20)
#define LINE_SIZE ((size_t)PIPE_BUF) /* so that a line goes into a pipe in one piece */
#define LINE_TAIL 8                  /* kept free for the mark of a cut value and what closes the line */
#define STOP_US 1000000
#define WAIT_MS 50

enum log_state {
    LOG_DIRECT,   /* no thread: lines go straight to standard error */
    LOG_RUNNING,  /* the thread writes */
    LOG_GIVEN_UP, /* standard error was blocked at the stop: it must not block the exit as well, so lines are dropped */
};

static struct {
    _Atomic int level;
    atomic_bool json;
    pthread_mutex_t lock; /* for all below */
    pthread_cond_t wake, ended;
    pthread_t thread;
    enum log_state state;
    bool stopping, done;
    int64_t stop_by_us;
    char *ring;
    size_t head, used;
} the_log = {
    .level = LOG_INFO,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .ended = PTHREAD_COND_INITIALIZER,
};

/* --- a line --- */

struct line {
    size_t len;
    bool json, full;
    char text[LINE_SIZE];
};

/* Either all of it or, once, the mark that something is missing. */
static void line_put(struct line *l, const char *bytes, size_t len)
{
    if (l->full)
        return;
    if (l->len + len > LINE_SIZE - LINE_TAIL) {
        l->full = true;
        bytes = "…";
        len = strlen(bytes);
    }
    memcpy(l->text + l->len, bytes, len);
    l->len += len;
}

static void line_puts(struct line *l, const char *text)
{
    line_put(l, text, strlen(text));
}

/* What closes the value or the line has its room in the tail. */
static void line_close(struct line *l, char c)
{
    l->text[l->len++] = c;
}

/* Length of the valid UTF-8 sequence at s (no overlong form, no surrogate), or 0. The NUL at the end stops it. */
static size_t utf8_length(const unsigned char *s)
{
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
               (s[0] == 0xf4 && s[1] > 0x8f);
    return bad ? 0 : len;
}

/* Escapes what JSON must have escaped and what would move a terminal: all controls, C1 ones too. */
static void line_put_escaped(struct line *l, const char *value)
{
    const unsigned char *s = (const unsigned char *)value;
    while (*s && !l->full) {
        size_t len = utf8_length(s);
        unsigned control = s[0] < 0x20 || s[0] == 0x7f ? s[0] : s[0] == 0xc2 && len == 2 && s[1] < 0xa0 ? s[1] : 0;
        char escape[8];
        if (len == 0)
            line_puts(l, "\\ufffd");
        else if (*s == '"' || *s == '\\')
            line_put(l, (char[]){'\\', (char)*s}, 2);
        else if (*s == '\n' || *s == '\r' || *s == '\t')
            line_puts(l, *s == '\n' ? "\\n" : *s == '\r' ? "\\r" : "\\t");
        else if (control)
            line_put(l, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", control));
        else
            line_put(l, (const char *)s, len);
        s += len ? len : 1;
    }
}

static bool needs_quotes(const char *value)
{
    if (!*value)
        return true;
    for (; *value; value++)
        if (*value <= ' ' || *value > '~' || *value == '"' || *value == '=' || *value == '\\')
            return true;
    return false;
}

static void line_pair(struct line *l, const char *key, const char *value)
{
    bool quotes = l->json || needs_quotes(value);
    /* A key is put whole or not at all, with its quotes and one escape at least. */
    if (l->full || l->len + strlen(key) + 12 > LINE_SIZE - LINE_TAIL) {
        l->full = true;
        return;
    }
    if (l->json) {
        line_puts(l, l->len == 0 ? "{\"" : ",\"");
        line_puts(l, key);
        line_puts(l, "\":\"");
    } else {
        line_puts(l, l->len == 0 ? "" : " ");
        line_puts(l, key);
        line_puts(l, quotes ? "=\"" : "=");
    }
    line_put_escaped(l, value);
    if (quotes)
        line_close(l, '"');
}

static void line_make(struct line *l, enum log_level level, const char *msg, va_list pairs)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char now[RFC3339_SIZE];
    rfc3339_format(clock_wall_us(), now);
    l->len = 0;
    l->full = false;
    l->json = atomic_load_explicit(&the_log.json, memory_order_relaxed);
    line_pair(l, "time", now);
    line_pair(l, "level", names[level]);
    line_pair(l, "msg", msg);
    for (const char *key = va_arg(pairs, const char *); key; key = va_arg(pairs, const char *)) {
        const char *value = va_arg(pairs, const char *);
        if (value)
            line_pair(l, key, value);
    }
    if (l->json)
        line_close(l, '}');
    line_close(l, '\n');
}

/* --- the ring and its thread --- */

/* Only ever called with room for it, under the lock. */
static void ring_put(const char *text, size_t len)
{
    size_t at = (the_log.head + the_log.used) % RING_SIZE, first = RING_SIZE - at;
    if (first > len)
        first = len;
    memcpy(the_log.ring + at, text, first);
    memcpy(the_log.ring, text + first, len - first);
    the_log.used += len;
}

/* The next stretch to write: whole lines where that is possible, at most a pipe's atomic size. Under the lock. */
static size_t ring_next(const char **text)
{
    size_t len = RING_SIZE - the_log.head;
    if (len > the_log.used)
        len = the_log.used;
    if (len > PIPE_BUF)
        len = PIPE_BUF;
    *text = the_log.ring + the_log.head;
    for (size_t cut = len; cut > 0; cut--)
        if ((*text)[cut - 1] == '\n')
            return cut;
    return len;
}

static int64_t count_lines(const char *text, size_t len)
{
    int64_t lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    return lines;
}

/* Writes what goes without blocking, waiting a little for room; returns how much is dealt with. The descriptor is
 * shared with other processes and stays in blocking mode; a pipe that polls writable has room for PIPE_BUF bytes. */
static size_t write_some(const char *text, size_t len)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&fd, 1, WAIT_MS) == 0)
        return 0;
    ssize_t n = write(STDERR_FILENO, text, len);
    if (n >= 0)
        return (size_t)n;
    if (errno == EINTR || errno == EAGAIN)
        return 0;
    metric_add(metric_get(M_LOG_DROPPED, NULL, NULL), count_lines(text, len)); /* closed, or the disk is full */
    return len;
}

static void *writer(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&the_log.lock);
    for (;;) {
        while (the_log.used == 0 && !the_log.stopping)
            pthread_cond_wait(&the_log.wake, &the_log.lock);
        if (the_log.used == 0 || (the_log.stopping && clock_mono_us() >= the_log.stop_by_us))
            break;
        const char *text;
        size_t len = ring_next(&text);
        pthread_mutex_unlock(&the_log.lock);
        len = write_some(text, len);
        pthread_mutex_lock(&the_log.lock);
        the_log.head = (the_log.head + len) % RING_SIZE;
        the_log.used -= len;
    }
    the_log.state = the_log.used == 0 ? LOG_DIRECT : LOG_GIVEN_UP;
    the_log.done = true;
    pthread_cond_signal(&the_log.ended);
    pthread_mutex_unlock(&the_log.lock);
    return NULL;
}

static enum log_level level_of(const char *word)
{
    switch (word[0]) {
    case 'd': return LOG_DEBUG;
    case 'w': return LOG_WARN;
    case 'e': return LOG_ERROR;
    default: return LOG_INFO;
    }
}

void log_start(const char *level, const char *format)
{
    sigset_t all, before;
    atomic_store(&the_log.level, (int)level_of(level));
    atomic_store(&the_log.json, strcmp(format, "json") == 0);
    pthread_mutex_lock(&the_log.lock);
    if (the_log.state == LOG_DIRECT) {
        the_log.ring = xmalloc(RING_SIZE);
        the_log.head = the_log.used = 0;
        the_log.stopping = the_log.done = false;
        /* No signal is handled on the thread; a blocked SIGPIPE makes a closed standard error a mere EPIPE. */
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        if (pthread_create(&the_log.thread, NULL, writer, NULL) == 0)
            the_log.state = LOG_RUNNING;
        else
            free(the_log.ring);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_mutex_unlock(&the_log.lock);
}

void log_stop(void)
{
    struct timespec give_up;
    pthread_mutex_lock(&the_log.lock);
    if (the_log.state != LOG_RUNNING || the_log.stopping) {
        pthread_mutex_unlock(&the_log.lock);
        return;
    }
    the_log.stopping = true;
    the_log.stop_by_us = clock_mono_us() + STOP_US;
    pthread_cond_signal(&the_log.wake);
    clock_gettime(CLOCK_REALTIME, &give_up);
    give_up.tv_sec += 1 + STOP_US / 1000000;
    while (!the_log.done && pthread_cond_timedwait(&the_log.ended, &the_log.lock, &give_up) == 0)
        continue;
    bool done = the_log.done;
    if (!done)
        the_log.state = LOG_GIVEN_UP;
    pthread_mutex_unlock(&the_log.lock);
    if (done) {
        pthread_join(the_log.thread, NULL);
        free(the_log.ring);
    } else { /* held in write() after all, because another process filled the pipe: it keeps the ring until the exit */
        pthread_detach(the_log.thread);
    }
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&the_log.level, memory_order_relaxed);
}

static void emit(const struct line *l)
{
    pthread_mutex_lock(&the_log.lock);
    enum log_state state = the_log.state;
    bool taken = state == LOG_RUNNING && l->len <= RING_SIZE - the_log.used;
    if (taken) {
        if (the_log.used == 0)
            pthread_cond_signal(&the_log.wake);
        ring_put(l->text, l->len);
    }
    pthread_mutex_unlock(&the_log.lock);
    if (state == LOG_DIRECT)
        taken = write(STDERR_FILENO, l->text, l->len) >= 0;
    if (!taken)
        metric_inc(M_LOG_DROPPED);
}

void log_write(enum log_level level, const char *msg, ...)
{
    struct line l;
    va_list pairs;
    va_start(pairs, msg);
    line_make(&l, level, msg, pairs);
    va_end(pairs);
    emit(&l);
}

const char *log_int(long long value)
{
    static _Thread_local char texts[16][24];
    static _Thread_local unsigned next;
    char *text = texts[next++ % 16];
    snprintf(text, sizeof texts[0], "%lld", value);
    return text;
}
