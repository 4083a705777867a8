/* Reading records. */
#include "consumers/intake.h"

#include "consumers/group_metrics.h"
#include "domain/event.h"

/* Whether the record is certainly of a type that the handler does not take. Most groups take few of all events: parsing
 * them all would cost the loop more than the rest of the way. */
static bool other_type(const struct handler *h, const struct source_record *r, int *series)
{
    enum event_type type;
    if (!event_peek(r->value, r->value_len, &type))
        return false;
    *series = (int)type;
    return type != EVENT_NONE && !(h->types & 1u << type);
}

struct item *intake_read(const struct handler *h, const struct source_record *r, struct buf *key, int *series)
{
    struct event event = {0};
    char why[sizeof((struct record *)0)->reason];
    if (other_type(h, r, series))
        return NULL;
    bool ok = event_parse(r->value ? r->value : "", r->value_len, &event, why, sizeof why);
    *series = ok ? (int)event.type : SERIES_MALFORMED;
    if (ok && (event.type == EVENT_NONE || !(h->types & 1u << event.type))) {
        event_clear(&event);
        return NULL;
    }
    struct item *it = item_new(r);
    buf_clear(key);
    if (ok) {
        it->record.event = event;
        h->key(&it->record.event, key);
    } else {
        event_clear(&event);
        it->bury = true;
        record_reason(&it->record, "malformed: %s", why);
        buf_printf(key, "malformed %d %lld", (int)r->partition, (long long)r->offset);
    }
    return it;
}
