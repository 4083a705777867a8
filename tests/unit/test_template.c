/* Mail templates: substitution, refusal of what cannot work, values that try to be more than values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/embed.h"
#include "delivery/template.h"
#include "garbage.h"

static const char *const names[] = {"name", "link", NULL};

static void refuse(const char *text, const char *expected)
{
    char why[200] = "";
    assert_null(template_read(text, strlen(text), names, why, sizeof why));
    if (!strstr(why, expected))
        fail_msg("%s does not say %s", why, expected);
}

static void test_render(void **state)
{
    char why[200];
    struct buf subject = {0}, body = {0}, html = {0};
    const char text[] = "Subject: Hello {{name}}!\n\nDear {{name}},\n{{link}}\n{ {name} {x}\n\nBye {{name}}{{name}}";
    const char *const values[] = {"Ann", "http://x/?a=b"};
    (void)state;
    struct template *t = template_read(text, strlen(text), names, why, sizeof why);
    assert_non_null(t);
    template_render(t, values, &subject, &body, &html);
    assert_string_equal(buf_cstr(&subject), "Hello Ann!");
    assert_string_equal(buf_cstr(&body), "Dear Ann,\nhttp://x/?a=b\n{ {name} {x}\n\nBye AnnAnn\n");
    assert_int_equal(html.len, 0);
    template_free(t);
    buf_free(&subject);
    buf_free(&body);
}

static void test_values_stay_values(void **state)
{
    char why[200];
    struct buf subject = {0}, body = {0}, html = {0};
    const char text[] = "Subject: {{name}}\n\n{{name}}\n{{link}}\n";
    const char *const values[] = {"a\r\nBcc: x@example.com\x7f\t{{link}}", NULL};
    (void)state;
    struct template *t = template_read(text, strlen(text), names, why, sizeof why);
    assert_non_null(t);
    template_render(t, values, &subject, &body, &html);
    assert_string_equal(buf_cstr(&subject), "aBcc: x@example.com{{link}}");
    assert_string_equal(buf_cstr(&body), "a  Bcc: x@example.com  {{link}}\n\n");
    assert_int_equal(html.len, 0);
    template_free(t);
    buf_free(&subject);
    buf_free(&body);
}

static void test_lines_of_one_value(void **state)
{
    char why[200];
    struct buf subject = {0}, body = {0}, html = {0};
    const char text[] = "Subject: {{name}}\n\n{{name}}\n{{link}}\n";
    const char *const values[] = {"a\r\nb\x7f", "c\nd"};
    (void)state;
    struct template *t = template_read(text, strlen(text), names, why, sizeof why);
    assert_non_null(t);
    template_allow_lines(t, 0);
    template_render(t, values, &subject, &body, &html);
    assert_string_equal(buf_cstr(&subject), "ab");
    assert_string_equal(buf_cstr(&body), "a\nb \nc d\n");
    assert_int_equal(html.len, 0);
    template_free(t);
    buf_free(&subject);
    buf_free(&body);
}

static void test_refused(void **state)
{
    char long_line[1200];
    (void)state;
    refuse("", "Subject");
    refuse("Subject: x", "Subject");
    refuse("Subject: x\n", "Subject");
    refuse("Subject: x\nbody\n", "Subject");
    refuse("subject: x\n\nbody\n", "Subject");
    refuse("Subject: x\n\nab {{nam}}\n", "line 3: unknown placeholder {{nam}}");
    refuse("Subject: {{ name }}\n\nab\n", "line 1: unknown placeholder {{ name }}");
    refuse("Subject: x\n\nab\n{{name\n}}\n", "line 4: {{ without }}");
    refuse("Subject: x\r\n\r\nab\n", "line 1 has a control character");
    refuse("Subject: x\n\nab\xff\n", "UTF-8");
    snprintf(long_line, sizeof long_line, "Subject: x\n\n%01000d\n", 1);
    refuse(long_line, "line 3 is longer");
}

static void test_built_in_and_files(void **state)
{
    char why[300], dir[] = "/tmp/tidings-template-XXXXXX", path[128];
    (void)state;
    assert_true(embedded_templates_count >= 4);
    assert_null(template_load(NULL, "no.such", names, why, sizeof why));
    assert_non_null(strstr(why, "no.such.txt"));
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/own.txt", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("Subject: own\n\n{{nothing}}\n", f);
    fclose(f);
    assert_null(template_load(dir, "own", names, why, sizeof why));
    assert_string_equal(why, "mail template own.txt: line 3: unknown placeholder {{nothing}}");
    unlink(path);
    rmdir(dir);
}

static void test_html(void **state)
{
    char why[200];
    struct buf subject = {0}, text = {0}, html = {0};
    const char source[] = "<p title=\"{{name}}\">{{name}}</p>\n<a href='{{link}}'>x</a>";
    const char *const values[] = {"<script>\"&'\r\nx", "http://x/?a=1&b=\"2'"};
    (void)state;
    struct template *t = template_read("Subject: x\n\nx\n", 14, names, why, sizeof why);
    assert_true(template_read_html(t, source, sizeof source - 1, names, why, sizeof why));
    template_render(t, values, &subject, &text, &html);
    assert_string_equal(buf_cstr(&html),
                        "<p title=\"&lt;script&gt;&quot;&amp;&#39;  x\">&lt;script&gt;&quot;&amp;&#39;  x</p>\n"
                        "<a href='http://x/?a=1&amp;b=&quot;2&#39;'>x</a>\n");
    assert_string_equal(buf_cstr(&text), "x\n");
    buf_clear(&html);
    template_allow_lines(t, 0);
    template_render(t, values, &subject, &text, &html);
    assert_non_null(strstr(buf_cstr(&html), ">&lt;script&gt;&quot;&amp;&#39;<br>\nx</p>"));
    template_free(t);
    buf_free(&subject);
    buf_free(&text);
    buf_free(&html);
}

/* One of its pieces is wrong: which, and where. */
static void refuse_piece(struct template_source source, const char *piece, const char *expected)
{
    char why[200] = "";
    const char *at = NULL;
    assert_null(template_make(&source, names, &at, why, sizeof why));
    assert_string_equal(at, piece);
    if (!strstr(why, expected))
        fail_msg("%s does not say %s", why, expected);
}

