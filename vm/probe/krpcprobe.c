// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: choice of the sub-command. */
#include "krpcprobe.h"

static const struct command *const tables[] = {
	adopt_commands, send_commands, reply_commands, answer_commands, done_commands,
	end_commands, chance_commands, fuzz_commands,
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
	fprintf(stderr, "usage: krpcprobe COMMAND [ARGUMENT...]   ($MNT: mount point, $SECTION: dev|uring)\n");
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (cmd = tables[i]; cmd->name; cmd++)
			fprintf(stderr, "    %-18s %s\n", cmd->name, cmd->help);
	return 2;
}
