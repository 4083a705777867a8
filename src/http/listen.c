/* The listening socket. */
#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/log.h"

enum {
    BACKLOG = 4096,  /* the kernel clips it to net.core.somaxconn */
    KEPT_BACK = 512, /* descriptors that are not for HTTP connections */
};

static bool read_port(const char *text, in_port_t *port)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long number = strtoul(text, &end, 10);
    if (*end != '\0' || number > 65535)
        return false;
    *port = htons((in_port_t)number);
    return true;
}

static bool read_ipv6(char *host, struct sockaddr_in6 *address)
{
    char *zone = strchr(host, '%');
    if (zone) {
        *zone++ = '\0';
        address->sin6_scope_id = if_nametoindex(zone);
        if (address->sin6_scope_id == 0)
            return false;
    }
    address->sin6_family = AF_INET6;
    return inet_pton(AF_INET6, host, &address->sin6_addr) == 1;
}

static bool read_ipv4(const char *host, struct sockaddr_in *address)
{
    address->sin_family = AF_INET;
    return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &address->sin_addr) == 1;
}

bool listen_address(const char *text, struct sockaddr_storage *address, socklen_t *len, char *why, size_t why_size)
{
    char host[128];
    const char *colon = strrchr(text, ':');
    size_t host_len = colon ? (size_t)(colon - text) : 0;
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    memset(address, 0, sizeof *address);
    bool good = false;
    if (host_len >= 2 && host_len < sizeof host && text[0] == '[' && text[host_len - 1] == ']') {
        snprintf(host, sizeof host, "%.*s", (int)host_len - 2, text + 1);
        good = read_ipv6(host, six) && read_port(colon + 1, &six->sin6_port);
        *len = sizeof *six;
    } else if (host_len > 0 && host_len < sizeof host) {
        snprintf(host, sizeof host, "%.*s", (int)host_len, text);
        good = read_ipv4(host, four) && read_port(colon + 1, &four->sin_port);
        *len = sizeof *four;
    }
    if (!good)
        snprintf(why, why_size,
                 "HTTP_LISTEN must be an IP address and a port, like 127.0.0.1:8080 or [::1]:8080; it is %s", text);
    return good;
}

static void format_url(int fd, char url[LISTEN_URL_SIZE])
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    getsockname(fd, (struct sockaddr *)&address, &len);
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&address;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        snprintf(url, LISTEN_URL_SIZE, "http://[%s]:%u", host, ntohs(six->sin6_port));
    } else {
        const struct sockaddr_in *four = (const struct sockaddr_in *)&address;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        snprintf(url, LISTEN_URL_SIZE, "http://%s:%u", host, ntohs(four->sin_port));
    }
}

/* Accepted sockets inherit these on Linux: no system calls per connection. libh2o has no write timeout, so the kernel
 * has to give up on a client that acknowledges nothing. */
static bool set_options(int fd, unsigned user_timeout_ms)
{
    int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms) == 0;
}

int listen_open(const char *text, unsigned user_timeout_ms, char url[LISTEN_URL_SIZE], char *why, size_t why_size)
{
    struct sockaddr_storage address;
    socklen_t len;
    if (!listen_address(text, &address, &len, why, why_size))
        return -1;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || !set_options(fd, user_timeout_ms) || bind(fd, (struct sockaddr *)&address, len) != 0 ||
        listen(fd, BACKLOG) != 0) {
        snprintf(why, why_size, "cannot listen at %s: %s", text, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    format_url(fd, url);
    return fd;
}

size_t listen_connection_bound(size_t wanted)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY)
        return wanted;
    rlim_t need = (rlim_t)wanted + KEPT_BACK;
    if (files.rlim_cur < need && files.rlim_cur < files.rlim_max) {
        struct rlimit raised = {.rlim_cur = need < files.rlim_max ? need : files.rlim_max, .rlim_max = files.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            files = raised;
    }
    if (files.rlim_cur >= need)
        return wanted;
    rlim_t left = files.rlim_cur > 2 * KEPT_BACK ? files.rlim_cur - KEPT_BACK : files.rlim_cur / 2;
    log_warn("the limit of open files is below HTTP_MAX_CONNECTIONS: fewer connections are taken", "connections",
             log_int((long long)left), "open_files", log_int((long long)files.rlim_cur));
    return (size_t)left;
}
