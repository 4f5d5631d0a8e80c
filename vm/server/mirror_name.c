// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mirror.h"
#include "mirror_node.h"

int mirror_enter(int dir, const char *name, struct fuse_entry_out *entry)
{
	struct stat st;
	int fd, error;

	/* Most names looked up are of known inodes: one call instead of three. */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!node_find(&st, entry)) {
		fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		/* the name may be another's by now */
		if (mirror_stat(fd, &st) < 0) {
			error = -errno;
			close(fd);
			return error;
		}
		error = node_add(fd, &st, entry);
		if (error)
			return error;
	}
	mirror_attr(&entry->attr, &st);
	return 0;
}

int mirror_lookup(struct request *rq, uint64_t parent, const char *name,
		  struct fuse_entry_out *entry)
{
	int dir = node_fd(parent);

	(void)rq;
	return dir < 0 ? dir : mirror_enter(dir, name, entry);
}

int mirror_mknod(struct request *rq, uint64_t parent, const char *name, mode_t mode,
		 uint32_t rdev, struct fuse_entry_out *entry)
{
	int dir = node_fd(parent);
	dev_t dev = makedev(rdev >> 8 & 0xfff, (rdev & 0xff) | (rdev >> 12 & 0xfff00));

	if (dir < 0)
		return dir;
	mirror_cred_caller(rq);
	return mknodat(dir, name, mode, dev) < 0 ? -errno : mirror_enter(dir, name, entry);
}

int mirror_mkdir(struct request *rq, uint64_t parent, const char *name, mode_t mode,
		 struct fuse_entry_out *entry)
{
	int dir = node_fd(parent);

	if (dir < 0)
		return dir;
	mirror_cred_caller(rq);
	return mkdirat(dir, name, mode) < 0 ? -errno : mirror_enter(dir, name, entry);
}

int mirror_symlink(struct request *rq, uint64_t parent, const char *name, const char *target,
		   struct fuse_entry_out *entry)
{
	int dir = node_fd(parent);

	if (dir < 0)
		return dir;
	mirror_cred_caller(rq);
	return symlinkat(target, dir, name) < 0 ? -errno : mirror_enter(dir, name, entry);
}

int mirror_link(struct request *rq, uint64_t node, uint64_t parent, const char *name,
		struct fuse_entry_out *entry)
{
	int fd = node_fd(node);
	int dir = node_fd(parent);

	(void)rq;
	if (fd < 0 || dir < 0)
		return -ESTALE;
	return linkat(fd, "", dir, name, AT_EMPTY_PATH) < 0 ? -errno :
	       mirror_enter(dir, name, entry);
}

int mirror_unlink(struct request *rq, uint64_t parent, const char *name)
{
	int dir = node_fd(parent);

	(void)rq;
	if (dir < 0)
		return dir;
	return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

int mirror_rmdir(struct request *rq, uint64_t parent, const char *name)
{
	int dir = node_fd(parent);

	(void)rq;
	if (dir < 0)
		return dir;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int mirror_rename(struct request *rq, uint64_t parent, const char *name, uint64_t new_parent,
		  const char *new_name, unsigned int flags)
{
	int dir = node_fd(parent);
	int new_dir = node_fd(new_parent);

	/* WHITEOUT creates something */
	mirror_cred_caller(rq);
	if (dir < 0 || new_dir < 0)
		return -ESTALE;
	return renameat2(dir, name, new_dir, new_name, flags) < 0 ? -errno : 0;
}

int mirror_readlink(struct request *rq, uint64_t node, char *target, size_t size)
{
	int fd = node_fd(node);
	ssize_t n;

	(void)rq;
	if (fd < 0)
		return fd;
	n = readlinkat(fd, "", target, size);
	if (n < 0)
		return -errno;
	return (size_t)n == size ? -ENAMETOOLONG : n;
}
