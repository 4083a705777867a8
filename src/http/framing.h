/* A second look at a request's head. libh2o frames a request by the first Content-Length or the last Transfer-Encoding
 * it sees and does without Host; a proxy in front may choose otherwise, and then the two disagree on where the next
 * request begins. Whatever can be read in two ways is refused and the connection closed. Pure. */
#ifndef TIDINGS_HTTP_FRAMING_H
#define TIDINGS_HTTP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

/* head: the raw bytes from the request line on; what follows the empty line is not looked at. http_1_0: the request is
 * of HTTP/1.0. Returns NULL, or a constant sentence that says what is wrong. */
const char *framing_fault(const char *head, size_t len, bool http_1_0);

#endif
