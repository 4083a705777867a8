/* The settings as files, made from the table. */
#include "app/config_docs.h"

#include <string.h>

#include "core/config_table.h"

struct row {
    const char *env, *type;
    long long min, max;
    const char *def, *help;
};

static const struct row rows[] = {
#define CONFIG_ROW(field, env, type, min, max, def, help) {env, #type, min, max, def, help},
    CONFIG_TABLE(CONFIG_ROW)
#undef CONFIG_ROW
};

enum { ROWS = sizeof rows / sizeof *rows };

static void print_range(const struct row *r, FILE *out)
{
    if (strcmp(r->type, "INT") == 0)
        fprintf(out, "integer, %lld to %lld", r->min, r->max);
    else if (strcmp(r->type, "ENUM") == 0)
        fprintf(out, "one of %.*s", (int)strcspn(r->help, ":"), r->help);
    else
        fprintf(out, "%s, %lld to %lld bytes", strcmp(r->type, "SECRET") == 0 ? "secret" : "text", r->min, r->max);
}

void config_docs_env(FILE *out)
{
    fputs("# Settings of Tidings, with their defaults. Made by `tidings config --env`.\n"
          "# A line that starts with # leaves the default as it is.\n",
          out);
    for (int i = 0; i < ROWS; i++) {
        fprintf(out, "\n# %s\n# ", rows[i].help);
        print_range(&rows[i], out);
        fprintf(out, "%s\n#%s=%s\n", rows[i].def ? "" : "; unset by default", rows[i].env,
                rows[i].def ? rows[i].def : "");
    }
}

static void print_cell(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out); /* a bar would end the cell */
        fputc(*text, out);
    }
}

void config_docs_markdown(FILE *out)
{
    fputs("# Settings\n\n"
          "Environment variables, read once at start; a wrong one stops the start with a sentence that names it.\n"
          "`tidings config` prints them with their current values. Made by `tidings config --markdown`.\n\n"
          "| variable | default | meaning |\n|---|---|---|\n",
          out);
    for (int i = 0; i < ROWS; i++) {
        fprintf(out, "| `%s` | %s%s%s | ", rows[i].env, rows[i].def && *rows[i].def ? "`" : "",
                rows[i].def ? rows[i].def : "(unset)", rows[i].def && *rows[i].def ? "`" : "");
        print_cell(rows[i].help, out);
        if (strcmp(rows[i].type, "ENUM") != 0) {
            fputs(" (", out);
            print_range(&rows[i], out);
            fputc(')', out);
        }
        fputs(" |\n", out);
    }
}
