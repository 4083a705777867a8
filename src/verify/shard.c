/* A shard's events against the records of its partitions: events come in the order of their seqs, and each one pulls records
 * out of its partition until it is found, or a record shows that the partition is already past it. When the number of
 * partitions has grown, an event's partition is the one by the number that the event before it went by, or else by another.
 *
 *   the record is the event, byte for byte       first seen, in order: the one comparison that nearly all take
 *   it names (aggregate, version) this event     seen, but differing
 *   it names a later event of the partition      this one is unseen: missing, unless it comes later, or still in the outbox
 *   it names an earlier one                      a repeat; or one that was unseen: out of order
 *   it names none                                unknown, or of a purged campaign
 *
 * Memory: two pages of events, PART_RECORDS records per partition of the shard, what librdkafka fetches ahead, and a bit for each
 * event of the shard, where some are unseen. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/hash.h"
#include "core/pgbinary.h"
#include "verify/part.h"
#include "verify/unseen.h"

enum { GAPS = 1000 };

struct shard {
    struct verify *verify;
    uint32_t no;
    const struct verify_shard *cut;
    struct part *parts;
    size_t count;
    struct unseen unseen;
    uint32_t spread; /* over how many partitions keys were spread when the last event was sent */
    int64_t last;    /* seq of the last event */
    struct {
        int64_t after, before;
    } gaps[GAPS]; /* the first gaps between seqs */
    size_t gap_count;
    struct buf value;
};

/* --- one record --- */

static bool is_here(const struct shard *s, const struct part *p, const struct record *r)
{
    return r->kind == RECORD_EVENT && r->row.shard == s->no && part_takes(s->verify, p->no, r->hash);
}

/* --since leaves out what is older. */
static bool is_old(const struct verify *v, const struct record *r)
{
    if (r->kind == RECORD_EVENT)
        return r->row.shard < v->options->shards && r->row.seq <= v->shard[r->row.shard].after;
    return v->options->since && r->row.at_us > 0 && r->row.at_us < v->options->since_us;
}

static void add(struct shard *s, enum report_count what, const struct part *p, const struct record *r, const char *note)
{
    struct culprit c = part_culprit(p, r);
    snprintf(c.note, sizeof c.note, "%s", note);
    report_add(s->verify->report, what, &c);
}

static bool expect(struct shard *s, const struct part *p, const struct record *r, const struct event_row *row,
                   int32_t aggregate)
{
    return !s->verify->effects || effects_expect(s->verify->effects, row, aggregate, (int32_t)p->no, r->message->offset,
                                                 r->message->payload, r->message->len);
}

/* An event that was passed is seen after all. */
static bool take_late(struct shard *s, struct part *p, const struct record *r)
{
    struct report *report = s->verify->report;
    report->count[r->row.seq > s->cut->acked ? R_WAITING : R_MISSING]--;
    report_add(report, R_IN_KAFKA, NULL);
    add(s, R_OUT_OF_ORDER, p, r, "a later event of the partition was seen before it");
    return !r->exact || expect(s, p, r, &r->row, r->aggregate);
}

/* A record that is not the event whose turn it is. */
static bool take_other(struct shard *s, struct part *p, const struct record *r)
{
    struct report *report = s->verify->report;
    bool ok = true;
    if (is_old(s->verify, r) || (is_here(s, p, r) && r->row.seq > s->last)) /* or committed after the cut */
        return true;
    report_add(report, R_RECORDS, NULL);
    if (r->kind == RECORD_UNKNOWN) {
        add(s, R_UNKNOWN, p, r, r->note);
    } else if (r->kind == RECORD_PURGED) {
        report_add(report, R_PURGED, NULL);
    } else if (!is_here(s, p, r)) {
        add(s, R_MISPLACED, p, r, "");
    } else {
        if (!r->other && unseen_take(&s->unseen, r->row.seq))
            ok = take_late(s, p, r);
        else
            report_add(report, R_REPEATS, NULL);
        if (!r->exact)
            add(s, R_DIFFERING, p, r, r->note);
    }
    return ok;
}

/* --- one event --- */

static bool take_seen(struct shard *s, struct part *p, const struct verify_row *row, const struct record *r, bool exact)
{
    report_add(s->verify->report, R_RECORDS, NULL);
    report_add(s->verify->report, R_IN_KAFKA, NULL);
    p->begun = true;
    if (exact)
        return expect(s, p, r, &row->event, row->aggregate);
    add(s, R_DIFFERING, p, r, r->note);
    return true;
}

static void take_missed(struct shard *s, const struct part *p, int64_t seq)
{
    struct report *report = s->verify->report;
    bool waiting = seq > s->cut->acked, gone = p->aged && !p->begun;
    report_add(report, waiting ? R_WAITING : gone ? R_EXPIRED : R_MISSING, NULL);
    if (!gone)
        unseen_add(&s->unseen, seq);
}

