/* What was found, for people and as JSON. */
#include "verify/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

static const struct {
    const char *section, *name, *line;
    bool fault;
} counts[REPORT_COUNT] = {
#define REPORT_ROW(id, section_, name_, fault_, line_)                                                                 \
    [id] = {.section = section_, .name = name_, .line = line_, .fault = fault_},
    REPORT_COUNTS(REPORT_ROW)
#undef REPORT_ROW
};

static void remember(struct report_fault *f, const struct culprit *c)
{
    if (f->count < REPORT_CULPRITS)
        f->culprit[f->count++] = *c;
}

void report_add(struct report *r, enum report_count what, const struct culprit *c)
{
    r->count[what]++;
    if (c)
        report_name(r, what, c);
}

void report_name(struct report *r, enum report_count what, const struct culprit *c)
{
    r->fault[what].name = counts[what].name;
    if (counts[what].fault)
        remember(&r->fault[what], c);
}

void report_add_group(struct report *r, size_t group, enum group_fault what, const struct culprit *c)
{
    struct report_fault *f = &r->fault[REPORT_COUNT + 2 * group + (what == GROUP_DOUBLED)];
    int64_t *count = what == GROUP_DOUBLED ? &r->group[group].doubled : &r->group[group].missing;
    ++*count;
    f->group = r->group[group].name;
    f->name = what == GROUP_DOUBLED ? "doubled" : "missing";
    remember(f, c);
}

bool report_ok(const struct report *r)
{
    for (int i = 0; i < REPORT_COUNT; i++)
        if (counts[i].fault && r->count[i] != 0)
            return false;
    for (size_t g = 0; g < r->groups; g++)
        if (r->group[g].missing != 0 || r->group[g].doubled != 0)
            return false;
    return true;
}

/* --- for people --- */

/* 1234567 as 1,234,567. */
static const char *grouped(int64_t n, char out[32])
{
    char digits[24];
    size_t at = 0, len = (size_t)snprintf(digits, sizeof digits, "%" PRId64, n);
    for (size_t i = 0; i < len; i++) {
        out[at++] = digits[i];
        if ((len - i - 1) % 3 == 0 && i + 1 < len && digits[i] != '-')
            out[at++] = ',';
    }
    out[at] = '\0';
    return out;
}

static bool is_zero(struct uuid id)
{
    return uuid_equal(id, (struct uuid){{0}});
}

static void print_id(const char *what, struct uuid id, const char **comma, FILE *out)
{
    char text[UUID_TEXT_SIZE];
    if (is_zero(id))
        return;
    uuid_format(id, text);
    fprintf(out, "%s%s %s", *comma, what, text);
    *comma = ", ";
}

static void print_number(const char *what, int64_t n, const char **comma, FILE *out)
{
    if (n < 0)
        return;
    fprintf(out, "%s%s %" PRId64, *comma, what, n);
    *comma = ", ";
}

static void print_culprit(const struct culprit *c, FILE *out)
{
    const char *comma = "      ";
    print_number("partition", c->partition, &comma, out);
    print_number("offset", c->offset, &comma, out);
    print_number("shard", c->shard, &comma, out);
    print_number("seq", c->seq, &comma, out);
    print_number("version", c->version, &comma, out);
    print_id("id", c->id, &comma, out);
    print_id("aggregate", c->aggregate, &comma, out);
    if (c->note[0])
        fprintf(out, "%s%s", comma, c->note);
    fputc('\n', out);
}

static void print_culprits(const struct report_fault *f, int64_t count, FILE *out)
{
    for (int i = 0; i < f->count; i++)
        print_culprit(&f->culprit[i], out);
    if (count > f->count && f->count > 0)
        fputs("      …\n", out);
}

static void print_counts(const struct report *r, FILE *out)
{
    const char *section = "";
    char number[32];
    for (int i = 0; i < REPORT_COUNT; i++) {
        if (strcmp(section, counts[i].section) != 0) {
            section = counts[i].section;
            fprintf(out, "%s\n", section);
        }
        bool wrong = counts[i].fault && r->count[i] != 0;
        fprintf(out, "  %14s  %s%s\n", grouped(r->count[i], number), counts[i].line, wrong ? "   ← wrong" : "");
        print_culprits(&r->fault[i], r->count[i], out);
    }
}

static void print_group(const struct report *r, size_t i, FILE *out)
{
    const struct report_group *g = &r->group[i];
    char n[6][32];
    bool wrong = g->missing != 0 || g->doubled != 0;
    fprintf(out, "  %-18s %13s %13s %13s %9s %9s %9s%s%s\n", g->name, grouped(g->lag, n[0]), grouped(g->expected, n[1]),
            grouped(g->found, n[2]), grouped(g->dead, n[3]), grouped(g->missing, n[4]), grouped(g->doubled, n[5]),
            wrong ? "   ← wrong" : "", g->unjudged ? "   (its table is not judged: it lags behind)" : "");
    for (int k = 0; k < 2; k++) {
        const struct report_fault *f = &r->fault[REPORT_COUNT + 2 * i + (size_t)k];
        if (f->count > 0)
            fprintf(out, "      %s:\n", f->name);
        print_culprits(f, k == 0 ? g->missing : g->doubled, out);
    }
}

