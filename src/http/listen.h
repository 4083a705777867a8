/* The listening socket: HTTP_LISTEN made into an address, and bound. */
#ifndef TIDINGS_HTTP_LISTEN_H
#define TIDINGS_HTTP_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define LISTEN_URL_SIZE 96

/* Reads "127.0.0.1:8080", "[::1]:8080" or "localhost:8080"; numbers only otherwise: a name could mean waiting for DNS.
 * False with a sentence in why. */
bool listen_address(const char *text, struct sockaddr_storage *address, socklen_t *len, char *why, size_t why_size);

/* Binds and listens. Returns the descriptor (non-blocking, close-on-exec) and writes the URL of where it really listens;
 * -1 with a sentence in why. user_timeout_ms: how long the kernel waits for a client to take what was sent. */
int listen_open(const char *text, unsigned user_timeout_ms, char url[LISTEN_URL_SIZE], char *why, size_t why_size);

/* How many connections there may be: wanted, or what the limit of open files leaves. Raises the soft limit first, and
 * keeps descriptors back for Postgres, Kafka and logs, which connections from outside must never take. */
size_t listen_connection_bound(size_t wanted);

#endif