/* Pulls records out of a partition up to the event's. False in *found: it is not there, as far as the partition has got. */
static bool pull(struct shard *s, struct part *p, const struct verify_row *row, const char *key, bool *found)
{
    *found = false;
    for (;;) {
        struct record *r;
        if (!part_peek(p, &r))
            return false;
        if (!r)
            return true;
        bool exact = record_is(r, key, &s->value);
        if (!exact && r->kind == RECORD_NEW && !part_find(p))
            return false;
        bool here = !exact && is_here(s, p, r);
        if (here && r->row.seq > row->event.seq)
            return true;
        *found = exact || (here && r->row.seq == row->event.seq && !r->other);
        bool ok = *found ? take_seen(s, p, row, r, exact) : take_other(s, p, r);
        part_next(p);
        if (*found || !ok)
            return ok;
    }
}

static struct part *part_by_no(struct shard *s, uint32_t no)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->parts[i].no == no)
            return &s->parts[i];
    return NULL;
}

static bool take_event(struct shard *s, const struct verify_row *row, uint32_t hash, const char *key)
{
    struct part *usual = part_by_no(s, hash % s->spread), *p = usual;
    uint32_t step = s->verify->options->shards;
    bool found;
    if (!pull(s, usual, row, key, &found))
        return false;
    for (uint32_t n = step; !found && n <= s->verify->partitions; n += step) {
        p = part_by_no(s, hash % n);
        if (p != usual && !pull(s, p, row, key, &found))
            return false;
        if (found)
            s->spread = n;
    }
    if (!found)
        take_missed(s, usual, row->event.seq);
    return true;
}

static bool take_row(struct shard *s, const struct verify_row *row)
{
    struct report *report = s->verify->report;
    struct event_text text;
    int64_t last = s->last;
    s->last = row->event.seq;
    report_add(report, R_COMMITTED, NULL);
    if (!versions_check(s->verify->versions, row))
        return false;
    struct culprit c = culprit_of(&row->event);
    if (row->event.seq <= last) { /* with --campaign alone: by versions */
        snprintf(c.note, sizeof c.note, "the version before it comes later in the shard");
        report_add(report, R_OUT_OF_ORDER, &c);
        s->last = last;
        return true;
    }
    if (row->event.seq > last + 1 && s->gap_count < GAPS && !s->verify->options->campaign) {
        s->gaps[s->gap_count].after = last;
        s->gaps[s->gap_count++].before = row->event.seq;
    }
    event_text(&row->event, &text);
    uint32_t hash = aggregate_hash(text.key, UUID_TEXT_SIZE - 1);
    if (hash % s->verify->options->shards != s->no) {
        report_add(report, R_WRONG_SHARD, &c);
        return true;
    }
    buf_clear(&s->value);
    event_value_of(&row->event, &text, &s->value);
    return take_event(s, row, hash, text.key);
}

/* --- the whole shard --- */

static bool take_rows(struct shard *s)
{
    struct verify *v = s->verify;
    struct rows_range range = {.shard = s->no, .after = s->cut->after, .to = s->cut->head, .aggregate = v->campaign_no};
    if (v->campaign_no)
        range.after = 0;
    struct rows *rows = rows_open(v->rows, range);
    const struct verify_row *row;
    bool ok = true, more = true;
    while (ok && more) {
        ok = rows_next(rows, &row, v->why, v->why_size);
        more = ok && row;
        if (more && row->event.seq > s->cut->after)
            ok = take_row(s, row);
    }
    rows_close(rows);
    return ok && versions_flush(v->versions);
}

/* What is left in a partition when all events have passed. */
static bool drain(struct shard *s, struct part *p)
{
    for (;;) {
        struct record *r;
        if (!part_peek(p, &r))
            return false;
        if (!r)
            return true;
        if ((r->kind == RECORD_NEW && !part_find(p)) || !take_other(s, p, r))
            return false;
        part_next(p);
    }
}

/* Looks the first missing events up, to name them. */
static bool name_missing(struct shard *s)
{
    struct verify *v = s->verify;
    bool ok = true;
    int64_t seq = unseen_next(&s->unseen, 0);
    for (int i = 0; ok && i < REPORT_CULPRITS && seq > 0 && seq <= s->cut->acked; i++) {
        struct rows *rows = rows_open(v->ask, (struct rows_range){.shard = s->no, .after = seq - 1, .to = seq});
        const struct verify_row *row = NULL;
        ok = rows_next(rows, &row, v->why, v->why_size);
        if (row) {
            struct culprit c = culprit_of(&row->event);
            char key[UUID_TEXT_SIZE];
            size_t len = event_key(&row->event, key);
            c.partition = aggregate_hash(key, len) % s->spread;
            report_name(v->report, R_MISSING, &c);
        }
        rows_close(rows);
        seq = unseen_next(&s->unseen, seq);
    }
    return ok;
}

