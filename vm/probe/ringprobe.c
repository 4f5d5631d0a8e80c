// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: choice of the sub-command. */
#include "ringprobe.h"

static const struct command *const tables[] = {
	entry_commands, place_commands, queue_commands, life_commands, server_commands,
	notify_commands, pool_commands, NULL,
};

int main(int argc, char **argv)
{
	return run_command("ringprobe COMMAND [ARGUMENT...]   ($MNT: mount point)",
			   tables, argc, argv);
}
