/* Versions without a hole, and in the shard's order. What came last of an aggregate is remembered in a table of fixed size, so
 * that most events need no question; the others (an aggregate that was pushed out, or first met) are asked for in batches. */
#include <stdio.h>
#include <stdlib.h>

#include "core/hash.h"
#include "core/pgbinary.h"
#include "verify/verify_int.h"

enum { REMEMBERED = 1 << 17, BATCH = 2000 }; /* 2 MB */

struct last {
    int64_t version;
    int32_t aggregate; /* 0: none */
};

struct versions {
    struct verify *verify;
    struct last *last;
    struct culprit waiting[BATCH]; /* what is to be said of each, should it be wrong */
    int32_t aggregate[BATCH];
    size_t count;
};

struct versions *versions_open(struct verify *v)
{
    struct versions *s = xcalloc(1, sizeof *s);
    s->verify = v;
    s->last = xcalloc(REMEMBERED, sizeof *s->last);
    return s;
}

void versions_close(struct versions *s)
{
    if (!s)
        return;
    free(s->last);
    free(s);
}

static void judge(struct versions *s, const PGresult *r)
{
    for (int i = 0; i < PQntuples(r); i++) {
        size_t ord = (size_t)pgbinary_int(r, i, 0);
        if (ord < 1 || ord > s->count)
            continue;
        struct culprit *c = &s->waiting[ord - 1];
        bool later = pgbinary_int(r, i, 1) != 0;
        snprintf(c->note, sizeof c->note, "%s",
                 later ? "the version before it comes later in the shard" : "the version before it is not there");
        report_add(s->verify->report, later ? R_OUT_OF_ORDER : R_VERSION_HOLES, c);
    }
}

bool versions_flush(struct versions *s)
{
    struct buf aggregates = {0}, versions = {0}, seqs = {0};
    struct verify *v = s->verify;
    if (s->count == 0)
        return true;
    array_begin(&aggregates);
    array_begin(&versions);
    array_begin(&seqs);
    for (size_t i = 0; i < s->count; i++) {
        array_int(&aggregates, s->aggregate[i]);
        array_int(&versions, s->waiting[i].version);
        array_int(&seqs, s->waiting[i].seq);
    }
    char shard[24];
    snprintf(shard, sizeof shard, "%lld", (long long)s->waiting[0].shard);
    const char *const values[] = {shard, array_end(&aggregates), array_end(&versions), array_end(&seqs)};
    PGresult *r = rows_ask(v->ask, "select * from verify_before($1::int, $2::int[], $3::bigint[], $4::bigint[])", 4,
                           values, v->why, v->why_size);
    if (r)
        judge(s, r);
    s->count = 0;
    PQclear(r);
    buf_free(&aggregates);
    buf_free(&versions);
    buf_free(&seqs);
    return r != NULL;
}

bool versions_check(struct versions *s, const struct verify_row *row)
{
    struct last *last = &s->last[hash64(&row->aggregate, sizeof row->aggregate) % REMEMBERED];
    bool follows =
        row->event.version == 1 || (last->aggregate == row->aggregate && last->version == row->event.version - 1);
    last->aggregate = row->aggregate;
    last->version = row->event.version;
    if (follows)
        return true;
    s->waiting[s->count] = culprit_of(&row->event);
    s->aggregate[s->count++] = row->aggregate;
    return s->count < BATCH || versions_flush(s);
}
