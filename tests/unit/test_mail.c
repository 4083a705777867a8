/* Composed mails: their headers, their encoding, and that nothing in a value becomes a header. Read back with GMime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <gmime/gmime.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "delivery/mail.h"

static const struct mail plain = {
    .from = "Tidings <tidings@example.com>",
    .to = "ann@example.org",
    .message_id = "0190-1.email@example.com",
    .subject = "Hello",
    .text = "Open http://127.0.0.1:8080/v1/verify?token=abc=def\n",
    .date_us = 1735732800000000,
};

static char *compose(const struct mail *m, bool crlf, bool eight_bit)
{
    struct buf b = {0};
    char why[200] = "";
    if (!mail_compose(m, crlf, eight_bit, &b, why, sizeof why))
        fail_msg("%s", why);
    buf_cstr(&b);
    return b.data;
}

static GMimeMessage *parse(const char *text)
{
    GMimeStream *stream = g_mime_stream_mem_new_with_buffer(text, strlen(text));
    GMimeParser *parser = g_mime_parser_new_with_stream(stream);
    GMimeMessage *message = g_mime_parser_construct_message(parser, NULL);
    g_object_unref(parser);
    g_object_unref(stream);
    assert_non_null(message);
    return message;
}

static char *body_of(GMimeMessage *message)
{
    return g_mime_text_part_get_text(GMIME_TEXT_PART(g_mime_message_get_mime_part(message)));
}

static void test_plain(void **state)
{
    (void)state;
    char *text = compose(&plain, false, true);
    assert_null(strchr(text, '\r'));
    assert_non_null(strstr(text, "From: Tidings <tidings@example.com>\n"));
    assert_non_null(strstr(text, "To: ann@example.org\n"));
    assert_non_null(strstr(text, "Subject: Hello\n"));
    assert_non_null(strstr(text, "Message-Id: <0190-1.email@example.com>\n"));
    assert_non_null(strstr(text, "Date: Wed, 01 Jan 2025 12:00:00 +0000\n"));
    assert_non_null(strstr(text, "Auto-Submitted: auto-generated\n"));
    assert_non_null(strstr(text, "MIME-Version: 1.0\n"));
    assert_non_null(strstr(text, "Content-Transfer-Encoding: 7bit\n"));
    assert_non_null(strstr(text, "\n\nOpen http://127.0.0.1:8080/v1/verify?token=abc=def\n")); /* in one piece */
    free(text);
}

static void test_line_ends(void **state)
{
    (void)state;
    char *text = compose(&plain, true, false);
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        assert_true(at > text && at[-1] == '\r');
    assert_non_null(strstr(text, "\r\n\r\nOpen http://127.0.0.1:8080/v1/verify?token=abc=def\r\n"));
    free(text);
}

static void test_utf8(void **state)
{
    struct mail m = plain;
    m.subject = "Grüße aus Köln – 你好";
    m.text = "Schön, daß du da bist!\nhttp://x/?token=abc=def\n";
    (void)state;
    for (int i = 0; i < 2; i++) {
        bool eight_bit = i == 0;
        char *text = compose(&m, false, eight_bit);
        GMimeMessage *read = parse(text);
        assert_string_equal(g_mime_message_get_subject(read), m.subject);
        char *body = body_of(read);
        assert_string_equal(body, m.text);
        g_free(body);
        g_object_unref(read);
        const char *header_end = strstr(text, "\n\n");
        for (const char *at = text; at < header_end; at++)
            assert_true((unsigned char)*at < 0x80);
        assert_non_null(strstr(text, eight_bit ? "Content-Transfer-Encoding: 8bit"
                                               : "Content-Transfer-Encoding: quoted-printable"));
        if (eight_bit)
            assert_non_null(strstr(text, "\nhttp://x/?token=abc=def\n"));
        free(text);
    }
}

static void test_long_line(void **state)
{
    char body[3000];
    struct mail m = plain;
    (void)state;
    memset(body, 'x', sizeof body);
    memcpy(body + sizeof body - 2, "\n", 2);
    m.text = body;
    char *text = compose(&m, true, true);
    size_t line = 0;
    for (const char *at = text; *at; at++) {
        line = *at == '\n' ? 0 : line + 1;
        assert_true(line <= 1000);
    }
    free(text);
}

