// SPDX-License-Identifier: GPL-2.0-only
/* exportprobe: a connection of another process, broken behind its back. */
#include "exportprobe.h"

#include <sys/pidfd.h>
#include <sys/socket.h>

enum { MOST_FDS = 1024 };

/* By their numbers, and so in the order in which they were made. */
static int nth_socket(pid_t pid, long n)
{
	char path[64], target[64];

	for (int fd = 0; fd < MOST_FDS; fd++) {
		ssize_t len;

		sprintf(path, "/proc/%d/fd/%d", pid, fd);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = 0;
		if (!strncmp(target, "socket:", 7) && --n == 0)
			return fd;
	}
	fail("process %d has no such socket", pid);
}

void probe_cut(int argc, char **argv)
{
	pid_t pid;
	int process, fd;

	if (argc != 3)
		fail("usage: cut PID N");
	pid = number(argv[1]);
	process = OK(pidfd_open(pid, 0));
	fd = OK(pidfd_getfd(process, nth_socket(pid, number(argv[2])), 0));
	OK(shutdown(fd, SHUT_RDWR));
}
