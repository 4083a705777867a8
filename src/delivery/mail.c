/* Composing mails with GMime. */
#include "delivery/mail.h"

#include <gmime/gmime.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 998

static pthread_once_t started = PTHREAD_ONCE_INIT;

static void start(void)
{
    g_mime_init(); /* not thread-safe itself, everything after it is */
}

void mail_start(void)
{
    pthread_once(&started, start);
}

/* A header's value without control characters. */
static const char *clean(const char *value, struct buf *out)
{
    buf_clear(out);
    for (; *value; value++)
        if ((unsigned char)*value >= 0x20 && *value != 0x7f)
            buf_addc(out, *value);
    return buf_cstr(out);
}

/* One address, as a list of one. NULL: not exactly one. */
static InternetAddressList *parse_address(const char *text)
{
    struct buf cleaned = {0};
    InternetAddressList *list = internet_address_list_parse(NULL, clean(text, &cleaned));
    buf_free(&cleaned);
    if (list && internet_address_list_length(list) == 1 &&
        INTERNET_ADDRESS_IS_MAILBOX(internet_address_list_get_address(list, 0)))
        return list;
    if (list)
        g_object_unref(list);
    return NULL;
}

static const char *address_of(InternetAddressList *list)
{
    return internet_address_mailbox_get_addr(INTERNET_ADDRESS_MAILBOX(internet_address_list_get_address(list, 0)));
}

bool mail_address(const char *from, struct buf *out)
{
    InternetAddressList *list = parse_address(from);
    const char *address = list ? address_of(list) : NULL;
    bool ok = address && *address;
    if (ok)
        buf_adds(out, address);
    if (list)
        g_object_unref(list);
    return ok;
}

/* An address as it is, without a parser that might see two in it. */
static InternetAddress *plain_address(const char *address)
{
    struct buf cleaned = {0};
    InternetAddress *a = internet_address_mailbox_new(NULL, clean(address, &cleaned));
    buf_free(&cleaned);
    return a;
}

static GMimeContentEncoding encoding_of(const char *body, bool eight_bit)
{
    bool ascii = true;
    size_t line = 0;
    for (; *body; body++) {
        line = *body == '\n' ? 0 : line + 1;
        if (line > LINE_MAX_BYTES)
            return GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE;
        ascii = ascii && (unsigned char)*body < 0x80;
    }
    if (ascii)
        return GMIME_CONTENT_ENCODING_7BIT;
    return eight_bit ? GMIME_CONTENT_ENCODING_8BIT : GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE;
}

static GMimeObject *new_part(const char *subtype, const char *body, bool eight_bit)
{
    GMimeTextPart *part = g_mime_text_part_new_with_subtype(subtype);
    GMimeStream *stream = g_mime_stream_mem_new_with_buffer(body, strlen(body));
    GMimeDataWrapper *content = g_mime_data_wrapper_new_with_stream(stream, GMIME_CONTENT_ENCODING_DEFAULT);
    g_mime_text_part_set_charset(part, "utf-8");
    g_mime_part_set_content(GMIME_PART(part), content);
    g_mime_part_set_content_encoding(GMIME_PART(part), encoding_of(body, eight_bit));
    g_object_unref(content);
    g_object_unref(stream);
    return GMIME_OBJECT(part);
}

/* The richest last, as RFC 2046 wants it. */
static GMimeObject *new_alternative(const char *text, const char *html, bool eight_bit)
{
    GMimeMultipart *multipart = g_mime_multipart_new_with_subtype("alternative");
    GMimeObject *plain = new_part("plain", text, eight_bit), *rich = new_part("html", html, eight_bit);
    g_mime_multipart_add(multipart, plain);
    g_mime_multipart_add(multipart, rich);
    g_object_unref(plain);
    g_object_unref(rich);
    return GMIME_OBJECT(multipart);
}

static void set_body(GMimeMessage *message, const struct mail *m, bool eight_bit)
{
    GMimeObject *body = m->html ? new_alternative(m->text, m->html, eight_bit) : new_part("plain", m->text, eight_bit);
    g_mime_message_set_mime_part(message, body);
    g_object_unref(body);
}

/* Mail programs show a button for it, and providers want to see it: see RFC 2369 and RFC 8058. The header stands in one
 * line: GMime would break the link where it is too long for one. */
static void set_unsubscribe(GMimeMessage *message, const char *url)
{
    struct buf cleaned = {0}, value = {0};
    GMimeObject *object = GMIME_OBJECT(message);
    buf_printf(&value, " <%s>\n", clean(url, &cleaned));
    g_mime_object_append_header(object, "List-Unsubscribe", "", NULL);
    g_mime_header_set_raw_value(
        g_mime_header_list_get_header(g_mime_object_get_header_list(object), "List-Unsubscribe"), buf_cstr(&value));
    g_mime_object_append_header(object, "List-Unsubscribe-Post", "List-Unsubscribe=One-Click", NULL);
    buf_free(&cleaned);
    buf_free(&value);
}

static void set_headers(GMimeMessage *message, const struct mail *m, InternetAddressList *from)
{
    struct buf cleaned = {0};
    InternetAddress *to = plain_address(m->to);
    GDateTime *date = g_date_time_new_from_unix_utc(m->date_us / 1000000);
    internet_address_list_append(g_mime_message_get_from(message), from);
    internet_address_list_add(g_mime_message_get_to(message), to);
    g_mime_message_set_subject(message, clean(m->subject, &cleaned), "utf-8");
    g_mime_message_set_date(message, date);
    g_mime_message_set_message_id(message, clean(m->message_id, &cleaned));
    g_mime_object_append_header(GMIME_OBJECT(message), "Auto-Submitted", "auto-generated", NULL);
    if (m->unsubscribe_url)
        set_unsubscribe(message, m->unsubscribe_url);
    g_date_time_unref(date);
    g_object_unref(to);
    buf_free(&cleaned);
}

static void write_out(GMimeMessage *message, bool crlf, struct buf *out)
{
    GMimeFormatOptions *format = g_mime_format_options_new();
    g_mime_format_options_set_newline_format(format, crlf ? GMIME_NEWLINE_FORMAT_DOS : GMIME_NEWLINE_FORMAT_UNIX);
    GMimeStream *memory = g_mime_stream_mem_new();
    g_mime_object_write_to_stream(GMIME_OBJECT(message), format, memory);
    const GByteArray *bytes = g_mime_stream_mem_get_byte_array(GMIME_STREAM_MEM(memory));
    buf_add(out, bytes->data, bytes->len);
    g_object_unref(memory);
    g_mime_format_options_free(format);
}

bool mail_compose(const struct mail *m, bool crlf, bool eight_bit, struct buf *out, char *why, size_t why_size)
{
    InternetAddressList *from = parse_address(m->from);
    if (!from) {
        snprintf(why, why_size, "MAIL_FROM is not one address");
        return false;
    }
    if (!strchr(m->to, '@') || strpbrk(m->to, " \t\r\n,;<>\"")) {
        snprintf(why, why_size, "the recipient's address is not valid");
        g_object_unref(from);
        return false;
    }
    GMimeMessage *message = g_mime_message_new(TRUE);
    set_headers(message, m, from);
    set_body(message, m, eight_bit);
    write_out(message, crlf, out);
    g_object_unref(message);
    g_object_unref(from);
    return true;
}