static void test_pieces(void **state)
{
    char why[200], *long_line = malloc(200001);
    const char *at;
    struct buf subject = {0}, text = {0}, html = {0};
    const char *const values[] = {"Ann", "l"};
    (void)state;
    refuse_piece((struct template_source){"{{x}}", "t", NULL}, "subject", "line 1: unknown placeholder {{x}}");
    refuse_piece((struct template_source){"a\nb", "t", NULL}, "subject", "one line");
    refuse_piece((struct template_source){"a", "t\n{{name", NULL}, "text", "line 2: {{ without }}");
    refuse_piece((struct template_source){"a", "t\rx", NULL}, "text", "line 1 has a control character");
    refuse_piece((struct template_source){"a", "t", "\n\n{{no}}"}, "html", "line 3: unknown placeholder {{no}}");
    refuse_piece((struct template_source){"a", "t", "\xff"}, "html", "UTF-8");
    memset(long_line, 'x', 200000);
    long_line[200000] = '\0';
    refuse_piece((struct template_source){"a", long_line, NULL}, "text", "line 1 is longer");
    struct template *t =
        template_make(&(struct template_source){"Hi {{name}}", "{{link}}", long_line}, names, &at, why, sizeof why);
    assert_non_null(t);
    template_render(t, values, &subject, &text, &html);
    assert_string_equal(buf_cstr(&subject), "Hi Ann");
    assert_string_equal(buf_cstr(&text), "l\n");
    assert_int_equal(html.len, 200001);
    template_free(t);
    free(long_line);
    buf_free(&subject);
    buf_free(&text);
    buf_free(&html);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static bool has_html(const char *dir, const char *name)
{
    static const char *const built_in[] = {"campaign", "email", "reward", "message", NULL};
    static const char *const values[4];
    char why[300] = "";
    struct buf subject = {0}, text = {0}, html = {0};
    struct template *t = template_load(dir, name, built_in, why, sizeof why);
    if (!t)
        fail_msg("%s", why);
    template_render(t, values, &subject, &text, &html);
    bool has = html.len > 0;
    template_free(t);
    buf_free(&subject);
    buf_free(&text);
    buf_free(&html);
    return has;
}

static void test_html_beside_the_text(void **state)
{
    char why[300], dir[] = "/tmp/tidings-template-XXXXXX", path[128];
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_true(has_html(NULL, "reward"));
    assert_true(has_html(dir, "reward"));
    write_file(dir, "reward.txt", "Subject: own\n\nown\n");
    assert_false(has_html(dir, "reward")); /* not somebody else's words */
    write_file(dir, "reward.html", "<p>own</p>\n");
    assert_true(has_html(dir, "reward"));
    write_file(dir, "reward.html", "<p>own</p>\n{{x}}");
    assert_null(template_load(dir, "reward", names, why, sizeof why));
    assert_string_equal(why, "mail template reward.html: line 2: unknown placeholder {{x}}");
    snprintf(path, sizeof path, "%s/reward.txt", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/reward.html", dir);
    unlink(path);
    rmdir(dir);
}

static void test_garbage(void **state)
{
    const char sample[] = "Subject: Hello {{name}}!\n\nDear {{name}},\n{{link}}\n{ {name} {x}\n\nBye {{name}}{{name}}";
    uint64_t random = 88172645463325252u;
    (void)state;
    for (int i = 0; i < 20000; i++) {
        char text[200], why[64];
        size_t len = garbage_make(&random, sample, text, sizeof text);
        template_free(template_read(text, len, names, why, sizeof why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render),
        cmocka_unit_test(test_values_stay_values),
        cmocka_unit_test(test_lines_of_one_value),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_built_in_and_files),
        cmocka_unit_test(test_html),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_html_beside_the_text),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
