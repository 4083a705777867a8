/* Settings: environment variables only, one table (config_table.h) of name, type, range, default and help.
 * Read once at start, then constant: any thread may read. A wrong one stops the start with a sentence naming it. */
#ifndef TIDINGS_CORE_CONFIG_H
#define TIDINGS_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/config_table.h"

struct config {
#define CONFIG_FIELD_INT(field) int64_t field;
#define CONFIG_FIELD_STR(field) const char *field;
#define CONFIG_FIELD_SECRET(field) const char *field;
#define CONFIG_FIELD_ENUM(field) const char *field;
#define CONFIG_FIELD(field, env, type, min, max, def, help) CONFIG_FIELD_##type(field)
    CONFIG_TABLE(CONFIG_FIELD)
#undef CONFIG_FIELD
};

/* Fills *c from the environment. Strings belong to the config until config_free.
 * A wrong setting: false, a sentence that names the first one in why[why_size], and wrong ones have their defaults in *c
 * (so that config_print works); nothing needs freeing then. */
bool config_load(struct config *c, char *why, size_t why_size);
void config_free(struct config *c);

/* `tidings config`: every setting with type, range, default, help and current value; secrets are shown as "(set)",
 * passwords inside URLs and connection strings as "***". Also notes a variable whose value is refused. */
void config_print(const struct config *c, FILE *out);

/* The worker pool size of a group: its own variable when set, else KAFKA_WORKER_POOL_SIZE. */
int64_t config_pool_size(const struct config *c, int64_t group_setting);

#endif