void report_print(const struct report *r, FILE *out)
{
    fprintf(out, "topic %s, %" PRIu32 " partitions, %" PRIu32 " shards", r->topic, r->partitions, r->shards);
    fprintf(out, "%s%s%s%s\n", r->campaign ? ", campaign " : "", r->campaign ? r->campaign : "",
            r->since ? ", since " : "", r->since ? r->since : "");
    print_counts(r, out);
    if (r->groups > 0)
        fprintf(out, "groups %25s %13s %13s %9s %9s %9s\n", "lag", "expected", "found", "dead", "missing", "doubled");
    for (size_t i = 0; i < r->groups; i++)
        print_group(r, i, out);
    fprintf(out, "%s (%.1f s)\n", report_ok(r) ? "All is right" : "Something is wrong", r->seconds);
}

/* --- JSON --- */

static void json_number(struct buf *b, const char *name, int64_t n)
{
    buf_printf(b, "%s\"%s\":%" PRId64, b->data[b->len - 1] == '{' ? "" : ",", name, n);
}

static void json_text(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, "%s\"%s\":", b->data[b->len - 1] == '{' ? "" : ",", name);
    if (text)
        buf_add_json(b, text, strlen(text));
    else
        buf_adds(b, "null");
}

static void json_id(struct buf *b, const char *name, struct uuid id)
{
    char text[UUID_TEXT_SIZE];
    if (is_zero(id))
        return;
    uuid_format(id, text);
    json_text(b, name, text);
}

static void json_culprit(struct buf *b, const struct report_fault *f, const struct culprit *c)
{
    static const char *const names[] = {"partition", "offset", "shard", "seq", "version"};
    const int64_t numbers[] = {c->partition, c->offset, c->shard, c->seq, c->version};
    buf_adds(b, b->data[b->len - 1] == '[' ? "{" : ",{");
    if (f->group)
        json_text(b, "group", f->group);
    json_text(b, "fault", f->name);
    for (int i = 0; i < 5; i++)
        if (numbers[i] >= 0)
            json_number(b, names[i], numbers[i]);
    json_id(b, "id", c->id);
    json_id(b, "aggregate", c->aggregate);
    if (c->note[0])
        json_text(b, "note", c->note);
    buf_addc(b, '}');
}

static void json_counts(struct buf *b, const struct report *r)
{
    const char *section = "";
    for (int i = 0; i < REPORT_COUNT; i++) {
        if (strcmp(section, counts[i].section) != 0) {
            section = counts[i].section;
            buf_printf(b, "%s,\"%s\":{", i > 0 ? "}" : "", section);
        }
        json_number(b, counts[i].name, r->count[i]);
    }
    buf_addc(b, '}');
}

static void json_groups(struct buf *b, const struct report *r)
{
    buf_adds(b, ",\"groups\":{");
    for (size_t i = 0; i < r->groups; i++) {
        const struct report_group *g = &r->group[i];
        buf_printf(b, "%s\"%s\":{", i > 0 ? "," : "", g->name);
        json_number(b, "lag", g->lag);
        json_number(b, "expected", g->expected);
        json_number(b, "found", g->found);
        json_number(b, "dead", g->dead);
        json_number(b, "missing", g->missing);
        json_number(b, "doubled", g->doubled);
        json_number(b, "excused", g->excused);
        buf_printf(b, ",\"judged\":%s}", g->unjudged ? "false" : "true");
    }
    buf_addc(b, '}');
}

void report_json(const struct report *r, FILE *out)
{
    struct buf b = {0};
    buf_printf(&b, "{\"ok\":%s", report_ok(r) ? "true" : "false");
    json_text(&b, "topic", r->topic);
    json_number(&b, "partitions", r->partitions);
    json_number(&b, "shards", r->shards);
    json_text(&b, "campaign", r->campaign);
    json_text(&b, "since", r->since);
    json_counts(&b, r);
    json_groups(&b, r);
    buf_adds(&b, ",\"culprits\":[");
    for (size_t i = 0; i < sizeof r->fault / sizeof r->fault[0]; i++)
        for (int k = 0; k < r->fault[i].count; k++)
            json_culprit(&b, &r->fault[i], &r->fault[i].culprit[k]);
    buf_printf(&b, "],\"seconds\":%.3f}", r->seconds);
    fprintf(out, "%s\n", buf_cstr(&b));
    buf_free(&b);
}
