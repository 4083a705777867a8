/* Mails as files. */
#include "delivery/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/buf.h"

/* mkdir -p */
static bool make_dirs(const char *path)
{
    struct buf b = {0};
    bool ok = true;
    for (const char *at = path; ok && *at;) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        buf_clear(&b);
        buf_add(&b, path, (size_t)(at - path));
        ok = mkdir(buf_cstr(&b), 0777) == 0 || errno == EEXIST;
    }
    buf_free(&b);
    return ok;
}

static bool make_maildir(const char *dir)
{
    static const char *const parts[] = {"tmp", "new", "cur"};
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof parts / sizeof parts[0]; i++) {
        struct buf b = {0};
        buf_printf(&b, "%s/%s", dir, parts[i]);
        ok = make_dirs(buf_cstr(&b));
        buf_free(&b);
    }
    return ok;
}

static int open_new(const char *dir, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 && errno == ENOENT && make_maildir(dir))
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return fd;
}

static bool write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

bool maildir_put(const char *dir, const char *id, int64_t time_us, const void *data, size_t len, char *why,
                 size_t why_size)
{
    /* Two processes may write the same mail at the same time (a repeat after a rebalance): not through the same file. */
    struct buf tmp = {0}, new = {0};
    buf_printf(&tmp, "%s/tmp/%lld.%s.%ld.tidings", dir, (long long)(time_us / 1000000), id, (long)getpid());
    buf_printf(&new, "%s/new/%lld.%s.tidings", dir, (long long)(time_us / 1000000), id);
    int fd = open_new(dir, buf_cstr(&tmp));
    bool ok = fd >= 0 && write_all(fd, data, len) && fdatasync(fd) == 0;
    int error = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        error = errno;
    }
    if (ok && rename(tmp.data, buf_cstr(&new)) != 0) {
        ok = false;
        error = errno;
    }
    if (!ok) {
        snprintf(why, why_size, "cannot write %s: %s", buf_cstr(&new), strerror(error));
        if (fd >= 0)
            unlink(tmp.data);
    }
    buf_free(&tmp);
    buf_free(&new);
    return ok;
}
