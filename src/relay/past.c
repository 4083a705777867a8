/* Whether Postgres still has the events that Kafka has. A failover to a server that had not got everything, or a backup that
 * was restored, takes the database back in time: new events would get numbers that other events have in Kafka. Then nothing
 * may be sent any more, and a person must decide. */
#include <inttypes.h>
#include <stdio.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/pgbinary.h"
#include "relay/relay_int.h"

/* Whether the first row is the event at s->read_from, under that id if one is given, or says that this event was purged. */
static bool is_event(const struct relay_shard *s, const PGresult *rows, const struct uuid *id)
{
    if (PQntuples(rows) == 0 || (int64_t)pgbinary_int(rows, 0, 0) != s->read_from)
        return false;
    return !id || PQgetisnull(rows, 0, 5) || uuid_equal(*id, pgbinary_uuid(rows, 0, 5));
}

bool past_is_ours(struct relay *r, const struct relay_shard *s, const PGresult *rows)
{
    struct uuid id;
    if (s->read_from <= 0 || is_event(s, rows, window_id_at(r->window, s->no, s->read_from, &id) ? &id : NULL))
        return true;
    relay_alarm(r, "an event that Kafka acknowledged is not in the database: it went back in time");
    return false;
}

/* --- after each connect: what this process sent ------------------------------------------------------------------ */

static void on_newest(void *arg, const struct pglink_answer *answer)
{
    struct relay_shard *s = arg;
    struct relay *r = s->relay;
    s->reading = false;
    r->verifying--;
    if (!outbox_rows_ok(r, answer, "read"))
        return;
    if (!is_event(s, answer->result, &s->newest))
        relay_alarm(r, "an event that was sent to Kafka is not in the database: it went back in time");
    r->verified = r->verifying == 0 && pglink_up(r->link);
    shares_tick(r, clock_mono_us());
}

/* Each shard's newest event that we know must be there, under its id. */
void past_verify(struct relay *r)
{
    r->verifying = 0;
    for (uint32_t i = 0; r->window && i < r->shards; i++) {
        struct relay_shard *s = &r->shard[i];
        if (!window_newest(r->window, i, &s->read_from, &s->newest))
            continue;
        char shard[16], from[24];
        snprintf(shard, sizeof shard, "%" PRIu32, i);
        snprintf(from, sizeof from, "%" PRId64, s->read_from);
        const char *values[3] = {shard, from, "1"};
        s->reading = outbox_ask(r, "read", 3, values, 1, on_newest, s);
        r->verifying += s->reading;
    }
    r->verified = r->verifying == 0;
}

/* --- at start: what others sent, or this host before it was restarted --------------------------------------------- */

static void on_unknown(void *arg, const struct pglink_answer *answer)
{
    struct relay *r = arg;
    r->tail_asked = false;
    if (!outbox_rows_ok(r, answer, "unknown"))
        return;
    r->tail_known = true;
    r->share_us = 0; /* until now there was nothing to ask for */
    topic_tail_free(&r->tail);
    if (PQntuples(answer->result) == 0) {
        shares_tick(r, clock_mono_us());
        return;
    }
    log_error("Kafka has an event that the database does not have", "aggregate", PQgetvalue(answer->result, 0, 0),
              "version", PQgetvalue(answer->result, 0, 1), "event", PQgetvalue(answer->result, 0, 2));
    relay_alarm(
        r, "Kafka's last events are not in the database: it went back in time, or the topic is another database's");
}

void past_ask_tail(struct relay *r)
{
    struct buf arrays[TAIL_ARRAYS] = {{0}};
    const char *values[TAIL_ARRAYS];
    if (r->tail_asked || !pglink_room(r->link))
        return;
    topic_tail_arrays(&r->tail, arrays);
    for (int i = 0; i < TAIL_ARRAYS; i++)
        values[i] = buf_cstr(&arrays[i]);
    r->tail_asked = outbox_ask(r, "unknown", TAIL_ARRAYS, values, 0, on_unknown, r);
    for (int i = 0; i < TAIL_ARRAYS; i++)
        buf_free(&arrays[i]);
}
