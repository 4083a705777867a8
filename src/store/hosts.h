/* Tells the other processes on this database that this one is there and which token secrets it uses (hashes only), and says
 * so when theirs are others: a link that one sends is then refused by another. Loop thread only. */
#ifndef TIDINGS_STORE_HOSTS_H
#define TIDINGS_STORE_HOSTS_H

#include <uv.h>

#include "core/config.h"
#include "store/reader.h"

struct hosts;

struct hosts *hosts_start(uv_loop_t *loop, const struct config *config, struct reader *reader); /* which outlives it */
void hosts_stop(struct hosts *h, void (*on_stopped)(void *arg), void *arg);

#endif
