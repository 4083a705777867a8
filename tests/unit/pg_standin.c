#include "pg_standin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

void standin_listen(struct standin *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->listener, 5), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&address, &size), 0);
    s->port = ntohs(address.sin_port);
}

static bool read_exactly(int fd, char *out, size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, out, len);
        if (n <= 0)
            return false;
        out += n;
        len -= (size_t)n;
    }
    return true;
}

static bool read_body(int fd, char *body, size_t size, size_t *len)
{
    uint32_t length;
    if (!read_exactly(fd, (char *)&length, 4))
        return false;
    *len = ntohl(length) - 4;
    assert_true(*len < size);
    body[*len] = '\0';
    return read_exactly(fd, body, *len);
}

bool standin_read_startup(int fd, char *body, size_t size, size_t *len)
{
    while (read_body(fd, body, size, len)) {
        if (*len != 4)
            return true;
        assert_int_equal(write(fd, "N", 1), 1); /* SSLRequest or GSSENCRequest */
    }
    return false;
}

bool standin_read_message(int fd, char *type, char *body, size_t size, size_t *len)
{
    return read_exactly(fd, type, 1) && read_body(fd, body, size, len);
}

void standin_add(struct buf *out, char type, const void *body, size_t len)
{
    buf_addc(out, type);
    buf_add_u32be(out, (uint32_t)len + 4);
    buf_add(out, body, len);
}

void standin_send(int fd, struct buf *out)
{
    assert_int_equal(send(fd, out->data, out->len, MSG_NOSIGNAL), out->len);
    buf_free(out);
}

void standin_welcome(int fd)
{
    struct buf hello = {0};
    standin_add(&hello, 'R', "\0\0\0\0", 4);
    standin_add(&hello, 'Z', "I", 1);
    standin_send(fd, &hello);
}
