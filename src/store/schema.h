/* The schema: migrations, and what is fixed per installation. Blocking: for subcommands and start-up threads. */
#ifndef TIDINGS_STORE_SCHEMA_H
#define TIDINGS_STORE_SCHEMA_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the first migrate (and the first serve: partitions) fixed. */
struct installation {
    uint32_t shards;
    uint32_t partitions; /* 0: not yet fixed */
    uint8_t referral_code_key[16];
};

/* Brings the schema up: numbered files once each, in order, under a lock that makes several hosts wait for each other;
 * then the functions (fn_*.sql) anew. Refuses a schema newer than this binary. progress is called per file, may be NULL. */
bool schema_migrate(PGconn *conn, uint32_t shards, void (*progress)(const char *what), char *why, size_t why_size);

/* Whether the schema is exactly this binary's; false with a sentence ("run `tidings migrate`" or "newer"). */
bool schema_check(PGconn *conn, char *why, size_t why_size);

bool installation_load(PGconn *conn, struct installation *out, char *why, size_t why_size);
/* Fixes the topic's partitions when they are not fixed yet; then *out says what holds. */
bool installation_set_partitions(PGconn *conn, uint32_t partitions, struct installation *out, char *why,
                                 size_t why_size);

#endif
