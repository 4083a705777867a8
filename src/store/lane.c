/* One lane: whatever waits when the connection is free becomes one transaction. */
#include "store/lane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/pg.h"

enum {
    MAX_RETRIES = 5,
    MAX_ONE_BY_ONE = 50, /* in a batch: its shards are locked while they are applied */
    MAX_STALE = 3,       /* in a row; then the general road for a while */
    GENERAL_BATCHES = 16,
    GENERAL_BATCHES_MAX = 256,
};

static void finish(struct lane *l, struct action *a, const struct action_result *r)
{
    l->queued--;
    l->queued_bytes -= a->bytes;
    a->on_done(a, r);
    action_free(a);
}

static void queue_front(struct lane *l, struct action *const *actions, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        actions[i]->next = l->head;
        l->head = actions[i];
        if (!actions[i]->next)
            l->tail = &actions[i]->next;
    }
}

static struct action *queue_take(struct lane *l, struct action **link)
{
    struct action *a = *link;
    *link = a->next;
    if (!a->next)
        l->tail = link;
    a->next = NULL;
    return a;
}

void lane_fail_queue(struct lane *l, enum err err)
{
    /* Only what waits now: a callback may submit again. */
    struct action *a = l->head;
    l->head = NULL;
    l->tail = &l->head;
    while (a) {
        struct action *next = a->next;
        finish(l, a, &(struct action_result){.err = err});
        a = next;
    }
}

static void fail_batch(struct lane *l, enum err err)
{
    size_t count = l->batch_count;
    l->batch_count = 0;
    for (size_t i = 0; i < count; i++)
        finish(l, l->batch[i], &(struct action_result){.err = err});
}

static void requeue_batch(struct lane *l)
{
    queue_front(l, l->batch, l->batch_count);
    l->batch_count = 0;
}

/* Nothing of the batch was sent; on_down answers what waits. */
static void not_sent(struct lane *l)
{
    l->state = LANE_IDLE;
    requeue_batch(l);
    pglink_drop(l->link, "cannot send");
}

static void count_road(const char *road)
{
    metric_add(metric_get(M_LANE_ROADS, road, NULL), 1);
}

static void log_failure(struct lane *l, const char *what, const PGresult *r)
{
    log_warn("a lane's transaction failed", "lane", l->name, "what", what, "actions",
             log_int((long long)l->batch_count), "sqlstate", r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL,
             "error", r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL);
    metric_add(metric_get(M_LANE_ERRORS, what, NULL), 1);
}

/* --- a batch's end ---------------------------------------------------------------------------------------------- */

static void count_split(struct lane *l, size_t done)
{
    l->split_left = done < l->split_left ? l->split_left - done : 0;
    if (l->split_left == 0)
        l->split = 0;
}

/* The batch is over, and the result says what became of each action. Postgres gets the next batch before the answers go
 * out, or it would be idle meanwhile. */
static void deliver(struct lane *l, bool go_on)
{
    struct lane_result *result = &l->result;
    size_t count = l->batch_count, again = 0, done = 0;
    l->batch_count = 0;
    /* While the link is down its next session may have read the heads before a lost batch became visible: on_up must not take
     * that for a past that is lost. */
    for (size_t i = 0; i < result->row_count && pglink_up(l->link); i++)
        if (result->rows[i].seq > l->heads[result->rows[i].shard])
            l->heads[result->rows[i].shard] = result->rows[i].seq;
    for (size_t i = 0; i < count; i++) {
        l->done[i] = result->again[i] ? NULL : l->batch[i];
        done += !result->again[i];
        if (result->again[i])
            l->batch[again++] = l->batch[i];
    }
    queue_front(l, l->batch, again);
    count_split(l, done);
    metric_seen(M_LANE_BATCH, (int64_t)done);
    if (go_on)
        lane_pump(l);
    if (result->row_count > 0)
        l->on_commit(l->arg, result->rows, result->row_count);
    for (size_t i = 0; i < count; i++)
        if (l->done[i])
            finish(l, l->done[i], &result->results[i]);
}

