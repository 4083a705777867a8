/* Mails as files in a Maildir, for people who try Tidings and for tests. Any thread. */
#ifndef TIDINGS_DELIVERY_MAILDIR_H
#define TIDINGS_DELIVERY_MAILDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Puts a mail into dir/new, by way of dir/tmp, durably; makes dir, tmp, new and cur when they are missing. The file's
 * name comes from the time and the id alone, so the same mail again replaces the first. id: letters, digits, '-'.
 * False with a sentence in why. */
bool maildir_put(const char *dir, const char *id, int64_t time_us, const void *data, size_t len, char *why,
                 size_t why_size);

#endif
