/* Paces: how many mails of one campaign go out in a minute, whichever worker of this process sends them. Those who are
 * sent away come back one after the other, each when its turn has come, and nobody overtakes them. Any thread. */
#ifndef TIDINGS_HANDLERS_PACE_H
#define TIDINGS_HANDLERS_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_BURST_MS 2000 /* who is late may catch up by as much: records come back within a second or so */

/* True: send it now. In any t ms at most per_minute * (t + PACE_BURST_MS) / 60000 + 1 may. False: ask again in wait_ms.
 * waited: it was sent away before. now_us: clock_mono_us. */
bool pace_take(int campaign, int64_t per_minute, bool waited, int64_t now_us, int64_t *wait_ms);

#endif
