/* Heads of requests that could be read in two ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <string.h>

#include "http/framing.h"

#define GET "GET / HTTP/1.1\r\n"

static const char *fault(const char *head, bool http_1_0)
{
    return framing_fault(head, strlen(head), http_1_0);
}

static void test_framing(void **state)
{
    (void)state;
    static const char *const good[] = {
        GET "Host: a\r\n\r\n",
        "\r\n" GET "Host: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        GET "host:a\r\nContent-Length: 5\r\n\r\nHost: b\r\n\r\n", /* what follows the empty line is the body */
        GET "host: a\r\ntransfer-encoding: Chunked\r\n\r\n",
        GET "Host: a\r\nX-Content-Length: 1\r\nX-Host: b\r\n\r\n",
    };
    static const char *const bad[] = {
        GET "\r\n",
        GET "Host: a\r\nhOST: a\r\n\r\n",
        GET "Host: a\r\n b\r\n\r\n",
        GET "Host: a\r\nX: 1\r\n\tmore\r\n\r\n",
        GET "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        GET "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        GET "Host: a\r\nTransfer-Encoding:\r\n\r\n",
        GET "Host: a\r\nContent-Length: +5\r\n\r\n",
        GET "Host: a\r\nContent-Length: 5 \r\n\r\n",
        GET "Host: a\r\nContent-Length: 5, 5\r\n\r\n",
        GET "Host: a\r\nContent-Length:\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_null(fault(good[i], false));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_non_null(fault(bad[i], false));
    assert_null(fault("GET / HTTP/1.0\r\n\r\n", true));
    assert_non_null(fault("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", true));
    assert_non_null(fault("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_framing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
