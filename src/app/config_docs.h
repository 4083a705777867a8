/* The settings as files: made from the one table, so that they cannot differ from it. */
#ifndef TIDINGS_APP_CONFIG_DOCS_H
#define TIDINGS_APP_CONFIG_DOCS_H

#include <stdio.h>

void config_docs_env(FILE *out);      /* a sample environment file: config/tidings.env.example */
void config_docs_markdown(FILE *out); /* docs/settings.md */

#endif