static bool ask_number(struct verify *v, const char *sql, int count, const int64_t *numbers, int64_t *out)
{
    char text[3][24];
    const char *values[3];
    for (int i = 0; i < count; i++) {
        snprintf(text[i], sizeof text[i], "%" PRId64, numbers[i]);
        values[i] = text[i];
    }
    PGresult *r = rows_ask(v->ask, sql, count, values, v->why, v->why_size);
    if (r)
        *out = (int64_t)pgbinary_int(r, 0, 0);
    PQclear(r);
    return r != NULL;
}

/* Gaps between seqs are holes, unless they were purged. */
static bool judge_gaps(struct shard *s)
{
    struct verify *v = s->verify;
    int64_t holes = 0, located = 0;
    bool all = s->cut->after == 0;
    if (s->gap_count == 0)
        return true;
    if (all && !ask_number(v, "select verify_holes($1::int)", 1, &(int64_t){s->no}, &holes))
        return false;
    for (size_t i = 0; (!all || holes > 0) && i < s->gap_count; i++) {
        int64_t numbers[] = {s->no, s->gaps[i].after, s->gaps[i].before}, uncovered = 0;
        if (!ask_number(v, "select verify_uncovered($1::int, $2::bigint, $3::bigint)", 3, numbers, &uncovered))
            return false;
        if (uncovered <= 0)
            continue;
        struct culprit c = CULPRIT_INIT;
        c.shard = s->no;
        c.seq = s->gaps[i].after + 1;
        report_name(v->report, R_SEQ_HOLES, &c);
        located += uncovered;
    }
    if (all && holes > 0 && located == 0) {
        struct culprit c = CULPRIT_INIT;
        c.shard = s->no;
        snprintf(c.note, sizeof c.note, "among seqs that were purged");
        report_name(v->report, R_SEQ_HOLES, &c);
    }
    v->report->count[R_SEQ_HOLES] += all && holes > located ? holes : located;
    return true;
}

/* Cursors never pass what is there. */
static void judge_head(struct shard *s)
{
    struct report *report = s->verify->report;
    if (s->cut->acked <= s->cut->head || s->verify->options->campaign)
        return;
    struct culprit c = CULPRIT_INIT;
    c.shard = s->no;
    c.seq = s->cut->head + 1;
    snprintf(c.note, sizeof c.note, "the cursor stands at %" PRId64 ": the newest events are gone", s->cut->acked);
    report_name(report, R_SEQ_HOLES, &c);
    report->count[R_SEQ_HOLES] += s->cut->acked - s->cut->head;
}

static void close_parts(struct shard *s)
{
    for (size_t i = 0; i < s->count; i++)
        part_close(&s->parts[i]);
    free(s->parts);
    unseen_free(&s->unseen);
    buf_free(&s->value);
}

/* The partitions of the shard, or those that the campaign may be in. */
static bool open_parts(struct shard *s)
{
    struct verify *v = s->verify;
    uint32_t shards = v->options->shards;
    s->parts = xcalloc(v->partitions / shards, sizeof *s->parts);
    for (uint32_t p = s->no; p < v->partitions; p += shards)
        if ((!v->options->campaign || part_takes(v, p, v->campaign_hash)) && !part_open(&s->parts[s->count++], v, p))
            return false;
    return true;
}

bool shard_verify(struct verify *v, uint32_t no)
{
    struct shard *s = xcalloc(1, sizeof *s);
    s->verify = v;
    s->no = no;
    s->cut = &v->shard[no];
    s->last = s->cut->after;
    s->spread = v->partitions;
    unseen_init(&s->unseen, s->cut->after, s->cut->head);
    bool ok = open_parts(s) && take_rows(s);
    for (size_t i = 0; ok && i < s->count; i++)
        ok = drain(s, &s->parts[i]);
    ok = ok && name_missing(s) && judge_gaps(s);
    judge_head(s);
    close_parts(s);
    free(s);
    return ok;
}

bool shard_verify_foreign(struct verify *v, uint32_t partition)
{
    struct shard *s = xcalloc(1, sizeof *s);
    s->verify = v;
    s->no = UINT32_MAX; /* nothing belongs here */
    s->parts = xcalloc(1, sizeof *s->parts);
    s->count = 1;
    bool ok = part_open(s->parts, v, partition) && drain(s, s->parts);
    close_parts(s);
    free(s);
    return ok;
}