/* The input of some action: halve until it is alone. */
static void split_batch(struct lane *l, const PGresult *r)
{
    log_failure(l, "data", r);
    if (l->batch_count == 1) {
        fail_batch(l, ERR_INVALID);
        count_split(l, 1);
        return;
    }
    l->split = l->batch_count / 2;
    if (l->split_left < l->batch_count)
        l->split_left = l->batch_count;
    requeue_batch(l);
}

static void on_freed(void *arg, const struct pglink_answer *answer)
{
    (void)arg, (void)answer; /* only its effect counts */
}

/* Somebody held a shard's lock for too long: if its client hangs, its session is ended. */
static void free_shards(struct lane *l)
{
    const int binary = 1;
    pglink_send(l->link, "free_shards", 1, &l->shards, &l->shards_len, &binary, 1, on_freed, l);
}

static void transient(struct lane *l, const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    log_failure(l, "transient", r);
    if (state && strncmp(state, "40", 2) == 0 && l->retries++ < MAX_RETRIES) {
        requeue_batch(l);
        return;
    }
    l->retries = 0;
    bool lock = state && strcmp(state, "55P03") == 0;
    fail_batch(l, lock ? ERR_OVERLOADED : ERR_DB_UNAVAILABLE);
    if (lock)
        free_shards(l);
    if (state && strcmp(state, "25006") == 0)
        pglink_drop(l->link, "the server became read-only");
}

/* The functions were made anew under this session (a migration beside us): a new session prepares them again. */
static bool is_stale(const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    return state && (strcmp(state, "0A000") == 0 || strcmp(state, "42883") == 0);
}

static void batch_failed(struct lane *l, const PGresult *r)
{
    switch (pg_classify(NULL, r)) {
    case PG_DATA: split_batch(l, r); return;
    case PG_TRANSIENT: transient(l, r); return;
    default:
        log_failure(l, "bug", r);
        fail_batch(l, is_stale(r) ? ERR_DB_UNAVAILABLE : ERR_INTERNAL);
        if (is_stale(r))
            pglink_drop(l->link, "the schema was migrated");
    }
}

/* --- a lost answer ---------------------------------------------------------------------------------------------- */

static void resolve_work(uv_work_t *work)
{
    struct lane *l = work->data;
    lost_batch_resolve(&l->lost, l->config);
}

static void lost_free(struct lost_batch *lost)
{
    free(lost->shards);
    free(lost->after);
    free(lost->event_ids);
    free(lost->keys);
    PQclear(lost->found);
    memset(lost, 0, sizeof *lost);
}

/* What the search found is committed; what it did not find never will be (the old session is gone), so it runs again. */
static void resolve_done(uv_work_t *work, int status)
{
    struct lane *l = work->data;
    (void)status;
    l->state = LANE_IDLE;
    if (!l->lost.found || !lane_call_decode(&l->result, l->lost.found, l->batch, l->batch_count)) {
        log_error("the outcome of a batch is not known", "lane", l->name, "actions", log_int((long long)l->batch_count),
                  "reason", l->lost.why);
        metric_add(metric_get(M_LANE_ERRORS, "unknown", NULL), 1);
        fail_batch(l, ERR_OUTCOME_UNKNOWN);
    } else {
        for (size_t i = 0; i < l->batch_count; i++)
            l->result.again[i] = l->result.results[i].events == 0;
        log_info("the outcome of a lost batch was found", "lane", l->name, "actions",
                 log_int((long long)l->batch_count), "events", log_int((long long)l->result.row_count));
        lane_known_learn(&l->known, l->batch, l->batch_count, &l->result);
        deliver(l, false);
    }
    lost_free(&l->lost);
    if (l->stopping || !pglink_up(l->link))
        lane_fail_queue(l, l->stopping ? ERR_SHUTTING_DOWN : ERR_DB_UNAVAILABLE);
    else
        lane_pump(l);
}