static void test_injection(void **state)
{
    struct mail m = plain;
    char why[200];
    struct buf b = {0};
    (void)state;
    m.subject = "x\r\nBcc: evil@example.com\r\n\r\nbody";
    m.message_id = "id\r\nX-Evil: 1@example.com";
    char *text = compose(&m, false, true);
    GMimeMessage *read = parse(text);
    assert_null(g_mime_object_get_header(GMIME_OBJECT(read), "Bcc"));
    assert_null(g_mime_object_get_header(GMIME_OBJECT(read), "X-Evil"));
    assert_string_equal(g_mime_message_get_subject(read), "xBcc: evil@example.combody");
    g_object_unref(read);
    free(text);
    static const char *const addresses[] = {"a@b.example\r\nBcc: evil@example.com",
                                            "a@b.example, c@d.example",
                                            "<a@b.example>",
                                            "a b@c.example",
                                            "nobody",
                                            "",
                                            "\"a\"@b.example"};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        m = plain;
        m.to = addresses[i];
        assert_false(mail_compose(&m, false, true, &b, why, sizeof why));
    }
    m = plain;
    m.from = "a@b.example, c@d.example";
    assert_false(mail_compose(&m, false, true, &b, why, sizeof why));
    buf_free(&b);
}

static void test_html(void **state)
{
    struct mail m = plain;
    (void)state;
    m.text = "Text: für dich\n";
    m.html = "<p>HTML: für dich</p>\n";
    for (int i = 0; i < 2; i++) {
        char *text = compose(&m, true, i == 0);
        GMimeMessage *read = parse(text);
        GMimeObject *whole = g_mime_message_get_mime_part(read);
        assert_true(GMIME_IS_MULTIPART(whole));
        assert_string_equal(g_mime_content_type_get_media_subtype(g_mime_object_get_content_type(whole)),
                            "alternative");
        assert_int_equal(g_mime_multipart_get_count(GMIME_MULTIPART(whole)), 2);
        for (int k = 0; k < 2; k++) {
            GMimeObject *part = g_mime_multipart_get_part(GMIME_MULTIPART(whole), k);
            assert_string_equal(g_mime_content_type_get_media_subtype(g_mime_object_get_content_type(part)),
                                k == 0 ? "plain" : "html");
            char *body = g_mime_text_part_get_text(GMIME_TEXT_PART(part));
            assert_non_null(strstr(body, k == 0 ? "Text: für dich" : "<p>HTML: für dich</p>"));
            g_free(body);
        }
        g_object_unref(read);
        free(text);
    }
}

static void test_unsubscribe(void **state)
{
    struct mail m = plain;
    char url[200] = "https://example.com/some/way/v1/unsubscribe?token=", header[300];
    (void)state;
    memset(url + strlen(url), 'A', 75);
    m.unsubscribe_url = url;
    char *text = compose(&m, true, false);
    GMimeMessage *read = parse(text);
    snprintf(header, sizeof header, "<%s>", url);
    assert_string_equal(g_mime_object_get_header(GMIME_OBJECT(read), "List-Unsubscribe"), header);
    assert_string_equal(g_mime_object_get_header(GMIME_OBJECT(read), "List-Unsubscribe-Post"),
                        "List-Unsubscribe=One-Click");
    assert_non_null(strstr(text, url)); /* in one piece, however long */
    g_object_unref(read);
    free(text);
    m.unsubscribe_url = "https://x/\r\nBcc: evil@example.com";
    text = compose(&m, true, false);
    read = parse(text);
    assert_null(g_mime_object_get_header(GMIME_OBJECT(read), "Bcc"));
    g_object_unref(read);
    free(text);
}

static void test_sender(void **state)
{
    struct buf b = {0};
    (void)state;
    assert_true(mail_address("Tidings <tidings@localhost>", &b));
    assert_string_equal(buf_cstr(&b), "tidings@localhost");
    buf_clear(&b);
    assert_true(mail_address("ann@example.org", &b));
    assert_string_equal(buf_cstr(&b), "ann@example.org");
    assert_false(mail_address("a@b.example, c@d.example", &b));
    assert_false(mail_address("", &b));
    buf_free(&b);
}

static int start(void **state)
{
    (void)state;
    mail_start();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),     cmocka_unit_test(test_line_ends),   cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_long_line), cmocka_unit_test(test_injection),   cmocka_unit_test(test_sender),
        cmocka_unit_test(test_html),      cmocka_unit_test(test_unsubscribe),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
