/* Writes a JSON object member by member into a buffer. Names are constants without anything to escape. Pure. */
#ifndef TIDINGS_CORE_MEMBERS_H
#define TIDINGS_CORE_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/uuid.h"

void members_begin(struct buf *b);
void members_end(struct buf *b);

void member_text(struct buf *b, const char *name, const char *text, size_t len); /* UTF-8; NULL: null */
void member_string(struct buf *b, const char *name, const char *text);           /* NUL-terminated; NULL: null */
void member_int(struct buf *b, const char *name, int64_t value);
void member_bool(struct buf *b, const char *name, bool value);
void member_uuid(struct buf *b, const char *name, struct uuid id);
void member_time(struct buf *b, const char *name, int64_t wall_us);  /* RFC 3339, UTC */
void member_json(struct buf *b, const char *name, const char *json); /* JSON text as it stands; NULL: null */

#endif
