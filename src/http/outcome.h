/* What became of an action, as an answer. Loop thread only. */
#ifndef TIDINGS_HTTP_OUTCOME_H
#define TIDINGS_HTTP_OUTCOME_H

#include "core/buf.h"
#include "http/request.h"

/* An action of the request's campaign that lanes apply one by one. args: its JSON object; NULL: none. */
struct action *outcome_action(const struct request *r, enum action_kind kind, const struct buf *args);

/* An action that was refused: the problem, with the field at fault and what is in the way. */
void outcome_refused(struct request *r, const struct action_result *result);

/* One that was done: result->extra with `version` and `events`. */
void outcome_done(struct request *r, int status, const struct action_result *result);

/* Where to find what was made: a Location header with an item of one of the campaign's collections, or, with NULL, the
 * campaign itself. */
void outcome_location(struct request *r, const char *collection, struct uuid id);

/* For request_submit: refused, or done with this status. */
void outcome_ok(struct request *r, struct action *a, const struct action_result *result);      /* 200 */
void outcome_created(struct request *r, struct action *a, const struct action_result *result); /* 201 */

#endif
