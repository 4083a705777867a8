/* Dead letters: records that a group gives up, kept with their bytes and the reason. Worker threads. */
#ifndef TIDINGS_CONSUMERS_DEAD_LETTER_H
#define TIDINGS_CONSUMERS_DEAD_LETTER_H

#include <stdbool.h>

#include "consumers/item.h"
#include "handlers/handler.h"

/* Adds the item's row in run's transaction; nothing when the group has it already. False: as with run_sql. */
bool dead_letter_write(struct run *run, const char *group, const struct item *it, PGresult **failed);

#endif
