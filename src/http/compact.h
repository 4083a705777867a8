/* JSON written compactly, members in their order, numbers as short as they can be without loss (jansson writes 0.1 as
 * 0.10000000000000001). Pure. */
#ifndef TIDINGS_HTTP_COMPACT_H
#define TIDINGS_HTTP_COMPACT_H

#include <jansson.h>

#include "core/buf.h"

void compact_json(struct buf *out, const json_t *value); /* value from json_read, whose depth is bounded */

#endif
