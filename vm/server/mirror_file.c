// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mirror.h"
#include "mirror_node.h"
#include "session.h"

/*
 * A file handle is the descriptor of the mirrored file. O_APPEND is left to each
 * write, since the page cache writes by offset through any handle of a file, and
 * O_DIRECT would demand alignment that requests do not have.
 */
static int backing_flags(int flags)
{
	flags &= ~(O_APPEND | O_DIRECT | O_CREAT | O_EXCL | O_NOCTTY | O_NOFOLLOW);
	/* the page cache has to read what it writes in part */
	if (session.writeback && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	/* the kernel leaves times of access to us, and our reads would count below */
	if (session.opt->mount_flags & MS_NOATIME)
		flags |= O_NOATIME;
	return flags | O_CLOEXEC;
}

int mirror_open(struct request *rq, uint64_t node, int flags, bool kill_suid, uint64_t *fh)
{
	int fd = node_fd(node);
	int file;

	(void)rq;
	if (fd < 0)
		return fd;
	if (flags & O_TRUNC)
		mirror_cred_keep_suid(!kill_suid);
	file = open(fd_name(fd).text, backing_flags(flags));
	if (file < 0)
		return -errno;
	*fh = file;
	return 0;
}

static int enter_node(int file, struct fuse_entry_out *entry)
{
	struct stat st;
	int fd, error;

	if (mirror_stat(file, &st) < 0)
		return -errno;
	if (!node_find(&st, entry)) {
		fd = open(fd_name(file).text, O_PATH | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		error = node_add(fd, &st, entry);
		if (error)
			return error;
	}
	mirror_attr(&entry->attr, &st);
	return 0;
}

/* The entry and handle of a file that was opened before its node was known. */
static int enter_open_file(int file, struct fuse_entry_out *entry, uint64_t *fh)
{
	int error = enter_node(file, entry);

	if (error)
		close(file);
	else
		*fh = file;
	return error;
}

int mirror_create(struct request *rq, uint64_t parent, const char *name, int flags,
		  mode_t mode, bool kill_suid, struct fuse_entry_out *entry, uint64_t *fh)
{
	int dir = node_fd(parent);
	int file;

	if (dir < 0)
		return dir;
	mirror_cred_caller(rq);
	/* an existing file may have taken the name, with bits to lose */
	if ((flags & O_TRUNC) && kill_suid)
		mirror_cred_keep_suid(false);
	/* or a FIFO, which must not keep us waiting */
	file = openat(dir, name,
		      backing_flags(flags) | O_CREAT | (flags & O_EXCL) | O_NOFOLLOW |
		      O_NONBLOCK, mode & 07777);
	if (file < 0)
		return -errno;
	return enter_open_file(file, entry, fh);
}

int mirror_tmpfile(struct request *rq, uint64_t parent, int flags, mode_t mode,
		   struct fuse_entry_out *entry, uint64_t *fh)
{
	int dir = node_fd(parent);
	int file;

	if (dir < 0)
		return dir;
	mirror_cred_caller(rq);
	file = openat(dir, ".", backing_flags(flags) | O_TMPFILE, mode & 07777);
	if (file < 0)
		return -errno;
	return enter_open_file(file, entry, fh);
}

int mirror_read(struct request *rq, uint64_t fh, void *data, size_t size, uint64_t offset)
{
	ssize_t n;

	(void)rq;
	/* pread() would mark a place to cancel the thread at, twice a request; nobody does that */
	do
		n = syscall(SYS_pread64, (int)fh, data, size, offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int mirror_read_fd(uint64_t fh)
{
	return fh;
}

/*
 * Page cache of the backing file that could have large folios, but gets small ones, looks
 * at all that is left to write again for each page (tmpfs of 6.12): so not all at once.
 */
#define WRITE_PIECE (128 << 10)

static ssize_t write_pieces(int fd, const char *data, size_t size, uint64_t offset, int rwf)
{
	size_t done = 0;

	while (done < size) {
		size_t piece = size - done < WRITE_PIECE ? size - done : WRITE_PIECE;
		struct iovec vec = { (char *)data + done, piece };
		ssize_t n = rwf ? pwritev2(fd, &vec, 1, offset + done, rwf) :
				  pwrite(fd, data + done, piece, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return done ? (ssize_t)done : -errno;
		done += n;
		if ((size_t)n < piece)
			break;
	}
	return done;
}

int mirror_write(struct request *rq, uint64_t fh, const void *data, size_t size,
		 uint64_t offset, int rwf, bool kill_suid)
{
	struct iovec vec = { .iov_base = (void *)data, .iov_len = size };
	ssize_t n;

	(void)rq;
	mirror_cred_keep_suid(!kill_suid);
	if (!(rwf & RWF_APPEND))
		return write_pieces(fh, data, size, offset, rwf);
	do
		n = pwritev2(fh, &vec, 1, 0, rwf);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int mirror_flush(struct request *rq, uint64_t node, uint64_t fh, uint64_t lock_owner)
{
	(void)rq;
	(void)fh;
	/* only locks need it: without them the kernel need not ask again */
	if (!session.opt->locks)
		return -ENOSYS;
	mirror_lock_flush(node, lock_owner);
	return 0;
}

int mirror_release(struct request *rq, uint64_t node, uint64_t fh)
{
	(void)rq;
	mirror_lock_release(node, fh);
	return close(fh) < 0 && errno != EINTR ? -errno : 0;
}

int mirror_fsync(struct request *rq, uint64_t fh, bool data_only)
{
	int rc;

	(void)rq;
	do
		rc = data_only ? fdatasync(fh) : fsync(fh);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/*
 * An ordinary user's change takes the set-id bits away. The kernel leaves that to us, and not every
 * file system below does it for fallocate: tmpfs doesn't.
 */
static void drop_set_id(const struct request *rq, int fd)
{
	mode_t drop = S_ISUID;
	struct stat st;

	if (rq->in->uid == 0 || fstat(fd, &st) < 0)
		return;
	/* without execution for the group the bit is another's: that of mandatory locks */
	if ((st.st_mode & S_IXGRP) || rq->in->gid != st.st_gid)
		drop |= S_ISGID;
	if (st.st_mode & drop)
		fchmod(fd, st.st_mode & ~drop & 07777);
}

int mirror_fallocate(struct request *rq, uint64_t fh, uint32_t mode, uint64_t offset,
		     uint64_t length)
{
	int rc;

	/* the request does not tell whether the caller may keep the bits */
	mirror_cred_keep_suid(rq->in->uid == 0);
	do
		rc = fallocate(fh, mode, offset, length);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	drop_set_id(rq, fh);
	return 0;
}

int mirror_lseek(struct request *rq, uint64_t fh, uint64_t offset, int whence,
		 uint64_t *result)
{
	off_t n;

	(void)rq;
	/* what the kernel has not written yet would look like a hole */
	if (session.writeback)
		return -ENOSYS;
	n = lseek(fh, offset, whence);
	if (n < 0)
		return -errno;
	*result = n;
	return 0;
}

int mirror_copy_range(struct request *rq, const struct fuse_copy_file_range_in *in,
		      uint64_t *copied)
{
	off_t from = in->off_in, to = in->off_out;
	ssize_t n;

	mirror_cred_keep_suid(rq->in->uid == 0);
	do
		n = copy_file_range(in->fh_in, &from, in->fh_out, &to, in->len, in->flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	*copied = n;
	return 0;
}
