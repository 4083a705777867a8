/* webhook-workers: what their events make (webhook.c) and the calls (webhook_calls.c). */
#ifndef TIDINGS_HANDLERS_WEBHOOK_H
#define TIDINGS_HANDLERS_WEBHOOK_H

#include "handlers/handler.h"

#define WEBHOOK_GROUP "webhook-workers"

extern const struct chores webhook_chores;

#endif
