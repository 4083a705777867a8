/* What was found: counts, the first few culprits of each fault, and how they are shown. One thread. */
#ifndef TIDINGS_VERIFY_REPORT_H
#define TIDINGS_VERIFY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/uuid.h"

/* The counts: section and name in JSON, whether it is a fault when it is not 0, and its line in the table. */
/* clang-format off */
#define REPORT_COUNTS(X)                                                                                               \
  X(R_COMMITTED,     "events",  "committed",    false, "committed")                                                    \
  X(R_IN_KAFKA,      "events",  "in_kafka",     false, "in Kafka")                                                     \
  X(R_WAITING,       "events",  "waiting",      false, "waiting in the outbox")                                        \
  X(R_EXPIRED,       "events",  "expired",      false, "no longer in Kafka: older than its log")                       \
  X(R_MISSING,       "events",  "missing",      true,  "missing: acknowledged, but not in Kafka")                      \
  X(R_WRONG_SHARD,   "events",  "wrong_shard",  true,  "committed in a shard that is not their aggregate's")            \
  X(R_SEQ_HOLES,     "events",  "seq_holes",    true,  "seqs left out in a shard")                                     \
  X(R_VERSION_HOLES, "events",  "version_holes", true, "versions left out in an aggregate")                            \
  X(R_RECORDS,       "records", "read",         false, "read")                                                         \
  X(R_REPEATS,       "records", "repeats",      false, "repeats")                                                      \
  X(R_PURGED,        "records", "purged",       false, "of deleted campaigns: their events are gone")                  \
  X(R_UNKNOWN,       "records", "unknown",      true,  "unknown: of no event that was committed")                      \
  X(R_MISPLACED,     "records", "misplaced",    true,  "misplaced: in a partition that is not their key's")             \
  X(R_OUT_OF_ORDER,  "records", "out_of_order", true,  "first seen out of order")                                      \
  X(R_DIFFERING,     "records", "differing",    true,  "differing: key or value are not the event's")
/* clang-format on */

enum report_count {
#define REPORT_ENUM(id, section, name, fault, line) id,
    REPORT_COUNTS(REPORT_ENUM)
#undef REPORT_ENUM
        REPORT_COUNT
};

/* Of a consumer group. A finished event is one that has a record below the group's committed offset. */
struct report_group {
    const char *name;
    int64_t lag;      /* records from the committed offsets to the end */
    int64_t expected; /* effects of finished events: found, dead or missing */
    int64_t found;
    int64_t dead; /* given up: dead letters, failed mails and deliveries. No fault: people know */
    int64_t missing;
    int64_t doubled; /* effects that no event accounts for, or that are wrong */
    int64_t excused; /* events of deleted campaigns without effect, and those too old for the group's memory */
    bool unjudged;   /* the leaderboard could not be judged: the group lags behind */
};

enum { REPORT_CULPRITS = 5, REPORT_GROUPS = 8 };

/* Where a fault shows. What does not apply or is not known is -1, or all zero. */
struct culprit {
    int64_t partition, offset, shard, seq, version;
    struct uuid id, aggregate;
    char note[120]; /* what else there is to say, for people */
};
#define CULPRIT_INIT ((struct culprit){.partition = -1, .offset = -1, .shard = -1, .seq = -1, .version = -1})

struct report_fault {
    const char *group, *name; /* group NULL: a count of its own */
    struct culprit culprit[REPORT_CULPRITS];
    int count;
};

struct report {
    int64_t count[REPORT_COUNT];
    struct report_group group[REPORT_GROUPS];
    size_t groups;
    struct report_fault fault[REPORT_COUNT + 2 * REPORT_GROUPS]; /* by the counts, then missing and doubled per group */
    /* What was looked at. */
    const char *topic, *campaign, *since; /* campaign, since: NULL when all was */
    uint32_t shards, partitions;
    double seconds;
};

/* One more of a fault (or of a count that is none); c is remembered if it is among the first. */
void report_add(struct report *r, enum report_count what, const struct culprit *c);
/* Remembers a culprit of what is counted already. */
void report_name(struct report *r, enum report_count what, const struct culprit *c);
enum group_fault { GROUP_MISSING, GROUP_DOUBLED };
void report_add_group(struct report *r, size_t group, enum group_fault what, const struct culprit *c);

bool report_ok(const struct report *r); /* nothing is wrong */
void report_print(const struct report *r, FILE *out);
void report_json(const struct report *r, FILE *out); /* one object, one line */

#endif
