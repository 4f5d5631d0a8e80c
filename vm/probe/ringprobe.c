// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: choice of the sub-command. */
#include "ringprobe.h"

static const struct command *const tables[] = {
	entry_commands, place_commands, queue_commands, life_commands, server_commands,
	notify_commands, pool_commands,
};

int main(int argc, char **argv)
{
	size_t i;
	const struct command *cmd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; argc > 1 && i < sizeof(tables) / sizeof(tables[0]); i++)
		for (cmd = tables[i]; cmd->name; cmd++)
			if (!strcmp(cmd->name, argv[1])) {
				int status = cmd->run(argc - 1, argv + 1);

				cleanup();
				return status;
			}
	fprintf(stderr, "usage: ringprobe COMMAND [ARGUMENT...]   ($MNT: mount point)\n");
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (cmd = tables[i]; cmd->name; cmd++)
			fprintf(stderr, "    %-18s %s\n", cmd->name, cmd->help);
	return 2;
}
