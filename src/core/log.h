/* Structured log on standard error, one line an event, logfmt or JSON. Any thread.
 * A line is put into a bounded ring and written by a thread of its own, so that a full pipe never blocks the loop;
 * lines that do not fit are counted in tidings_log_dropped_total. */
#ifndef TIDINGS_CORE_LOG_H
#define TIDINGS_CORE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_start(const char *level, const char *format); /* before other threads; words as in LOG_LEVEL and LOG_FORMAT */
void log_stop(void);                                   /* writes out what waits (at most 1 s), joins the thread */
bool log_enabled(enum log_level level);

/* One line: msg is a short constant sentence; then pairs of key and value. Keys are constant identifiers; every value is
 * a "const char *" (NULL is skipped) and is escaped. Use log_int for numbers. Ends with a NULL key.
 *   log_write(LOG_WARN, "lane lost its connection", "lane", log_int(id), "error", PQerrorMessage(c), NULL);
 * Before log_start, lines go straight to standard error. */
void log_write(enum log_level level, const char *msg, ...) __attribute__((sentinel));

/* A number as text in a small per-thread ring of 16 buffers: valid until 16 further calls on the same thread. */
const char *log_int(long long value);

#define log_debug(...) do { if (log_enabled(LOG_DEBUG)) log_write(LOG_DEBUG, __VA_ARGS__, NULL); } while (0)
#define log_info(...) do { if (log_enabled(LOG_INFO)) log_write(LOG_INFO, __VA_ARGS__, NULL); } while (0)
#define log_warn(...) do { if (log_enabled(LOG_WARN)) log_write(LOG_WARN, __VA_ARGS__, NULL); } while (0)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__, NULL)

#endif
