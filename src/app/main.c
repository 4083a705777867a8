/* tidings: one binary, a subcommand first. */
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "app/config_docs.h"

static const char usage[] =
    "Usage: tidings COMMAND [OPTION…]\n"
    "\n"
    "The backbone of referral and waitlist campaigns: domain actions over HTTP, committed with their\n"
    "events in Postgres, relayed in order to Kafka, acted on by consumer groups.\n"
    "\n"
    "Commands:\n"
    "  serve                 take requests, relay events, run the consumer groups, until SIGTERM or SIGINT\n"
    "  migrate               bring the database's schema up; safe to run from several hosts at once\n"
    "  config                print every setting with its type, range, default, help and current value;\n"
    "                        --env: as a sample environment file, --markdown: as a table\n"
    "  keys create           make an API key and print it once (see `tidings keys --help`)\n"
    "  keys list             list API keys\n"
    "  keys revoke KEY_ID    revoke an API key\n"
    "  dead-letters          list, show, retry or discard what consumer groups could not finish\n"
    "                        (see `tidings dead-letters --help`)\n"
    "  relay rewind, accept  have events sent to Kafka again; go on after the database lost events\n"
    "                        (see `tidings relay --help`)\n"
    "  partitions            show how many of the topic's partitions are in use, or take more into use\n"
    "                        (see `tidings partitions --help`)\n"
    "  verify                whether Postgres, Kafka and the groups' effects agree (see `tidings verify --help`)\n"
    "\n"
    "Options:\n"
    "  -h, --help            this text\n"
    "  -V, --version         the version\n"
    "\n"
    "All settings are environment variables: see `tidings config`.\n";

static int command_config(const struct config *config, int argc, char **argv)
{
    if (argc == 0)
        config_print(config, stdout);
    else if (argc == 1 && strcmp(argv[0], "--env") == 0)
        config_docs_env(stdout);
    else if (argc == 1 && strcmp(argv[0], "--markdown") == 0)
        config_docs_markdown(stdout);
    else {
        bool help = strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0;
        fputs("Usage: tidings config [--env | --markdown]\n"
              "Prints every setting with its type, range, default, help and current value; --env: as a sample\n"
              "environment file; --markdown: as a table.\n",
              help ? stdout : stderr);
        return help ? EXIT_OK : EXIT_USAGE;
    }
    return EXIT_OK;
}

static int run(const struct config *config, const char *command, int argc, char **argv)
{
    if (strcmp(command, "serve") == 0)
        return command_serve(config, argc, argv);
    if (strcmp(command, "migrate") == 0)
        return command_migrate(config, argc, argv);
    if (strcmp(command, "keys") == 0)
        return command_keys(config, argc, argv);
    if (strcmp(command, "dead-letters") == 0)
        return command_dead_letters(config, argc, argv);
    if (strcmp(command, "relay") == 0)
        return command_relay(config, argc, argv);
    if (strcmp(command, "partitions") == 0)
        return command_partitions(config, argc, argv);
    if (strcmp(command, "verify") == 0)
        return command_verify(config, argc, argv);
    if (strcmp(command, "config") == 0)
        return command_config(config, argc, argv);
    fprintf(stderr, "tidings: unknown command \"%s\"\n\n%s", command, usage);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    const char *command = argv[1];
    if (strcmp(command, "-h") == 0 || strcmp(command, "--help") == 0 || strcmp(command, "help") == 0) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    if (strcmp(command, "-V") == 0 || strcmp(command, "--version") == 0) {
        puts("tidings " TIDINGS_VERSION);
        return EXIT_OK;
    }
    /* Never freed: a worker that did not end in time may still read it while the process ends. */
    static struct config config;
    char why[512];
    if (!config_load(&config, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", why);
        return EXIT_USAGE;
    }
    return run(&config, command, argc - 2, argv + 2);
}
