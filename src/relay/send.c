/* What the relay sends: a row of the events table as a record. */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "relay/relay_int.h"

/* CloudEvents 1.0, Kafka binding, binary mode; and a W3C trace whose id is the event's. */
static size_t make_headers(const struct event_row *row, char text[5][96], struct producer_header headers[8])
{
    char id[UUID_TEXT_SIZE], source[UUID_TEXT_SIZE];
    uuid_format(row->id, id);
    event_key(row, source);
    snprintf(text[0], sizeof text[0], "%s", id);
    snprintf(text[1], sizeof text[1], "/aggregates/%s", source);
    rfc3339_format(row->at_us, text[2]);
    snprintf(text[3], sizeof text[3], "00-%.8s%.4s%.4s%.4s%.12s-%.4s%.12s-01", id, id + 9, id + 14, id + 19, id + 24,
             id + 19, id + 24);
    size_t n = 0;
    headers[n++] = (struct producer_header){"content-type", "application/json"};
    headers[n++] = (struct producer_header){"ce_specversion", "1.0"};
    headers[n++] = (struct producer_header){"ce_id", text[0]};
    headers[n++] = (struct producer_header){"ce_type", event_type_name(row->type)};
    headers[n++] = (struct producer_header){"ce_source", text[1]};
    headers[n++] = (struct producer_header){"ce_time", text[2]};
    headers[n++] = (struct producer_header){"traceparent", text[3]};
    return n;
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
    char key[UUID_TEXT_SIZE], text[5][96];
    struct producer_header headers[8];
    rd_kafka_resp_err_t error;
    if (!event_type_name(row->type) || row->format != EVENT_FORMAT) {
        relay_alarm(r, "the events table has an event that this binary does not know: a newer tidings wrote it");
        return 0;
    }
    buf_clear(&r->value);
    event_value(row, &r->value);
    size_t key_len = event_key(row, key);
    size_t header_count = make_headers(row, text, headers);
    switch (producer_send(r->producer, (int32_t)partition, key, key_len, r->value.data, r->value.len, headers,
                          header_count, row->seq, &error)) {
    case PRODUCER_SENT: metric_add(r->from_postgres ? r->m_postgres : r->m_memory, 1); return r->value.len + 1;
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
    if (!r->producer || r->alarm || !r->cursors_known || !r->verified) {
        for (size_t i = 0; r->window && i < count; i++)
            window_saw(r->window, rows[i].shard, rows[i].seq);
        return;
    }
    r->from_postgres = from_postgres;
    window_feed(r->window, rows, count, send_row, r);
}
