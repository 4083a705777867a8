/* A partition's records as they are judged: a few hundred at hand, and for those that are not what was expected, the event that
 * each names. One thread. */
#ifndef TIDINGS_VERIFY_PART_H
#define TIDINGS_VERIFY_PART_H

#include "verify/verify_int.h"

enum { PART_RECORDS = 500 };

enum record_kind {
    RECORD_NEW,     /* nobody has asked yet */
    RECORD_EVENT,   /* it names a committed event: row */
    RECORD_PURGED,  /* it names one that was purged */
    RECORD_UNKNOWN, /* it names none, or cannot be read: note */
};

struct record {
    rd_kafka_message_t *message;
    enum record_kind kind;
    struct event_row row; /* data is not kept. Not RECORD_EVENT: what the value says of version, aggregate and time */
    int32_t aggregate;    /* of an event */
    uint32_t hash;        /* of the aggregate of an event */
    bool exact;           /* key and value are the event's */
    bool other;           /* of an event: the value has another id, so the event itself is still to be seen */
    char note[100];
};

struct part {
    struct verify *verify;
    uint32_t no;
    struct stream *stream;
    struct record records[PART_RECORDS];
    size_t at, count;
    bool aged;  /* Kafka has deleted the beginning of its log */
    bool begun; /* an event of it was seen */
};

/* Begins to read. False with the reason in verify->why; to be closed either way. */
bool part_open(struct part *p, struct verify *v, uint32_t no);
void part_close(struct part *p);

/* The next record, NULL in *out at the end. With --campaign, others' records are passed over. */
bool part_peek(struct part *p, struct record **out);
void part_next(struct part *p); /* done with it */

/* Whether a record has exactly this key and value. */
bool record_is(const struct record *r, const char *key, const struct buf *value);
/* Finds out what the record at hand, and those behind it, name. */
bool part_find(struct part *p);
/* Whether events of this hash may be in a partition. How many partitions were in use when an event was sent is not known
 * once the number has grown: any of those that were possible. */
bool part_takes(const struct verify *v, uint32_t partition, uint32_t hash);
/* Where it is and what it names. */
struct culprit part_culprit(const struct part *p, const struct record *r);

#endif
