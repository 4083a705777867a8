/* Which shards this process relays. The relays that are alive divide them by session advisory locks (sql/fn_relay.sql), only
 * to avoid that each sends everything: whoever sends starts after the saved cursor and leaves nothing out, so the first time
 * that an event shows in Kafka is in order whatever several relays do. A relay that hangs loses its session, and with that
 * its shards, within SESSION_IDLE_S; one that cannot reach Kafka gives them to others. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "relay/relay_int.h"

static const int64_t EVERY_US = 1000000, HUNGRY_US = 200000;
static const int64_t LEAVE_US = 3000000; /* for what is in flight of a shard that is given up */
static const int64_t DOWN_US = 5000000;  /* without a broker, while other relays may have one */

/* --- tenure ------------------------------------------------------------------------------------------------------ */

static void set_tenure(struct relay_shard *s, enum tenure tenure)
{
    s->tenure = tenure;
    window_own(s->relay->window, s->no, tenure == SHARD_OURS);
}

static void list_ours(struct relay *r)
{
    int count = 0;
    buf_clear(&r->ours);
    for (uint32_t i = 0; i < r->shards; i++)
        if (r->shard[i].tenure == SHARD_OURS)
            buf_printf(&r->ours, "%c%" PRIu32, count++ ? ',' : '{', i);
    buf_adds(&r->ours, count ? "}" : "{}");
    metric_gauge(M_RELAY_SHARDS, count);
}

/* Until here the shard's cursor is of the time before the rewind, and so is `rewinds`: Postgres takes no cursor saved under it. */
static void arrive(struct relay_shard *s)
{
    if (window_shard_in_flight(s->relay->window, s->no) > 0)
        return;
    s->rewinds = s->rewound_by;
    window_go_back(s->relay->window, s->no, s->rewound_to);
    set_tenure(s, SHARD_OURS);
}

/* The session holds the shard's lock, and its saved cursor is at seq. */
static void hold(struct relay_shard *s, int64_t seq, int32_t rewinds)
{
    struct window *w = s->relay->window;
    bool rewound = s->rewinds >= 0 && s->rewinds != rewinds;
    if (s->tenure == SHARD_LEAVING)
        return;
    s->saved = seq;
    if (rewound) {
        s->rewound_to = seq;
        s->rewound_by = rewinds;
        set_tenure(s, SHARD_ARRIVING);
        arrive(s);
        return;
    }
    s->rewinds = rewinds;
    window_start_at(w, s->no, seq);
    set_tenure(s, SHARD_OURS);
}

static void leave(struct relay_shard *s, int64_t now_us)
{
    if (s->tenure != SHARD_OURS && s->tenure != SHARD_ARRIVING)
        return;
    s->leaving_since_us = now_us;
    set_tenure(s, SHARD_LEAVING);
}

static uint32_t count_held(const struct relay *r)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < r->shards; i++)
        held += r->shard[i].tenure == SHARD_OURS || r->shard[i].tenure == SHARD_ARRIVING;
    return held;
}

static void leave_beyond(struct relay *r, uint32_t share, int64_t now_us)
{
    uint32_t held = r->alarm ? 0 : count_held(r);
    for (uint32_t i = r->shards; i-- > 0 && held > share;)
        if (r->shard[i].tenure == SHARD_OURS || r->shard[i].tenure == SHARD_ARRIVING) {
            leave(&r->shard[i], now_us);
            held--;
        }
}

/* --- what Postgres says ------------------------------------------------------------------------------------------ */

static int64_t number(const PGresult *rows, int row, int column)
{
    return strtoll(PQgetvalue(rows, row, column), NULL, 10);
}

enum { C_SHARD, C_SEQ, C_REWINDS, C_RELAYS, C_SHARE, C_PARTITIONS, C_WAITING };

static void take_in_shards(struct relay *r, const PGresult *rows)
{
    bool *held = xcalloc(r->shards, sizeof *held);
    for (int i = 0; i < PQntuples(rows); i++) {
        int64_t shard = PQgetisnull(rows, i, C_SHARD) ? -1 : number(rows, i, C_SHARD);
        if (shard < 0 || shard >= (int64_t)r->shards)
            continue;
        held[shard] = true;
        hold(&r->shard[shard], number(rows, i, C_SEQ), (int32_t)number(rows, i, C_REWINDS));
    }
    for (uint32_t i = 0; i < r->shards; i++)
        if (!held[i] && r->shard[i].tenure != SHARD_AWAY)
            set_tenure(&r->shard[i], SHARD_AWAY);
    free(held);
}

static void take_in_head(struct relay *r, const PGresult *rows)
{
    int32_t relays = (int32_t)number(rows, 0, C_RELAYS);
    if (relays != r->relays)
        log_info("relays on this database", "count", log_int(relays));
    r->relays = relays;
    r->share = (int32_t)number(rows, 0, C_SHARE);
    metric_gauge(M_RELAYS, relays);
    if (!PQgetisnull(rows, 0, C_WAITING))
        metric_gauge(M_OUTBOX, number(rows, 0, C_WAITING));
}

