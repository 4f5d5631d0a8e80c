// SPDX-License-Identifier: GPL-2.0-only
/*
 * Open directories. Offsets are those of the mirrored directory, so that seeking and
 * reading under change are as good as there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mirror.h"
#include "mirror_node.h"
#include "say.h"

struct dir {
	int fd;
	bool moved;		/* the descriptor's position is not 0 */
	pthread_mutex_t lock;
	uint64_t offset;	/* of the next entry */
	unsigned int next;	/* its place in the buffer */
	unsigned int filled;
	struct dir *next_free;
	char buffer[8192] __attribute__((aligned(8)));
};

/* Handles are descriptors; here are their states. */
static struct dir **dirs;
static unsigned int dirs_limit;
static struct dir *free_dirs;
static pthread_mutex_t free_lock = PTHREAD_MUTEX_INITIALIZER;

int mirror_dir_start(unsigned int limit)
{
	dirs = calloc(limit, sizeof(*dirs));
	dirs_limit = limit;
	if (!dirs) {
		say("no memory for %u handles", limit);
		return 1;
	}
	return 0;
}

void mirror_dir_stop(void)
{
	for (unsigned int i = 0; i < dirs_limit; i++) {
		if (dirs[i]) {
			close(i);
			free(dirs[i]);
		}
	}
	while (free_dirs) {
		struct dir *d = free_dirs;

		free_dirs = d->next_free;
		free(d);
	}
	free(dirs);
}

static struct dir *dir_of(uint64_t fh)
{
	return fh < dirs_limit ? __atomic_load_n(&dirs[fh], __ATOMIC_ACQUIRE) : NULL;
}

static struct dir *take_dir(void)
{
	struct dir *d;

	pthread_mutex_lock(&free_lock);
	d = free_dirs;
	if (d)
		free_dirs = d->next_free;
	pthread_mutex_unlock(&free_lock);
	if (!d) {
		d = malloc(sizeof(*d));
		if (d)
			pthread_mutex_init(&d->lock, NULL);
	}
	return d;
}

static void free_dir(struct dir *d)
{
	pthread_mutex_lock(&free_lock);
	d->next_free = free_dirs;
	free_dirs = d;
	pthread_mutex_unlock(&free_lock);
}

int mirror_opendir(struct request *rq, uint64_t node, uint64_t *fh)
{
	int fd = node_fd(node);
	struct dir *d;

	(void)rq;
	if (fd < 0)
		return fd;
	fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = (unsigned int)fd < dirs_limit ? take_dir() : NULL;
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	d->fd = fd;
	d->moved = false;
	d->offset = 0;
	d->next = d->filled = 0;
	__atomic_store_n(&dirs[fd], d, __ATOMIC_RELEASE);
	*fh = fd;
	return 0;
}

int mirror_releasedir(struct request *rq, uint64_t fh)
{
	struct dir *d = dir_of(fh);

	(void)rq;
	if (!d)
		return -EBADF;
	__atomic_store_n(&dirs[fh], NULL, __ATOMIC_RELEASE);
	close(d->fd);
	free_dir(d);
	return 0;
}

int mirror_fsyncdir(struct request *rq, uint64_t fh, bool data_only)
{
	return dir_of(fh) ? mirror_fsync(rq, fh, data_only) : -EBADF;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/*
 * One record. With PLUS the entry counts as a lookup, which "." and ".." (and what is
 * gone by now) must not: a node id of 0 says so.
 */
static void put_entry(struct dir *d, const struct dirent64 *from, char *out, size_t length,
		      bool plus)
{
	struct fuse_dirent *to = (struct fuse_dirent *)out;

	if (plus) {
		struct fuse_direntplus *both = (struct fuse_direntplus *)out;
		struct fuse_entry_out *entry = &both->entry_out;

		to = &both->dirent;
		if (is_dots(from->d_name) || mirror_enter(d->fd, from->d_name, entry) < 0) {
			memset(entry, 0, sizeof(*entry));
			entry->attr.ino = from->d_ino;
			entry->attr.mode = DTTOIF(from->d_type);
		}
		entry_times(entry);
	}
	to->ino = from->d_ino;
	to->off = from->d_off;
	to->namelen = length;
	to->type = from->d_type;
	memcpy(to->name, from->d_name, length);
	/* up to the next record, no bytes of ours */
	memset(to->name + length, 0, -(FUSE_NAME_OFFSET + length) & 7);
}

/* Fill the buffer from OFFSET on. Bytes in it, 0 at the end of the directory. */
static int fill(struct dir *d, uint64_t offset)
{
	ssize_t n;

	/* an offset of 0 is a rewind: whatever is buffered is out of date */
	if (offset != d->offset || offset == 0) {
		if ((offset || d->moved) && lseek(d->fd, offset, SEEK_SET) < 0)
			return -errno;
		d->offset = offset;
		d->next = d->filled = 0;
	}
	if (d->next < d->filled)
		return d->filled - d->next;
	n = syscall(SYS_getdents64, d->fd, d->buffer, sizeof(d->buffer));
	d->moved = true;
	d->next = 0;
	d->filled = n < 0 ? 0 : n;
	return n < 0 ? -errno : n;
}

int mirror_readdir(struct request *rq, uint64_t node, uint64_t fh, uint64_t offset, char *out,
		   size_t size, bool plus)
{
	size_t fixed = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	struct dir *d = dir_of(fh);
	size_t done = 0;
	int n;

	(void)rq;
	(void)node;
	if (!d)
		return -EBADF;
	pthread_mutex_lock(&d->lock);
	n = fill(d, offset);
	/* what one system call gave is enough for one reply */
	while (n > 0 && d->next < d->filled) {
		const struct dirent64 *e = (const struct dirent64 *)(d->buffer + d->next);
		size_t length = strlen(e->d_name);
		size_t record = FUSE_REC_ALIGN(fixed + length);

		if (record > size - done) {
			if (!done)
				n = -EINVAL;
			break;
		}
		put_entry(d, e, out + done, length, plus);
		done += record;
		d->next += e->d_reclen;
		d->offset = e->d_off;
	}
	pthread_mutex_unlock(&d->lock);
	return n < 0 ? n : (int)done;
}
