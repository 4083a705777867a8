/* How long a record is tried. */
#include "consumers/retry.h"

#include <string.h>

#include "core/clock.h"

static void give_up(struct record *r, const char *spent, int64_t amount)
{
    char last[sizeof r->reason];
    memcpy(last, r->reason, sizeof last);
    r->outcome = OUTCOME_REJECT;
    record_reason(r, "gave up after %lld %s: %s", (long long)amount, spent, last);
}

void retry_decide(const struct config *c, struct item *it, int64_t now_us)
{
    struct record *r = &it->record;
    int attempts = r->attempt + 1;
    it->hold = r->outcome == OUTCOME_LATER && r->later_held && it->held_id == 0;
    if (r->outcome != OUTCOME_RETRY)
        return;
    if (r->failed_us == 0)
        r->failed_us = now_us;
    if (attempts >= c->retry_max_attempts)
        give_up(r, "attempts", attempts);
    else if (now_us - r->failed_us >= c->retry_max_age_s * 1000000)
        give_up(r, "seconds", (now_us - r->failed_us) / 1000000);
    else /* a long wait in memory would hold up its partition's offset */
        it->hold =
            it->held_id != 0 || (!it->stays && (attempts >= c->retry_quick_attempts || r->later_ms > c->retry_max_ms));
}

int64_t retry_wait_ms(const struct config *c, const struct record *r)
{
    return r->later_ms > 0 ? r->later_ms : backoff_ms(r->attempt, c->retry_base_ms, c->retry_max_ms);
}
