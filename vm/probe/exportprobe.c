// SPDX-License-Identifier: GPL-2.0-only
/* exportprobe: choice of the sub-command. */
#include "exportprobe.h"

static const struct command commands[] = {
	{ "steps", probe_steps, "FILE ro|rw|wo|direct|append|sync|dsync STEP...: single calls, told one by one" },
	{ "load", probe_load, "FILE JOBS DEPTH OPERATIONS [FIRST_BLOCK]: reads and writes by io_submit, verified" },
	{ "journal", probe_journal, "FILE JOURNAL [BLOCKS]: write and sync until it fails, note what is safe" },
	{ "verify", probe_verify, "FILE JOURNAL [BLOCKS]: is all there that was noted as safe?" },
	{ "kernel", probe_kernel, "TOPIC SERVER...: as a kernel that sends what ours never would" },
	{ "cut", probe_cut, "PID N: shut down the N'th of its sockets, as a network would that is gone" },
	{ NULL, NULL, NULL },
};

const char *backing;
uint64_t seed = 1;

int main(int argc, char **argv)
{
	const struct command *cmd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("SEED"))
		seed = strtoull(getenv("SEED"), NULL, 0);
	for (cmd = commands; argc > 1 && cmd->name; cmd++) {
		if (strcmp(cmd->name, argv[1]))
			continue;
		cmd->run(argc - 1, argv + 1);
		return 0;
	}
	fprintf(stderr, "usage: exportprobe COMMAND [ARGUMENT...]\n");
	for (cmd = commands; cmd->name; cmd++)
		fprintf(stderr, "    %-10s %s\n", cmd->name, cmd->help);
	return 2;
}
