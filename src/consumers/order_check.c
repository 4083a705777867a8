/* A small table, one place for each hash: an aggregate that takes another's place is begun anew, so nothing is ever reported
 * that is not so. */
#include "consumers/order_check.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/uuid.h"

#define LOG_EVERY_US 10000000

struct seen {
    uint64_t aggregate; /* hash of the key; 0: free */
    uint64_t id;        /* hash of the id of that version */
    int64_t version;
};

struct order_check {
    struct seen seen[ORDER_CHECK_AGGREGATES];
    struct metric_series *gap, *differs;
    int64_t logged_us;
};

struct order_check *order_check_new(void)
{
    struct order_check *o = xcalloc(1, sizeof *o);
    o->gap = metric_get(M_CHECK_FAULTS, "gap", NULL);
    o->differs = metric_get(M_CHECK_FAULTS, "differs", NULL);
    return o;
}

void order_check_free(struct order_check *o)
{
    free(o);
}

void order_check_forget(struct order_check *o)
{
    memset(o->seen, 0, sizeof o->seen);
}

/* The value bytes that Tidings makes begin with the id and end with the version: {"id":"…", … ,"version":7} */
#define HEAD "{\"id\":\""
#define TAIL "\"version\":"

/* 0: not a value of ours. */
static int64_t version_of(const char *value, size_t len)
{
    int64_t version = 0, unit = 1;
    size_t at = len - 1;
    if (value[at] != '}')
        return 0;
    while (at > 0 && value[at - 1] >= '0' && value[at - 1] <= '9' && len - at < 18) {
        at--;
        version += (value[at] - '0') * unit;
        unit *= 10;
    }
    const size_t tail = sizeof TAIL - 1;
    return at > tail && memcmp(value + at - tail, TAIL, tail) == 0 ? version : 0;
}

static void report(struct order_check *o, const struct source_record *r, struct metric_series *series, const char *what,
                   int64_t expected, int64_t version)
{
    int64_t now_us = clock_mono_us();
    metric_add(series, 1);
    if (o->logged_us != 0 && now_us - o->logged_us < LOG_EVERY_US)
        return;
    o->logged_us = now_us;
    log_error("events are not as they must be: run `tidings verify`", "fault", what, "partition", log_int(r->partition),
              "offset", log_int(r->offset), "version", log_int(version), "expected", log_int(expected));
}

void order_check_see(struct order_check *o, const struct source_record *r)
{
    const size_t head = sizeof HEAD - 1, id_len = UUID_TEXT_SIZE - 1;
    if (!r->key || r->key_len != id_len || !r->value || r->value_len < head + id_len ||
        memcmp(r->value, HEAD, head) != 0)
        return;
    int64_t version = version_of(r->value, r->value_len);
    if (version == 0)
        return;
    uint64_t aggregate = hash64(r->key, r->key_len) | 1, id = hash64(r->value + head, id_len);
    struct seen *s = &o->seen[(aggregate >> 32) % ORDER_CHECK_AGGREGATES];
    if (s->aggregate == aggregate && version < s->version)
        return; /* a repeat */
    if (s->aggregate == aggregate && version == s->version && id != s->id)
        report(o, r, o->differs, "a version comes again as another event", version, version);
    if (s->aggregate == aggregate && version > s->version + 1)
        report(o, r, o->gap, "a version comes too early", s->version + 1, version);
    *s = (struct seen){.aggregate = aggregate, .id = id, .version = version};
}
