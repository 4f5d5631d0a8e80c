/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A server program: what it serves and which options it has beside those of all. Its
 * main() is one call of server_main(); start-up, transports and the end are shared.
 */
#ifndef SERVER_H
#define SERVER_H

#include <getopt.h>

#include "backend.h"
#include "options.h"

/* Numbers of a program's own options start here. */
#define OWN_OPTION 256

struct program {
	const char *usage;		/* its arguments */
	const char *help;		/* lines for its own options */
	void (*defaults)(struct options *o);	/* what differs; may be NULL */
	const struct option *options;	/* ended by an empty one; may be NULL */
	void (*option)(struct options *o, int number, char *value);
	/* What is left on the command line; what contradicts itself. */
	void (*arguments)(struct options *o, int count, char **words);
	const struct backend *backend;
	/* Before any thread is started. 0 or exit status. */
	int (*start)(const struct options *o);
	/* After all threads have ended. 0 or exit status. */
	int (*stop)(void);
};

int server_main(const struct program *program, int argc, char **argv);

#endif
