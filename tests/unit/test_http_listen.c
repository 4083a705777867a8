/* HTTP_LISTEN: what is an address, and what is said when it cannot be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "http/listen.h"

static void test_listen_addresses(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    socklen_t len;
    char why[200];
    assert_true(listen_address("127.0.0.1:8080", &address, &len, why, sizeof why));
    assert_int_equal(address.ss_family, AF_INET);
    assert_int_equal(ntohs(((struct sockaddr_in *)&address)->sin_port), 8080);
    assert_true(listen_address("[::1]:0", &address, &len, why, sizeof why));
    assert_int_equal(address.ss_family, AF_INET6);
    assert_true(listen_address("[::]:65535", &address, &len, why, sizeof why));
    assert_true(listen_address("localhost:1", &address, &len, why, sizeof why));
    static const char *const bad[] = {"",
                                      ":",
                                      ":80",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:x",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:80 ",
                                      "::1:80",
                                      "[::1]80",
                                      "[]:80",
                                      "[127.0.0.1]:80",
                                      "example.com:80",
                                      "300.0.0.1:80",
                                      "[fe80::1%nosuchinterface]:80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        why[0] = '\0';
        assert_false(listen_address(bad[i], &address, &len, why, sizeof why));
        assert_non_null(strstr(why, "HTTP_LISTEN"));
    }
}

static void test_a_taken_port_is_said(void **state)
{
    (void)state;
    char url[LISTEN_URL_SIZE], again[LISTEN_URL_SIZE], why[200];
    int fd = listen_open("127.0.0.1:0", 1000, url, why, sizeof why);
    assert_true(fd >= 0);
    assert_int_equal(strncmp(url, "http://127.0.0.1:", 17), 0);
    assert_string_not_equal(url, "http://127.0.0.1:0");
    assert_int_equal(listen_open(url + 7, 1000, again, why, sizeof why), -1);
    assert_non_null(strstr(why, "in use"));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen_addresses),
        cmocka_unit_test(test_a_taken_port_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