static void resolve_start(struct lane *l)
{
    size_t n = l->batch_count;
    l->state = LANE_RESOLVING;
    l->lost = (struct lost_batch){
        .key = l->key,
        .count = n,
        .shards = xcalloc(n, sizeof *l->lost.shards),
        .after = xcalloc(n, sizeof *l->lost.after),
        .event_ids = xcalloc(n, sizeof *l->lost.event_ids),
        .keys = xcalloc(n, sizeof *l->lost.keys),
        .deadline_us = clock_mono_us() + l->config->http_answer_timeout_ms * 1000,
    };
    for (size_t i = 0; i < n; i++) {
        l->lost.shards[i] = l->batch[i]->shard;
        l->lost.after[i] = l->heads[l->batch[i]->shard];
        l->lost.event_ids[i] = l->batch[i]->event_id;
        l->lost.keys[i] = l->batch[i]->key;
    }
    l->resolve_work.data = l;
    if (uv_queue_work(l->loop, &l->resolve_work, resolve_work, resolve_done) != 0) {
        l->state = LANE_IDLE;
        lost_free(&l->lost);
        fail_batch(l, ERR_OUTCOME_UNKNOWN);
    }
}

/* A transaction that may have committed came to an end. True: it did, or nothing was changed, and `answer` says what came of
 * it; false: that is taken care of. */
static bool is_answered(struct lane *l, const struct pglink_answer *answer)
{
    const PGresult *r = answer->result;
    metric_seen(M_LANE_COMMIT, clock_mono_us() - l->sent_us);
    bool failed = r && PQresultStatus(r) != PGRES_TUPLES_OK;
    if (answer->warned)
        metric_add(metric_get(M_LANE_ERRORS, "unreplicated", NULL), 1);
    if (!r || answer->warned || (failed && pg_classify(NULL, r) == PG_CONNECTION)) {
        resolve_start(l);
        if (r) /* the session is still there, but not to be trusted */
            pglink_drop(l->link, "the outcome of a commit is in doubt");
        return false;
    }
    l->state = LANE_IDLE;
    return true;
}

/* --- the general road ------------------------------------------------------------------------------------------- */

static void on_applied(void *arg, const struct pglink_answer *answer)
{
    struct lane *l = arg;
    const PGresult *r = answer->result;
    if (!is_answered(l, answer))
        return;
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        batch_failed(l, r);
    else if (lane_call_decode(&l->result, r, l->batch, l->batch_count)) {
        l->retries = 0;
        count_road("general");
        lane_known_learn(&l->known, l->batch, l->batch_count, &l->result);
        deliver(l, true);
    } else {
        log_failure(l, "bug", r);
        lane_known_reset(&l->known, NULL);
        fail_batch(l, ERR_INTERNAL);
    }
    lane_pump(l);
}

static void send_general(struct lane *l)
{
    l->general_left -= l->general_left > 0;
    if (!lane_call_send(&l->call, l->link, l->batch, l->batch_count, on_applied, l))
        not_sent(l);
    l->shards = l->call.values[0];
    l->shards_len = l->call.lengths[0];
}

/* --- the short road --------------------------------------------------------------------------------------------- */

static void send_append(struct lane *l);

/* Somebody else writes to these shards. Once in a while that costs a round trip; all the time, the general road is better. */
static void note_stale(struct lane *l)
{
    if (++l->stale_streak < MAX_STALE)
        return;
    int doublings = l->stale_streak - MAX_STALE;
    l->general_left = doublings < 4 ? GENERAL_BATCHES << doublings : GENERAL_BATCHES_MAX;
}

static void go_general(struct lane *l)
{
    for (size_t i = 0; i < l->batch_count; i++)
        l->batch[i]->general_road = true;
}

/* Whatever it was, the general road decides it. */
static void append_failed(struct lane *l, const PGresult *r)
{
    lane_known_reset(&l->known, NULL);
    if (r && pg_classify(NULL, r) != PG_DATA) {
        batch_failed(l, r);
        return;
    }
    log_failure(l, "append", r);
    go_general(l);
    requeue_batch(l);
}

