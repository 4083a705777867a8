/* The metrics registry: series are found or made under a lock, updated by relaxed atomics, rendered as text. */
#include "core/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

enum kind { COUNTER, GAUGE, SECONDS, SIZES };

struct metric_info {
    const char *name, *labels, *help;
    enum kind kind;
};

static const struct metric_info infos[METRIC_COUNT] = {
#define METRIC_INFO(id, kind_, name_, labels_, help_)                                                                  \
    [id] = {.name = name_, .labels = labels_, .help = help_, .kind = kind_},
    METRICS_TABLE(METRIC_INFO)
#undef METRIC_INFO
};

#define BOUNDS_MAX 19

/* Upper bounds of the buckets: microseconds for durations, plain counts for sizes; 0 ends. */
static const int64_t seconds_bounds[BOUNDS_MAX + 1] = {50,      100,     200,      500,      1000,     2000,   5000,
                                                       10000,   20000,   50000,    100000,   200000,   500000, 1000000,
                                                       2000000, 5000000, 10000000, 20000000, 60000000, 0};
static const int64_t sizes_bounds[BOUNDS_MAX + 1] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 0};

struct metric_series {
    enum metric id;
    char *label[2];        /* values; constant once the series can be seen */
    _Atomic int64_t value; /* counter, gauge; a histogram's sum */
    /* A histogram's: per bucket, not cumulative; the last one is past all bounds. */
    _Atomic int64_t counts[BOUNDS_MAX + 1];
};

/* Metrics without labels have their one series here, so that their short forms take no lock and show from the start. */
static struct metric_series plain[METRIC_COUNT] = {
#define METRIC_PLAIN(id_, kind, name, labels, help) [id_] = {.id = id_},
    METRICS_TABLE(METRIC_PLAIN)
#undef METRIC_PLAIN
};

static struct {
    pthread_mutex_t lock;
    size_t count[METRIC_COUNT];
    struct metric_series *series[METRIC_COUNT][METRIC_MAX_SERIES];
    struct metric_series *other[METRIC_COUNT]; /* shared by what comes after METRIC_MAX_SERIES */
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct metric_series *series_new(enum metric id, const char *label1, const char *label2)
{
    struct metric_series *s = xcalloc(1, sizeof *s);
    s->id = id;
    s->label[0] = xstrdup(label1);
    s->label[1] = xstrdup(label2);
    return s;
}

struct metric_series *metric_get(enum metric id, const char *label1, const char *label2)
{
    if (!*infos[id].labels)
        return &plain[id];
    label1 = label1 ? label1 : "";
    label2 = label2 ? label2 : "";
    struct metric_series *s = NULL;
    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < registry.count[id] && !s; i++)
        if (strcmp(registry.series[id][i]->label[0], label1) == 0 &&
            strcmp(registry.series[id][i]->label[1], label2) == 0)
            s = registry.series[id][i];
    if (!s && registry.count[id] < METRIC_MAX_SERIES)
        s = registry.series[id][registry.count[id]++] = series_new(id, label1, label2);
    if (!s) {
        if (!registry.other[id])
            registry.other[id] = series_new(id, "other", "other");
        s = registry.other[id];
    }
    pthread_mutex_unlock(&registry.lock);
    return s;
}

void metric_add(struct metric_series *s, int64_t n)
{
    atomic_fetch_add_explicit(&s->value, n, memory_order_relaxed);
}

void metric_set(struct metric_series *s, int64_t value)
{
    atomic_store_explicit(&s->value, value, memory_order_relaxed);
}

static bool is_histogram(enum metric id)
{
    return infos[id].kind == SECONDS || infos[id].kind == SIZES;
}

static const int64_t *bounds_of(enum metric id)
{
    return infos[id].kind == SECONDS ? seconds_bounds : sizes_bounds;
}

void metric_observe(struct metric_series *s, int64_t value)
{
    const int64_t *bounds = bounds_of(s->id);
    size_t i = 0;
    while (bounds[i] && value > bounds[i])
        i++;
    atomic_fetch_add_explicit(&s->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->value, value, memory_order_relaxed);
}

int64_t metric_value(struct metric_series *s)
{
    if (!is_histogram(s->id))
        return atomic_load_explicit(&s->value, memory_order_relaxed);
    int64_t count = 0;
    for (size_t i = 0; i <= BOUNDS_MAX; i++)
        count += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
    return count;
}

void metric_inc(enum metric id)
{
    metric_add(metric_get(id, NULL, NULL), 1);
}