static bool is_still(const struct relay *r)
{
    return count_held(r) == 0 && window_in_flight(r->window) == 0;
}

static void on_share(void *arg, const struct pglink_answer *answer)
{
    struct relay *r = arg;
    r->share_asked = false;
    if (!outbox_rows_ok(r, answer, "share") || PQntuples(answer->result) == 0 || !r->window || !r->tail_known ||
        r->closing)
        return;
    take_in_head(r, answer->result);
    uint32_t partitions = (uint32_t)number(answer->result, 0, C_PARTITIONS);
    if (partitions != r->partitions) { /* what Postgres gave us now is only held until we are ready for it */
        leave_beyond(r, 0, clock_mono_us());
        if (is_still(r))
            relay_use_partitions(r, partitions);
        return;
    }
    uint32_t before = count_held(r);
    take_in_shards(r, answer->result);
    leave_beyond(r, (uint32_t)r->share, clock_mono_us());
    uint32_t after = count_held(r);
    if (before != after || !r->shared)
        log_info("shards that this process relays", "count", log_int(after), "of", log_int(r->shards));
    r->shared = true;
    list_ours(r);
    outbox_poll_heads(r);
}

/* --- leaving ------------------------------------------------------------------------------------------------------ */

static void on_left(void *arg, const struct pglink_answer *answer)
{
    struct relay *r = arg;
    r->leave_asked = false;
    outbox_rows_ok(r, answer, "leave");
}

static bool may_go(const struct relay_shard *s, int64_t now_us)
{
    return s->tenure == SHARD_LEAVING &&
           (window_shard_in_flight(s->relay->window, s->no) == 0 || now_us - s->leaving_since_us > LEAVE_US);
}

/* Cursors are saved before their locks go, so that who comes next repeats little. */
static void leave_ready(struct relay *r, int64_t now_us)
{
    struct buf ready = {0};
    int count = 0;
    for (uint32_t i = 0; i < r->shards; i++)
        if (may_go(&r->shard[i], now_us))
            buf_printf(&ready, "%c%" PRIu32, count++ ? ',' : '{', i);
    if (count > 0 && !r->saving) {
        outbox_save(r);
        buf_addc(&ready, '}');
        const char *values[1] = {buf_cstr(&ready)};
        r->leave_asked = outbox_ask(r, "leave", 1, values, 0, on_left, r);
        for (uint32_t i = 0; r->leave_asked && i < r->shards; i++)
            if (may_go(&r->shard[i], now_us))
                set_tenure(&r->shard[i], SHARD_AWAY);
    }
    buf_free(&ready);
}

/* --- the tick ----------------------------------------------------------------------------------------------------- */

/* Whether it makes sense that this process has shards. One whose relay stopped with an alarm keeps them: nobody shall go on. */
static bool is_able(const struct relay *r, int64_t now_us)
{
    if (r->alarm)
        return true;
    bool cut_off = r->brokers_down && now_us - r->down_us > DOWN_US;
    return r->window && !(cut_off && r->relays > 1);
}

static void ask_share(struct relay *r, int64_t now_us)
{
    char key[16];
    bool able = is_able(r, now_us);
    if (!able && r->window)
        leave_beyond(r, 0, now_us);
    bool gone = !r->window || count_held(r) == 0;
    snprintf(key, sizeof key, "%" PRId32, able || !gone ? r->key : 0);
    const char *values[1] = {key};
    r->share_asked = outbox_ask(r, "share", 1, values, 0, on_share, r);
    r->share_us = now_us;
}

void shares_tick(struct relay *r, int64_t now_us)
{
    if (!r->verified || !pglink_room(r->link) || r->share_asked || r->leave_asked)
        return;
    if (r->window && !r->tail_known && !r->alarm) {
        past_ask_tail(r);
        return;
    }
    bool leaving = false;
    for (uint32_t i = 0; r->window && i < r->shards; i++) {
        struct relay_shard *s = &r->shard[i];
        leaving |= s->tenure == SHARD_LEAVING;
        if (s->tenure == SHARD_ARRIVING) {
            arrive(s);
            list_ours(r);
        }
    }
    if (leaving)
        leave_ready(r, now_us);
    if (r->stopping) /* it takes no more */
        return;
    bool hungry = r->window && (!r->shared || leaving || count_held(r) < (uint32_t)r->share);
    if (!r->leave_asked && now_us - r->share_us >= (hungry ? HUNGRY_US : EVERY_US))
        ask_share(r, now_us);
}

void shares_leave(struct relay *r)
{
    if (r->window)
        leave_beyond(r, 0, clock_mono_us());
}

void shares_forget(struct relay *r)
{
    r->shared = false;
    r->share_us = 0;
    if (r->window)
        window_unsee(r->window);
}
