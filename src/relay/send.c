/* What the relay sends: a row of the events table as a record. */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "relay/break.h"
#include "relay/relay_int.h"

enum {
    SOURCE_SIZE = 12 + UUID_TEXT_SIZE,
    TRACE_SIZE = 56,
    HEADERS = 7,
    RECORD_OVERHEAD = 1024, /* bytes that librdkafka holds of a record besides its value: key, headers, its own */
};

/* /aggregates/<id> */
static void make_source(const struct event_text *text, char out[SOURCE_SIZE])
{
    memcpy(out, "/aggregates/", 12);
    memcpy(out + 12, text->key, UUID_TEXT_SIZE);
}

/* A W3C trace whose id is the event's, without its hyphens; the span's is the last half of it. */
static void make_trace(const struct event_text *text, char out[TRACE_SIZE])
{
    const char *id = text->id;
    memcpy(out, "00-", 3);
    memcpy(out + 3, id, 8);
    memcpy(out + 11, id + 9, 4);
    memcpy(out + 15, id + 14, 4);
    memcpy(out + 19, id + 19, 4);
    memcpy(out + 23, id + 24, 12);
    out[35] = '-';
    memcpy(out + 36, out + 19, 16);
    memcpy(out + 52, "-01", 4);
}

#define HEADER(name, value, value_len) ((struct producer_header){name, value, sizeof name - 1, value_len})

/* CloudEvents 1.0, Kafka binding, binary mode; and the trace. */
static void make_headers(const struct event_row *row, const struct event_text *text, const char *source,
                         const char *trace, struct producer_header headers[HEADERS])
{
    const char *type = event_type_name(row->type);
    headers[0] = HEADER("content-type", "application/json", 16);
    headers[1] = HEADER("ce_specversion", "1.0", 3);
    headers[2] = HEADER("ce_id", text->id, UUID_TEXT_SIZE - 1);
    headers[3] = HEADER("ce_type", type, strlen(type));
    headers[4] = HEADER("ce_source", source, SOURCE_SIZE - 1);
    headers[5] = HEADER("ce_time", text->at, RFC3339_SIZE - 1);
    headers[6] = HEADER("traceparent", trace, TRACE_SIZE - 1);
}

/* An event that can never be delivered must not be skipped: its partition stops, the others go on. */
void relay_halt(struct relay *r, uint32_t partition, int64_t seq, rd_kafka_resp_err_t error)
{
    log_error("an event cannot be delivered; its partition stops", "partition", log_int(partition), "seq", log_int(seq),
              "error", rd_kafka_err2str(error));
    window_halt(r->window, partition);
    metric_gauge(M_RELAY_ALARM, 1);
}

static size_t send_row(void *arg, uint32_t partition, const struct event_row *row)
{
    struct relay *r = arg;
    struct event_text text;
    char source[SOURCE_SIZE], trace[TRACE_SIZE];
    struct producer_header headers[HEADERS];
    rd_kafka_resp_err_t error;
    const struct event_row *told = break_row(row); /* but for deliberate bugs, the row */
    if (!event_type_name(row->type) || row->format != EVENT_FORMAT) {
        relay_alarm(r, "the events table has an event that this binary does not know: a newer tidings wrote it");
        return 0;
    }
    event_text(told, &text);
    make_source(&text, source);
    make_trace(&text, trace);
    make_headers(told, &text, source, trace, headers);
    buf_clear(&r->value);
    event_value_of(told, &text, &r->value);
    switch (producer_send(r->producer, (int32_t)partition, text.key, UUID_TEXT_SIZE - 1, r->value.data, r->value.len,
                          headers, HEADERS, row->seq, &error)) {
    case PRODUCER_SENT: r->sent++; return r->value.len + RECORD_OVERHEAD;
    case PRODUCER_FULL: return 0;
    default:
        snprintf(r->trouble, sizeof r->trouble, "%s", rd_kafka_err2str(error));
        if (error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
            relay_halt(r, partition, row->seq, error);
        return 0; /* anything else passes, or comes back as a failed delivery */
    }
}

void relay_send_rows(struct relay *r, const struct event_row *rows, size_t count, bool from_postgres)
{
    if (!r->producer || r->alarm || !r->shared) {
        for (size_t i = 0; r->window && i < count; i++)
            window_saw(r->window, rows[i].shard, rows[i].seq);
        return;
    }
    r->sent = 0;
    break_begin(rows, count);
    window_feed(r->window, rows, count, send_row, r);
    metric_add(from_postgres ? r->m_postgres : r->m_memory, r->sent);
}

/* --- from memory ------------------------------------------------------------------------------------------------ */

void relay_feed(struct relay *r, const struct event_row *rows, size_t count)
{
    if (r->closing)
        return;
    relay_send_rows(r, rows, count, false);
    outbox_fill(r); /* rows that did not fit, or came after a gap */
}
