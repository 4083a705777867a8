/* Hashes. Any thread. */
#ifndef TIDINGS_CORE_HASH_H
#define TIDINGS_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint32_t murmur2(const void *data, size_t len);  /* Kafka's (Java client's): seed 0x9747b28c; the partitioner's hash */
uint64_t hash64(const void *data, size_t len);   /* for hash tables in memory only: FNV-1a with a final mix */

/* The hash class of an aggregate: murmur2 of its id's lower-case text & 0x7fffffff. shard = class % shards,
 * Kafka partition = class % partitions. */
uint32_t aggregate_hash(const char *id_text, size_t len);

#endif
