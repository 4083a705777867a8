/* Deliberate bugs, to prove that tests/chaos notices them. Only a build with TIDINGS_BREAKABLE has them, and only the one that
 * the environment variable TIDINGS_BREAK names is awake; in every other build this is the constant false.
 *
 *   skip-event         the relay puts a repeat in the place of an event, now and then
 *   swap-events        the relay swaps two neighbours, now and then
 *   commit-early       a group's offset is committed before its record has had its effect
 *   ack-before-commit  no commit is waited for: answers leave before it is on disk
 *   die-…              the process kills itself at a point of the way of a group's output: applied (the run is committed in
 *                      Postgres), begun, produced, offsets (are in the transaction), committed (and nobody here knows yet)
 *   hang-begun         the process stops itself (SIGSTOP) after it has begun a transaction, once
 *   double-effect      email-workers do not look whether an event's mail was sent, and each has a Message-ID of its own */
#ifndef TIDINGS_CORE_BREAK_H
#define TIDINGS_CORE_BREAK_H

#include <stdbool.h>

#ifdef TIDINGS_BREAKABLE
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static inline bool broken(const char *bug)
{
    const char *awake = getenv("TIDINGS_BREAK");
    return awake && strcmp(awake, bug) == 0;
}
#else
static inline bool broken(const char *bug)
{
    (void)bug;
    return false;
}
#endif

/* As a host that hangs; a single thread may call it. */
static inline void break_hang(const char *bug)
{
#ifdef TIDINGS_BREAKABLE
    static bool done;
    if (!done && broken(bug)) {
        done = true;
        raise(SIGSTOP);
    }
#else
    (void)bug;
#endif
}

/* For bugs that are the end of the process: as a kill -9 would be. */
static inline void break_die(const char *bug)
{
#ifdef TIDINGS_BREAKABLE
    if (broken(bug))
        raise(SIGKILL);
#else
    (void)bug;
#endif
}

#endif
