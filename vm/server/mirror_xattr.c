// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <sys/xattr.h>

#include "mirror.h"
#include "mirror_node.h"

/*
 * The name of a descriptor below /proc/self/fd leads to the inode itself, symbolic
 * links included: it is followed, but what it leads to is not.
 */

int mirror_setxattr(struct request *rq, uint64_t node, const char *name, const void *value,
		    size_t size, int flags)
{
	int fd = node_fd(node);

	(void)rq;
	if (fd < 0)
		return fd;
	return setxattr(fd_name(fd).text, name, value, size, flags) < 0 ? -errno : 0;
}

int mirror_getxattr(struct request *rq, uint64_t node, const char *name, void *value,
		    size_t size)
{
	int fd = node_fd(node);
	ssize_t n;

	(void)rq;
	if (fd < 0)
		return fd;
	n = getxattr(fd_name(fd).text, name, value, size);
	return n < 0 ? -errno : n;
}

int mirror_listxattr(struct request *rq, uint64_t node, char *list, size_t size)
{
	int fd = node_fd(node);
	ssize_t n;

	(void)rq;
	if (fd < 0)
		return fd;
	n = listxattr(fd_name(fd).text, list, size);
	return n < 0 ? -errno : n;
}

int mirror_removexattr(struct request *rq, uint64_t node, const char *name)
{
	int fd = node_fd(node);

	(void)rq;
	if (fd < 0)
		return fd;
	return removexattr(fd_name(fd).text, name) < 0 ? -errno : 0;
}
