/* The Maildir: made when missing, one file per mail however often it is sent, never half a file in new. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "delivery/maildir.h"

static int count_files(const char *dir, const char *part)
{
    char path[256];
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", dir, part);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static void read_file(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void test_put(void **state)
{
    char base[] = "/tmp/tidings-maildir-XXXXXX", dir[128], path[256], why[200] = "", text[64];
    const char id[] = "01900000-0000-7000-8000-000000000001";
    (void)state;
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/var/mail", base);
    assert_true(maildir_put(dir, id, 1735732800000000, "one\n", 4, why, sizeof why));
    assert_true(maildir_put(dir, id, 1735732800000000, "again\n", 6, why, sizeof why));
    assert_true(maildir_put(dir, "another", 1735732800000000, "two\n", 4, why, sizeof why));
    assert_int_equal(count_files(dir, "new"), 2);
    assert_int_equal(count_files(dir, "tmp"), 0);
    assert_int_equal(count_files(dir, "cur"), 0);
    snprintf(path, sizeof path, "%s/new/1735732800.%s.tidings", dir, id);
    read_file(path, text, sizeof text);
    assert_string_equal(text, "again\n");
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", base);
    assert_int_equal(system(command), 0);
}

static void test_failure_is_told(void **state)
{
    char why[200] = "";
    (void)state;
    assert_false(maildir_put("/dev/null/mail", "id", 0, "x", 1, why, sizeof why));
    assert_non_null(strstr(why, "/dev/null/mail/new/"));
    assert_false(maildir_put("/proc", "id", 0, "x", 1, why, sizeof why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_failure_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
