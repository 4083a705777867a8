/* What a consumer group runs: one file per handler, one row in handlers.c. A handler is plain blocking code on a worker
 * thread and can be tested without Kafka: records in, effects out.
 *
 * A run is a list of records in order (a key's records in their order; different keys in any). Per run:
 *   1. apply   in one transaction on run->conn (READ COMMITTED, already begun; committed by the caller)
 *   2. call    with no transaction and no connection held (mail, webhook); only if the handler has it
 *   3. settle  in a second transaction on run->conn: record what call did; only if the handler has it
 * call and settle get the records for which apply has set `call`. A handler without apply has call alone, for every
 * record, and no business with Postgres: its effect happens at least once, its records are not .ordered beyond quick
 * succession, and only what fails for good or for long gets a row, by the caller. A record that apply does not leave DONE must have no
 * effect in its transaction (if it is rejected, the dead letter is written there). A run may have several records of
 * one key, unless the handler has call and does not gather.
 * Output may be an exception: see struct record's progress.
 * Each step may set the outcome of a record that is still OUTCOME_DONE. Outcomes count only after the step's commit.
 * When a step's SQL fails with a data-class error the run is rolled back and halved until the culprit is alone, which
 * is then rejected; when the connection or Postgres fails, every record of the run is tried again
 * (OUTCOME_UNAVAILABLE). A record that is unavailable alone while others get through is taken for the culprit: its
 * attempts count. */
#ifndef TIDINGS_HANDLERS_HANDLER_H
#define TIDINGS_HANDLERS_HANDLER_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/config.h"
#include "domain/event.h"
#include "handlers/outputs.h"

enum outcome {
    OUTCOME_DONE,        /* the effect is there (or was there already) */
    OUTCOME_RETRY,       /* this record failed for a passing reason: back-off (or later_ms, when that is set), at most
                            RETRY_MAX_ATTEMPTS and RETRY_MAX_AGE_SECONDS; after RETRY_QUICK_ATTEMPTS from Postgres */
    OUTCOME_UNAVAILABLE, /* a part that all records need is away: back-off, does not count as an attempt */
    OUTCOME_LATER,  /* it is not its turn: again in later_ms, does not count as an attempt and says nothing of others */
    OUTCOME_REJECT, /* will never work: dead letter */
};

struct record {
    struct event event; /* parsed and of a type that the handler subscribes to */
    int32_t partition;
    int64_t offset;
    int attempt;          /* 0 the first time */
    int64_t failed_us;    /* clock_mono_us of the first failure, maybe before this host started; 0: there was none */
    enum outcome outcome; /* set by the handler; DONE on entry */
    char reason[200];     /* for people: why not DONE */
    int64_t later_ms;     /* with OUTCOME_LATER, and OUTCOME_RETRY if the handler knows when; 0 on entry */
    /* With OUTCOME_LATER from apply: it waits in Postgres, since a long wait in memory would hold up its partition's offset;
     * false on entry. */
    bool later_held;
    /* The handler's own, 0 at first: how far it is with a record that it leaves OUTCOME_LATER because its output is too much
     * for one run; forgotten when it comes anew. */
    int64_t progress;
    int64_t progress_next; /* progress from apply's commit on; set by apply */
    bool waited;           /* its outcome was OUTCOME_LATER before, or it comes from Postgres */
    bool known;            /* handled before: skip it. Set by the caller with .dedupe, else by the handler */
    bool call;             /* set by apply: call and settle are wanted */
    void *state;           /* the handler's own from apply on; goes to release when the run has ended, if not NULL */
};

struct run {
    const struct config *config;
    PGconn *conn; /* NULL in call; statements go through run_sql (sql.h) */
    struct record **records;
    size_t count;
    void *worker;                   /* what worker_open returned */
    struct outputs *outputs;        /* run_emit's; NULL: nobody wants them */
    int64_t deadline_us;            /* clock_mono_us by which apply or settle must have its answers from Postgres */
    const _Atomic int64_t *stop_at; /* 0; else the process stops, and call must return by then (clock_mono_us) */
};

/* Work of a handler's own that no record brings, such as what is due in a table of the handler's. It is done on threads of its own
 * wherever the group runs: one looks, and gives each piece that it finds to another. Several processes do so at once, so what
 * is found must be the finder's alone, for a time. Functions that have run->conn are within no transaction. */
