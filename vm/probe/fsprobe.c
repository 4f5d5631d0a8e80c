// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: choice of the sub-command. */
#include "fsprobe.h"

static const struct command *const tables[] = {
	fsx_commands, data_commands, map_commands, move_commands, aio_commands,
	ns_commands, rename_commands, attr_commands, perm_commands, xattr_commands,
	lock_commands, lockwait_commands, dir_commands,
};

const char *backing;
uint64_t seed = 1;

static void enter(void)
{
	const char *mnt = getenv("MNT");
	const char *src = getenv("SRC");
	const char *text = getenv("SEED");

	if (!mnt || !src) {
		fprintf(stderr, "fsprobe: MNT and SRC must be set\n");
		exit(2);
	}
	backing = src;
	if (text)
		seed = strtoull(text, NULL, 0);
	if (chdir(mnt)) {
		fprintf(stderr, "fsprobe: %s: %s\n", mnt, strerror(errno));
		exit(2);
	}
}

int main(int argc, char **argv)
{
	const struct command *cmd;
	size_t i;

	/* lines of several processes must not be torn, and must keep their order */
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; argc > 1 && i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (cmd = tables[i]; cmd->name; cmd++) {
			if (strcmp(cmd->name, argv[1]))
				continue;
			enter();
			cmd->run(argc - 1, argv + 1);
			return 0;
		}
	}
	fprintf(stderr,
		"usage: fsprobe COMMAND [ARGUMENT...]\n"
		"in the environment: MNT (where to work), SRC (what lies below), SEED\n");
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (cmd = tables[i]; cmd->name; cmd++)
			fprintf(stderr, "    %-16s %s\n", cmd->name, cmd->help);
	return 2;
}
