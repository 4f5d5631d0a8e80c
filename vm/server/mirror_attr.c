// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mirror.h"
#include "mirror_node.h"

/* The kernel's 32-bit form of a device number. */
static uint32_t encode_dev(dev_t dev)
{
	uint32_t n = minor(dev);

	return (n & 0xff) | major(dev) << 8 | (n & ~0xffu) << 12;
}

void mirror_attr(struct fuse_attr *attr, const struct stat *st)
{
	attr->ino = st->st_ino;
	attr->size = st->st_size;
	attr->blocks = st->st_blocks;
	attr->atime = st->st_atim.tv_sec;
	attr->mtime = st->st_mtim.tv_sec;
	attr->ctime = st->st_ctim.tv_sec;
	attr->atimensec = st->st_atim.tv_nsec;
	attr->mtimensec = st->st_mtim.tv_nsec;
	attr->ctimensec = st->st_ctim.tv_nsec;
	attr->mode = st->st_mode;
	attr->nlink = st->st_nlink;
	attr->uid = st->st_uid;
	attr->gid = st->st_gid;
	attr->rdev = encode_dev(st->st_rdev);
	attr->blksize = st->st_blksize;
	attr->flags = 0;
}

int mirror_getattr(struct request *rq, uint64_t node, struct fuse_attr *attr)
{
	int fd = node_fd(node);
	struct stat st;

	(void)rq;
	if (fd < 0)
		return fd;
	if (mirror_stat(fd, &st) < 0)
		return -errno;
	mirror_attr(attr, &st);
	return 0;
}

int mirror_statx(struct request *rq, uint64_t node, unsigned int flags, unsigned int mask,
		 struct statx *stat)
{
	int fd = node_fd(node);

	(void)rq;
	if (fd < 0)
		return fd;
	flags &= AT_STATX_SYNC_TYPE;
	return statx(fd, "", flags | AT_EMPTY_PATH, mask, stat) < 0 ? -errno : 0;
}

static int set_size(int fd, const struct fuse_setattr_in *in)
{
	int file, rc;

	mirror_cred_keep_suid(!(in->valid & FATTR_KILL_SUIDGID));
	if (in->valid & FATTR_FH) {
		do
			rc = ftruncate(in->fh, in->size);
		while (rc < 0 && errno == EINTR);
		return rc < 0 ? -errno : 0;
	}
	file = open(fd_name(fd).text, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	if (file < 0)
		return -errno;
	do
		rc = ftruncate(file, in->size);
	while (rc < 0 && errno == EINTR);
	rc = rc < 0 ? -errno : 0;
	close(file);
	return rc;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t now, uint64_t sec,
			       uint32_t nsec)
{
	if (!(valid & set))
		return (struct timespec){ .tv_nsec = UTIME_OMIT };
	if (valid & now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	return (struct timespec){ .tv_sec = sec, .tv_nsec = nsec };
}

int mirror_setattr(struct request *rq, uint64_t node, const struct fuse_setattr_in *in,
		   struct fuse_attr *attr)
{
	uint32_t valid = in->valid;
	int fd = node_fd(node);
	int error;

	if (fd < 0)
		return fd;
	/* before the mode: a change of owner clears bits of it */
	if (valid & (FATTR_UID | FATTR_GID)) {
		uid_t uid = valid & FATTR_UID ? in->uid : (uid_t)-1;
		gid_t gid = valid & FATTR_GID ? in->gid : (gid_t)-1;

		if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	if (valid & FATTR_MODE) {
		mirror_cred_keep_suid(true);
		if (chmod(fd_name(fd).text, in->mode & 07777) < 0)
			return -errno;
	}
	if (valid & FATTR_SIZE) {
		error = set_size(fd, in);
		if (error)
			return error;
	}
	if (valid & (FATTR_ATIME | FATTR_MTIME)) {
		struct timespec times[] = {
			time_of(valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
			time_of(valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
		};

		if (utimensat(fd, "", times, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	return mirror_getattr(rq, node, attr);
}

int mirror_statfs(struct request *rq, uint64_t node, struct fuse_kstatfs *st)
{
	int fd = node_fd(node);
	struct statfs s;

	(void)rq;
	if (fd < 0)
		return fd;
	if (fstatfs(fd, &s) < 0)
		return -errno;
	st->blocks = s.f_blocks;
	st->bfree = s.f_bfree;
	st->bavail = s.f_bavail;
	st->files = s.f_files;
	st->ffree = s.f_ffree;
	st->bsize = s.f_bsize;
	st->namelen = s.f_namelen;
	st->frsize = s.f_frsize;
	return 0;
}

int mirror_syncfs(struct request *rq, uint64_t node)
{
	int fd = node_fd(node);
	int dir, rc;

	(void)rq;
	if (fd < 0)
		return fd;
	dir = open(fd_name(fd).text, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	rc = syncfs(dir) < 0 ? -errno : 0;
	close(dir);
	return rc;
}
