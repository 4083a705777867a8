/* Which network addresses a webhook may go to. Pure, any thread. */
#ifndef TIDINGS_DELIVERY_ADDRESS_H
#define TIDINGS_DELIVERY_ADDRESS_H

#include <sys/socket.h>

/* NULL: an address of the public Internet. Else what it is instead, for people: "a loopback address". */
const char *address_special(const struct sockaddr *address);

#endif