static void on_appended(void *arg, const struct pglink_answer *answer)
{
    struct lane *l = arg;
    const PGresult *r = answer->result;
    if (!is_answered(l, answer))
        return;
    if (PQresultStatus(r) != PGRES_TUPLES_OK) {
        append_failed(l, r);
        lane_pump(l);
        return;
    }
    l->retries = 0;
    switch (lane_append_decode(l->append, r, l->batch_count, &l->result)) {
    case APPEND_DONE:
        count_road("short");
        l->stale_streak = 0;
        deliver(l, true);
        break;
    case APPEND_TAKEN:
        /* The others come again, and nobody new with them: whose address may be taken as well, and so on for ever. */
        count_road("taken");
        for (size_t i = 0; i < l->batch_count; i++)
            l->free_left += l->result.again[i] && !l->batch[i]->general_road;
        deliver(l, true);
        break;
    case APPEND_STALE:
        count_road("stale");
        note_stale(l);
        requeue_batch(l);
        break;
    case APPEND_BROKEN:
        /* It may be committed: what the rows say is found as if the answer had been lost. */
        log_failure(l, "bug", r);
        lane_known_reset(&l->known, NULL);
        go_general(l);
        resolve_start(l);
        pglink_drop(l->link, "an answer that cannot be read");
        return;
    }
    lane_pump(l);
}

static void on_loaded(void *arg, const struct pglink_answer *answer)
{
    struct lane *l = arg;
    const PGresult *r = answer->result;
    l->state = LANE_IDLE;
    if (!r) {
        requeue_batch(l); /* on_down answers what waits: nothing of it was sent */
        return;
    }
    count_road("load");
    if (PQresultStatus(r) != PGRES_TUPLES_OK) {
        append_failed(l, r);
        lane_pump(l);
    } else {
        if (!lane_known_answer(&l->known, r))
            log_failure(l, "bug", r);
        l->state = LANE_BUSY;
        send_append(l);
    }
}

