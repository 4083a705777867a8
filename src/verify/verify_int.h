/* What the parts of verify share. */
#ifndef TIDINGS_VERIFY_VERIFY_INT_H
#define TIDINGS_VERIFY_VERIFY_INT_H

#include "core/buf.h"
#include "verify/progress.h"
#include "verify/rows.h"
#include "verify/topic.h"
#include "verify/verify.h"

/* A shard as the cut found it. */
struct verify_shard {
    int64_t acked; /* all up to here was acknowledged before Kafka's ends were read */
    int64_t head;  /* all that is in Kafka before its ends lies up to here */
    int64_t after; /* --since: what lies up to here is not judged; else 0 */
};

struct verify {
    const struct config *config;
    const struct verify_options *options;
    PGconn *rows, *ask; /* pages of events come in on one while the other answers */
    struct topic *topic;
    uint32_t partitions;        /* over which keys are spread; the topic may have more */
    struct verify_shard *shard; /* by number */
    struct topic_range *range;  /* by partition, of all that the topic has */
    int64_t *from;              /* by partition: where reading begins */
    int64_t *committed;         /* [group * topic's partitions + partition]; -1: nothing */
    int64_t now_us;             /* of the cut, by Postgres' clock, which the events' times are of */
    int32_t campaign_no;        /* --campaign; else 0 */
    uint32_t campaign_hash;
    struct versions *versions;
    struct effects *effects;
    struct report *report;
    struct progress progress;
    char *why; /* why it could not look */
    size_t why_size;
};

/* "{1,2}" as a parameter: array_begin, elements, array_end. */
static inline void array_begin(struct buf *b)
{
    buf_clear(b);
    buf_addc(b, '{');
}

static inline void array_int(struct buf *b, int64_t value)
{
    if (b->data[b->len - 1] != '{')
        buf_addc(b, ',');
    buf_add_int(b, value);
}

static inline void array_uuid(struct buf *b, struct uuid id)
{
    if (b->data[b->len - 1] != '{')
        buf_addc(b, ',');
    uuid_format(id, buf_grow(b, UUID_TEXT_SIZE));
    b->len += UUID_TEXT_SIZE - 1;
}

static inline const char *array_end(struct buf *b)
{
    buf_addc(b, '}');
    return buf_cstr(b);
}

/* The aggregate's outer id, of which the key and the hash are made. */
static inline struct uuid aggregate_id(const struct event_row *row)
{
    return uuid_equal(row->campaign_id, (struct uuid){{0}}) ? row->account_id : row->campaign_id;
}

/* An event as a culprit; partition and offset are still to be said. */
static inline struct culprit culprit_of(const struct event_row *row)
{
    struct culprit c = CULPRIT_INIT;
    c.shard = row->shard;
    c.seq = row->seq;
    c.version = row->version;
    c.id = row->id;
    c.aggregate = aggregate_id(row);
    return c;
}

/* --- versions.c: each version comes right after the one before it --- */

struct versions *versions_open(struct verify *v);
void versions_close(struct versions *s);
/* The next event of its shard. Those of which it is not known at once are asked for in batches. */
bool versions_check(struct versions *s, const struct verify_row *row);
bool versions_flush(struct versions *s); /* asks for the rest: at the end of the shard */

/* --- shard.c: a shard's events against its partitions' records --- */

bool shard_verify(struct verify *v, uint32_t shard);
/* A partition beyond those over which keys are spread: nothing should be there. */
bool shard_verify_foreign(struct verify *v, uint32_t partition);

/* --- cut.c: the order of looking --- */

bool cut_take(struct verify *v);
void cut_lag(struct verify *v); /* fills in the groups' lag */
/* Waits until the outbox has sent, and groups first … first + count - 1 have finished, what is committed now. *done: they
 * have, within timeout_ms. */
bool cut_wait(struct verify *v, size_t first, size_t count, int64_t timeout_ms, bool *done);

/* --- effects.c: each finished event has had its effect --- */

struct effects *effects_open(struct verify *v);
void effects_close(struct effects *e);
/* An event was seen at an offset: the groups that process its type and have committed past it must have done it. value: the
 * record's, which is the event's. */
bool effects_expect(struct effects *e, const struct event_row *row, int32_t aggregate, int32_t partition,
                    int64_t offset, const char *value, size_t len);
bool effects_flush(struct effects *e);

/* --- sagas.c: what ends a saga is its one end --- */

struct saga_ends *saga_ends_open(struct verify *v, size_t group); /* group: to which faults are put down */
void saga_ends_close(struct saga_ends *s);                        /* NULL is fine */
/* An event, in Kafka; passes over those that end no saga. value: as effects_expect's. */
bool saga_ends_see(struct saga_ends *s, const struct event_row *row, int32_t aggregate, const char *value, size_t len);
bool saga_ends_flush(struct saga_ends *s);

/* --- strays.c: there are no effects besides --- */

bool strays_verify(struct verify *v, size_t group);

/* --- counts.c: the counts of events, in Postgres and in STATS_TOPIC --- */

/* has_committed: the group has begun, so there is a topic. */
bool counts_verify(struct verify *v, size_t group, bool has_committed);

#endif
