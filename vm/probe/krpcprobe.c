// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: choice of the sub-command. */
#include "krpcprobe.h"

static const struct command *const tables[] = {
	adopt_commands, send_commands, reply_commands, answer_commands, done_commands,
	end_commands, chance_commands, fuzz_commands, rare_commands, sock_commands, NULL,
};

int main(int argc, char **argv)
{
	return run_command("krpcprobe COMMAND [ARGUMENT...]   ($MNT: mount point, $SECTION: dev|uring)",
			   tables, argc, argv);
}
