/* Mail templates: substitution, refusal of what cannot work, values that try to be more than values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
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
    struct buf subject = {0}, body = {0};
    const char text[] = "Subject: Hello {{name}}!\n\nDear {{name}},\n{{link}}\n{ {name} {x}\n\nBye {{name}}{{name}}";
    const char *const values[] = {"Ann", "http://x/?a=b"};
    (void)state;
    struct template *t = template_read(text, strlen(text), names, why, sizeof why);
    assert_non_null(t);
    template_render(t, values, &subject, &body);
    assert_string_equal(buf_cstr(&subject), "Hello Ann!");
    assert_string_equal(buf_cstr(&body), "Dear Ann,\nhttp://x/?a=b\n{ {name} {x}\n\nBye AnnAnn\n");
    template_free(t);
    buf_free(&subject);
    buf_free(&body);
}

static void test_values_stay_values(void **state)
{
    char why[200];
    struct buf subject = {0}, body = {0};
    const char text[] = "Subject: {{name}}\n\n{{name}}\n{{link}}\n";
    const char *const values[] = {"a\r\nBcc: x@example.com\x7f\t{{link}}", NULL};
    (void)state;
    struct template *t = template_read(text, strlen(text), names, why, sizeof why);
    assert_non_null(t);
    template_render(t, values, &subject, &body);
    assert_string_equal(buf_cstr(&subject), "aBcc: x@example.com{{link}}");
    assert_string_equal(buf_cstr(&body), "a  Bcc: x@example.com  {{link}}\n\n");
    template_free(t);
    buf_free(&subject);
    buf_free(&body);
}

static void test_lines_of_one_value(void **state)
{
    char why[200];
    struct buf subject = {0}, body = {0};
    const char text[] = "Subject: {{name}}\n\n{{name}}\n{{link}}\n";
    const char *const values[] = {"a\r\nb\x7f", "c\nd"};
    (void)state;
    struct template *t = template_read(text, strlen(text), names, why, sizeof why);
    assert_non_null(t);
    template_allow_lines(t, 0);
    template_render(t, values, &subject, &body);
    assert_string_equal(buf_cstr(&subject), "ab");
    assert_string_equal(buf_cstr(&body), "a\nb \nc d\n");
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
    assert_null(template_load(NULL, "no.such.txt", names, why, sizeof why));
    assert_non_null(strstr(why, "no.such.txt"));
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/own.txt", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("Subject: own\n\n{{nothing}}\n", f);
    fclose(f);
    assert_null(template_load(dir, "own.txt", names, why, sizeof why));
    assert_string_equal(why, "mail template own.txt: line 3: unknown placeholder {{nothing}}");
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
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