void metric_gauge(enum metric id, int64_t value)
{
    metric_set(metric_get(id, NULL, NULL), value);
}

void metric_seen(enum metric id, int64_t value)
{
    metric_observe(metric_get(id, NULL, NULL), value);
}

/* --- the exposition --- */

/* Durations are kept in microseconds and shown in seconds. */
static bool in_microseconds(enum metric id)
{
    size_t len = strlen(infos[id].name);
    return infos[id].kind == SECONDS ||
           (infos[id].kind == GAUGE && len > 8 && strcmp(infos[id].name + len - 8, "_seconds") == 0);
}

static void add_number(struct buf *out, int64_t value, bool micros)
{
    if (!micros) {
        buf_add_int(out, value);
        return;
    }
    if (value < 0)
        buf_addc(out, '-');
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    buf_add_int(out, (int64_t)(size / 1000000));
    unsigned fraction = (unsigned)(size % 1000000);
    if (fraction) {
        buf_printf(out, ".%06u", fraction);
        while (out->data[out->len - 1] == '0')
            out->len--;
    }
}

static void add_escaped(struct buf *out, const char *text, bool quotes)
{
    for (; *text; text++) {
        if (*text == '\n') {
            buf_adds(out, "\\n");
            continue;
        }
        if (*text == '\\' || (quotes && *text == '"'))
            buf_addc(out, '\\');
        buf_addc(out, *text);
    }
}

/* name_suffix{label="value",…,le="bound"}; bound is 0 for +Inf and negative for none. */
static void add_head(struct buf *out, const struct metric_series *s, const char *suffix, int64_t bound)
{
    const struct metric_info *info = &infos[s->id];
    char before = '{';
    buf_adds(out, info->name);
    buf_adds(out, suffix);
    const char *name = info->labels;
    for (int i = 0; i < 2 && *name; i++) {
        size_t len = strcspn(name, ",");
        buf_addc(out, before);
        buf_add(out, name, len);
        buf_adds(out, "=\"");
        add_escaped(out, s->label[i], true);
        buf_addc(out, '"');
        before = ',';
        name += len + (name[len] == ',');
    }
    if (bound >= 0) {
        buf_addc(out, before);
        buf_adds(out, "le=\"");
        if (bound)
            add_number(out, bound, in_microseconds(s->id));
        else
            buf_adds(out, "+Inf");
        buf_addc(out, '"');
        before = ',';
    }
    buf_adds(out, before == ',' ? "} " : " ");
}

static void render_histogram(struct buf *out, struct metric_series *s)
{
    const int64_t *bounds = bounds_of(s->id);
    int64_t count = 0;
    for (size_t i = 0;; i++) {
        count += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
        add_head(out, s, "_bucket", bounds[i]);
        buf_add_int(out, count);
        buf_addc(out, '\n');
        if (!bounds[i])
            break;
    }
    add_head(out, s, "_sum", -1);
    add_number(out, atomic_load_explicit(&s->value, memory_order_relaxed), in_microseconds(s->id));
    buf_addc(out, '\n');
    add_head(out, s, "_count", -1); /* of the same reading as the buckets, so that they agree */
    buf_add_int(out, count);
    buf_addc(out, '\n');
}

static void render_series(struct buf *out, struct metric_series *s)
{
    if (is_histogram(s->id)) {
        render_histogram(out, s);
        return;
    }
    add_head(out, s, "", -1);
    add_number(out, metric_value(s), in_microseconds(s->id));
    buf_addc(out, '\n');
}

static void render_metric(struct buf *out, enum metric id)
{
    const struct metric_info *info = &infos[id];
    static const char *const types[] = {"counter", "gauge", "histogram", "histogram"};
    buf_printf(out, "# HELP %s ", info->name);
    add_escaped(out, info->help, false);
    buf_printf(out, "\n# TYPE %s %s\n", info->name, types[info->kind]);
    if (!*info->labels)
        render_series(out, &plain[id]);
    /* Series are only ever added: those that are there now can be read without keeping anyone from adding more. */
    pthread_mutex_lock(&registry.lock);
    size_t count = registry.count[id];
    struct metric_series *other = registry.other[id];
    pthread_mutex_unlock(&registry.lock);
    for (size_t i = 0; i < count; i++)
        render_series(out, registry.series[id][i]);
    if (other)
        render_series(out, other);
}

void metrics_render(struct buf *out)
{
    for (size_t id = 0; id < METRIC_COUNT; id++)
        render_metric(out, (enum metric)id);
}
