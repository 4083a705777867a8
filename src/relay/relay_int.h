/* The relay's inside: relay.c owns the producer and the life cycle, send.c makes records, outbox.c the reads from and saves to
 * Postgres, shares.c which shards this process relays, past.c whether Postgres still has what Kafka has. */
#ifndef TIDINGS_RELAY_RELAY_INT_H
#define TIDINGS_RELAY_RELAY_INT_H

#include "bus/probe.h"
#include "bus/producer.h"
#include "bus/tail.h"
#include "core/metrics.h"
#include "core/pglink.h"
#include "relay/relay.h"
#include "relay/window.h"

enum { RELAY_PAGE = 1000 }; /* events read from Postgres at a time */

/* A shard, as this process has it:  AWAY ──▶ OURS ──▶ LEAVING ──▶ AWAY, and AWAY/OURS ──▶ ARRIVING ──▶ OURS after a rewind. */
enum tenure {
    SHARD_AWAY,
    SHARD_ARRIVING, /* ours, but what is in flight of an earlier time is awaited before its rewound cursor counts */
    SHARD_OURS,
    SHARD_LEAVING, /* ours, but nothing more is sent: others shall have it once what is in flight is acknowledged */
};

struct relay_shard {
    struct relay *relay;
    uint32_t no;
    enum tenure tenure;
    int32_t rewinds;    /* of the saved cursor that was last gone by; -1: none yet */
    int64_t rewound_to; /* ARRIVING: the cursor, and `rewinds` once it counts */
    int32_t rewound_by;
    int64_t leaving_since_us;
    bool reading; /* a range read is under way */
    int64_t read_from;
    size_t read_count;       /* how many after it were asked for */
    struct uuid newest;      /* the id that must be at read_from, while a new connection is verified */
    int64_t saved;           /* cursor as saved */
    int64_t asked_newest;    /* newest that was sent when the heads were asked: they cannot be below it */
    int64_t behind_since_us; /* since when the cursor is behind the head; 0: it is not */
};

struct relay {
    uv_loop_t *loop;
    const struct config *config;
    uint32_t shards, partitions; /* partitions 0: not known yet */
    relay_fix_partitions fix;
    void *fix_arg;

    struct window *window;     /* NULL until partitions are known */
    struct relay_shard *shard; /* by number */
    struct producer *producer; /* NULL: none at the moment */
    int64_t fatal_us;          /* since when the producer is broken; 0: it is not */
    int opening_attempt;
    struct buf value;
    struct event_row page[RELAY_PAGE + 1]; /* as read */
    int64_t sent;                          /* by the present call of relay_send_rows */
    int64_t acked; /* in the present burst of acknowledgements, and when it came, by both clocks */
    int64_t acked_mono_us, acked_wall_us;

    struct pglink *link;
    bool verified;      /* this connection was seen to have the past that we know; else nothing is sent */
    uint32_t verifying; /* shards whose past is being asked for */
    bool heads_asked, saving;

    int32_t key; /* random: the session's, by which a later one ends it. Written by the link's setup */
    bool shared; /* on this connection it is known which shards are ours; else nothing is sent */
    bool share_asked, leave_asked;
    int64_t share_us;      /* when it was last asked */
    int32_t relays, share; /* how many there are; how many shards each shall have */
    struct buf ours;       /* the shards that are OURS, as an array for Postgres */

    struct topic_tail tail;                 /* the last events in Kafka when this process started */
    bool tail_read, tail_asked, tail_known; /* known: Postgres has them */
    bool alarm;                             /* needs a person: nothing is sent any more */

    struct stuck { /* by partition: the event whose delivery failed last, and how often */
        int64_t seq;
        int count;
    } * stuck;

    uv_timer_t timer;                     /* shares, saves cursors, sets gauges */
    uv_timer_t poll;                      /* heads, while other relays are there */
    uv_timer_t retry;                     /* back-off of the producer and of the probe */
    int64_t polled_us, saved_us, down_us; /* down: since when no broker can be reached */
    char trouble[512];
    bool brokers_down;

    uv_work_t probe;
    bool probing;
    int64_t probed_us;
    int probe_attempt;
    int64_t waiting_logged_us;
    struct topic_facts facts, probed; /* probed: the pool thread's, while probing */
    uint32_t probe_partitions;        /* the probe's result */
    char probe_why[512];

    bool stopping, closing;
    int64_t deadline_us;
    int open_parts; /* while closing */
    void (*on_stopped)(void *arg);
    void *stopped_arg;

    struct metric_series *m_acked, *m_memory, *m_postgres, *m_holes;
};

/* outbox.c */
void outbox_open(struct relay *r);
void outbox_fill(struct relay *r); /* reads what the window misses, where no read is under way */
void outbox_poll_heads(struct relay *r);
void outbox_save(struct relay *r); /* saves cursors that moved */
bool outbox_ask(struct relay *r, const char *statement, int count, const char *const *values, int format,
                pglink_done done, void *arg);
bool outbox_rows_ok(struct relay *r, const struct pglink_answer *answer, const char *what);

/* shares.c */
void shares_tick(struct relay *r, int64_t now_us);
void shares_leave(struct relay *r);  /* all of them, for good */
void shares_forget(struct relay *r); /* the connection is lost, and with it whatever was ours */

/* past.c */
void past_verify(struct relay *r);   /* after each connect; sets verified */
void past_ask_tail(struct relay *r); /* once; sets tail_known */
bool past_is_ours(struct relay *r, const struct relay_shard *s, const PGresult *rows); /* of a range read's first row */

/* relay.c */
void relay_use_partitions(
    struct relay *r, uint32_t partitions); /* a command changed how many are in use; nothing is ours or in flight */

/* send.c */
void relay_halt(struct relay *r, uint32_t partition, int64_t seq, rd_kafka_resp_err_t error);
void relay_send_rows(struct relay *r, const struct event_row *rows, size_t count, bool from_postgres);

#endif