struct chores {
    size_t (*workers)(const struct config *c);    /* pieces under way at most, each on a thread */
    void *(*worker_open)(const struct config *c); /* per thread */
    void (*worker_close)(void *worker);
    /* Takes at most `limit` pieces, which it puts in `pieces`. *position: kept from one look to the next, 0 at first. False: as
     * with apply. */
    bool (*find)(struct run *run, int64_t *position, void **pieces, size_t limit, size_t *count, PGresult **failed);
    void (*call)(struct run *run, void *piece); /* with no connection; left out when the process stops */
    bool (*settle)(struct run *run, void *piece, PGresult **failed);
    void (*release)(void *piece); /* frees it */
    /* Takes away a batch of what is old, now and then, beside the others. *more: there may be more. */
    bool (*trim)(struct run *run, bool *more, PGresult **failed);
};

struct handler {
    const char *group;     /* consumer group, e.g. "email-workers" */
    const char *processes; /* for people: "user.*, referral.verified, campaign.*" */
    uint32_t types;        /* set of (1u << enum event_type) */
    bool dedupe;           /* the caller inserts (group, event id) into `handled` in apply's transaction and marks known
                                 ones; false: the handler's own rows are the memory (mails: one row per event) */
    bool any_age;          /* with .dedupe: events older than HANDLED_KEEP_DAYS are handled too, because the effect is
                                 computed from the source of truth and may be repeated */
    bool ordered;          /* a key's records take effect in order, however long one of them takes: while one is held to
                                 be tried again, the later ones are parked behind it. false: only in quick succession */
    bool strict;           /* with .ordered: a dead letter holds its key too, until it is retried or discarded */
    int64_t fixed_pool;    /* > 0: always that many workers */
    int64_t (*pool_size)(const struct config *c); /* else this; NULL: KAFKA_WORKER_POOL_SIZE */
    size_t (*run_max)(const struct config *c);    /* records per run at most; NULL: GROUP_RUN_MAX; without apply and
                                                     without gathers one, since each has its own time */
    /* Whether few large runs are better than soon ones that workers share: they are set-based, and call, if it is there,
     * waits for nobody. Records gather for some ms and while a run is under way. NULL: no. */
    bool (*gathers)(const struct config *c);
    /* Whether it is wanted with these settings; NULL: always. */
    bool (*enabled)(const struct config *c);
    /* The topic of the records that apply makes with run_emit; NULL: there is none. They go out in Kafka transactions
     * with the offsets of the records that they were made from (consumers/publisher.h). So each must say all that its key
     * has to say, as of this run's transaction, and a record that is known must emit its keys again. A key of the output
     * belongs to one aggregate, and so does the handler's key. */
    const char *(*output_topic)(const struct config *c);
    /* Whether it could work with these settings, looked at once at start: false with a sentence in why. May be NULL. */
    bool (*check)(const struct config *c, char *why, size_t why_size);
    /* Appends the key: records with the same key are handled in order and never on two workers at once. Any thread. */
    void (*key)(const struct event *e, struct buf *out);
    void *(*worker_open)(const struct config *c); /* per worker thread, e.g. an SMTP connection; may be NULL */
    void (*worker_close)(void *worker);
    /* false: the SQL failed, run->conn holds the error (PQerrorMessage, PQresultErrorField of *failed); put the failed
     * result in *failed (the caller clears it). */
    bool (*apply)(struct run *run, PGresult **failed); /* NULL: with call alone, no .dedupe, .ordered, settle */
    void (*call)(struct run *run);
    bool (*settle)(struct run *run, PGresult **failed);
    /* For handlers with settle: records become dead letters in this transaction without having got there. Ends what
     * their rows say, if they have any. */
    bool (*give_up)(struct run *run, PGresult **failed);
    void (*release)(struct record *r); /* frees r->state; r->outcome is final for this run; may be NULL */
    const struct chores *chores;       /* NULL: there are none */
};

/* Whether it is one of them: a handler's mistake must not pass for success. */
static inline bool outcome_known(enum outcome o)
{
    return (unsigned)o <= OUTCOME_REJECT;
}

/* Sets an outcome once: a record that already failed keeps its first reason. printf-like reason; what is not UTF-8 in
 * it becomes '?', control characters become blanks. */
void record_fail(struct record *r, enum outcome outcome, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Sets the reason alone, in the same way. */
void record_reason(struct record *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes somebody else's bytes fit for a text column: what is not UTF-8 becomes '?', control characters blanks. */
void text_clean(char *text);
/* For apply: a record for the output topic, copied; it goes out only if the run's transaction is committed. Of a key the
 * last one counts. value NULL: a tombstone. */
void run_emit(struct run *run, const char *key, size_t key_len, const char *value, size_t value_len);

/* call should begin no further record: set them OUTCOME_UNAVAILABLE and return. */
bool run_stopping(const struct run *run);

/* All handlers, in handlers.c; ends with NULL. Adding a consumer = one file and one row there. */
extern const struct handler *const all_handlers[];

#endif
