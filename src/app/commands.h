/* The subcommands of the one binary. Each gets the arguments after its name and returns the exit code. */
#ifndef TIDINGS_APP_COMMANDS_H
#define TIDINGS_APP_COMMANDS_H

#include "core/config.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNABLE = 3 /* verify: it could not look */ };

int command_serve(const struct config *config, int argc, char **argv);
int command_migrate(const struct config *config, int argc, char **argv);
int command_relay(const struct config *config, int argc, char **argv);
int command_partitions(const struct config *config, int argc, char **argv);
int command_verify(const struct config *config, int argc, char **argv);
int command_dead_letters(const struct config *config, int argc, char **argv);
int command_keys(const struct config *config, int argc, char **argv);

#endif