static void send_append(struct lane *l)
{
    switch (lane_append_send(l->append, l->link, l->batch, l->batch_count, on_appended, l)) {
    case APPEND_SENT: lane_append_shards(l->append, &l->shards, &l->shards_len); break;
    case APPEND_FAILED: not_sent(l); break;
    case APPEND_SKIPPED:
        l->state = LANE_IDLE;
        requeue_batch(l);
        lane_pump(l); /* the general road now: once, since each is marked */
        break;
    }
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

static bool goes_short(const struct lane *l, const struct action *a)
{
    return l->split == 0 && l->general_left == 0 && lane_append_takes(a);
}

/* The oldest action says which road; others that go the same one come along. */
static bool take_batch(struct lane *l)
{
    size_t max = l->split ? l->split : (size_t)l->config->lane_batch, looked_at = 0;
    bool road = goes_short(l, l->head);
    int one_by_one = 0;
    if (road && l->free_left > 0) {
        max = l->free_left < max ? l->free_left : max;
        l->free_left = 0;
    }
    for (struct action **link = &l->head; *link && l->batch_count < max && looked_at < 4 * max; looked_at++) {
        if (goes_short(l, *link) != road) {
            link = &(*link)->next;
            continue;
        }
        one_by_one += lane_call_one_by_one(*link);
        if (one_by_one > MAX_ONE_BY_ONE)
            break;
        l->batch[l->batch_count++] = queue_take(l, link);
    }
    return road;
}

void lane_pump(struct lane *l)
{
    metric_set(l->m_queue, (int64_t)(l->queued - l->batch_count));
    if (l->state != LANE_IDLE || !l->head || !pglink_room(l->link))
        return;
    bool is_short = take_batch(l);
    l->state = LANE_BUSY;
    l->sent_us = clock_mono_us();
    if (!is_short)
        send_general(l);
    else if (lane_known_has(&l->known, l->batch, l->batch_count))
        send_append(l);
    else if (!lane_known_ask(&l->known, l->link, l->batch, l->batch_count, on_loaded, l))
        not_sent(l);
}

enum err lane_submit(struct lane *l, struct action *a)
{
    if (l->stopping)
        return ERR_SHUTTING_DOWN;
    if (!pglink_up(l->link))
        return ERR_DB_UNAVAILABLE;
    if (l->queued >= (size_t)l->config->lane_queue || l->queued_bytes + a->bytes > (size_t)l->config->lane_queue_bytes)
        return ERR_OVERLOADED;
    a->queued_us = clock_mono_us();
    a->next = NULL;
    *l->tail = a;
    l->tail = &a->next;
    l->queued++;
    l->queued_bytes += a->bytes;
    return ERR_NONE;
}

bool lane_empty(const struct lane *l)
{
    return l->queued == 0 && l->state == LANE_IDLE;
}

/* --- connection ------------------------------------------------------------------------------------------------- */

/* Pool thread. */
static bool setup(PGconn *conn, void *arg, char *why, size_t why_size)
{
    struct lane *l = arg;
    random_bytes(&l->setup_key, sizeof l->setup_key);
    if (!lane_session_setup(conn, l->config, l->installation, l->setup_key, l->setup_heads, why, why_size))
        return false;
    return pg_prepare(conn, "free_shards", "select free_shards($1)", why, why_size);
}

static void on_up(void *arg)
{
    struct lane *l = arg;
    l->key = l->setup_key;
    bool shorter = false;
    for (uint32_t i = 0; i < l->installation->shards; i++) {
        shorter = shorter || l->setup_heads[i] < l->heads[i];
        l->heads[i] = l->setup_heads[i]; /* a lower bound is always safe: searches begin there */
    }
    lane_known_reset(&l->known, l->heads);
    if (shorter)
        l->on_past_lost(l->arg);
    metric_set(l->m_up, 1);
    log_info("lane connected", "lane", l->name);
    lane_pump(l);
}

static void on_down(void *arg, const char *why)
{
    struct lane *l = arg;
    (void)why;
    metric_set(l->m_up, 0);
    lane_fail_queue(l, ERR_DB_UNAVAILABLE); /* what waits was never sent: its outcome is known */
}

void lane_start(struct lane *l)
{
    l->tail = &l->head;
    l->batch = xcalloc((size_t)l->config->lane_batch, sizeof *l->batch);
    l->done = xcalloc((size_t)l->config->lane_batch, sizeof(struct action *));
    lane_known_init(&l->known, (size_t)l->config->lane_batch, (size_t)(l->config->campaign_cache / l->config->lanes),
                    l->installation->shards);
    l->append = lane_append_new((size_t)l->config->lane_batch, &l->known);
    l->heads = xcalloc(l->installation->shards, sizeof *l->heads);
    l->setup_heads = xcalloc(l->installation->shards, sizeof *l->setup_heads);
    l->m_queue = metric_get(M_LANE_QUEUE, l->name, NULL);
    l->m_up = metric_get(M_LANE_UP, l->name, NULL);
    l->link = pglink_open(l->loop, &(struct pglink_options){
                                       .url = l->config->database_url,
                                       .application_name = l->name,
                                       .connect_timeout_s = (int)l->config->db_connect_timeout_s,
                                       .stall_ms = l->config->db_stall_ms,
                                       .max_pending = 2, /* a batch, and free_shards */
                                       .setup = setup,
                                       .on_up = on_up,
                                       .on_down = on_down,
                                       .arg = l,
                                   });
}

void lane_close(struct lane *l, void (*on_closed)(void *arg), void *arg)
{
    pglink_close(l->link, on_closed, arg);
}

void lane_free(struct lane *l)
{
    lane_call_free(&l->call);
    lane_append_free(l->append);
    lane_known_free(&l->known);
    lane_result_free(&l->result);
    free(l->batch);
    free(l->done);
    free(l->heads);
    free(l->setup_heads);
}
