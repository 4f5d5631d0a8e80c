// SPDX-License-Identifier: GPL-2.0-only
/* An image that is a file or a block device, through the io_uring of the serving thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "block.h"
#include "say.h"

/* What O_DIRECT may demand of offset, size and address at most. */
#define ALIGNMENT 4096

static int plain = -1;		/* through the page cache */
static int direct = -1;		/* past it; -1: not asked for */
static bool is_device;
static unsigned int sector;	/* of a device: what it makes zeroes of at once */
/*
 * A file in memory (tmpfs): there is nothing to wait for, and as the kernel cannot promise
 * that, io_uring would have each access made by a worker thread.
 */
static bool in_memory;
/*
 * A file on a FUSE filesystem has poll(2), which says that it is ready, always: so io_uring takes
 * it for one that can be read at once, and the thread waits in there for all that is behind it.
 */
static bool blocks;

/* One request's work, in its scratch. */
struct work {
	struct awaited awaited;
	struct request *rq;
	char *data;
	uint64_t offset;
	uint64_t size;		/* left */
	uint32_t done;
	uint16_t kind;		/* IORING_OP_... */
	uint16_t mode;		/* of fallocate, or flags of write or fsync */
	uint16_t then;		/* the mode with which to fill the hole that was made */
	bool fill;
	bool other_way;		/* the first one was not supported */
	/* what of a device's sectors remains to be zeroed, before and behind whole ones */
	struct edge {
		uint64_t offset;
		uint32_t size;
	} edge[2];
};
_Static_assert(sizeof(struct work) <= sizeof(((struct request *)0)->scratch), "scratch");

static const char zeroes[ALIGNMENT];

static struct work *work_of(struct request *rq)
{
	return (struct work *)rq->scratch;
}

/* The descriptor for this piece: O_DIRECT wants it aligned. */
static int fd_for(const struct work *w)
{
	if (direct >= 0 && !((w->offset | w->size | (uintptr_t)w->data) % ALIGNMENT))
		return direct;
	return plain;
}

static void raw_done(struct awaited *a, int result);

static int submit(struct work *w)
{
	struct loop *l = w->rq->loop;
	struct io_uring_sqe *sqe = loop_sqe(l, &w->awaited);

	if (!sqe)
		return -EIO;
	switch (w->kind) {
	case IORING_OP_READ:
		io_uring_prep_read(sqe, fd_for(w), w->data, w->size, w->offset);
		break;
	case IORING_OP_WRITE:
		io_uring_prep_write(sqe, fd_for(w), w->data, w->size, w->offset);
		sqe->rw_flags = w->mode;
		break;
	case IORING_OP_FSYNC:
		io_uring_prep_fsync(sqe, plain, w->mode);
		break;
	case IORING_OP_FALLOCATE:
		io_uring_prep_fallocate(sqe, plain, w->mode, w->offset, w->size);
		break;
	}
	if (blocks)
		sqe->flags |= IOSQE_ASYNC;
	l->busy++;
	return REPLY_SOON;
}

/* The next of them, as a write of zeroes. */
static bool zero_edge(struct work *w)
{
	for (int i = 0; i < 2; i++) {
		struct edge *e = &w->edge[i];

		if (!e->size)
			continue;
		w->kind = IORING_OP_WRITE;
		w->mode = 0;
		w->data = (char *)zeroes;
		w->offset = e->offset;
		w->size = e->size < sizeof(zeroes) ? e->size : sizeof(zeroes);
		e->offset += w->size;
		e->size -= w->size;
		return true;
	}
	return false;
}

/*
 * What to do after RESULT: again, go on with the rest, or another way. False: it is the
 * end, and *result is the request's.
 */
static bool goes_on(struct work *w, int *result)
{
	if (*result == -EINTR || *result == -EAGAIN)
		return true;
	if (w->kind == IORING_OP_READ || w->kind == IORING_OP_WRITE) {
		if (*result > 0) {
			w->done += *result;
			w->data += *result;
			w->offset += *result;
			w->size -= *result;
			if (w->size)
				return true;
		}
		/*
		 * A short read would say that the image ends there, and half of a range is no
		 * zeroed range; the rest of a write is tried again.
		 */
		if (w->done && (*result >= 0 || w->rq->in->opcode == FUSE_WRITE))
			*result = w->done;
	} else if (w->kind == IORING_OP_FALLOCATE && *result == -EOPNOTSUPP && !w->other_way) {
		w->other_way = true;
		if (is_device && (w->mode & FALLOC_FL_PUNCH_HOLE)) {
			/* what counts are the zeroes */
			w->mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
			return true;
		}
		if (!is_device && (w->mode & FALLOC_FL_ZERO_RANGE)) {
			/* a hole has them as well, and then it gets its blocks back */
			w->fill = true;
			w->then = w->mode & FALLOC_FL_KEEP_SIZE;
			w->mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
			return true;
		}
	} else if (w->kind == IORING_OP_FALLOCATE && *result == 0 && w->fill) {
		w->fill = false;
		w->mode = w->then;
		return true;
	}
	if (is_device && w->rq->in->opcode == FUSE_FALLOCATE && *result >= 0) {
		*result = 0;
		return zero_edge(w);
	}
	return false;
}

static void raw_done(struct awaited *a, int result)
{
	struct work *w = AWAITED_IN(struct work, awaited, a);

	w->rq->loop->busy--;
	if (goes_on(w, &result)) {
		result = submit(w);
		if (result == REPLY_SOON)
			return;
	}
	block_complete(w->rq, result);
}

static void prepare(struct request *rq, uint16_t kind, uint16_t mode, void *data,
		    uint64_t offset, uint64_t size)
{
	*work_of(rq) = (struct work){
		.awaited.done = raw_done, .rq = rq, .data = data, .offset = offset,
		.size = size, .kind = kind, .mode = mode,
	};
}

static int begin(struct request *rq, uint16_t kind, uint16_t mode, void *data, uint64_t offset,
		 uint64_t size)
{
	prepare(rq, kind, mode, data, offset, size);
	return submit(work_of(rq));
}

static int raw_read(struct request *rq, void *data, uint32_t size, uint64_t offset)
{
	ssize_t n;

	if (!in_memory)
		return begin(rq, IORING_OP_READ, 0, data, offset, size);
	n = pread(plain, data, size, offset);
	return n < 0 ? -errno : n;
}

static int raw_write(struct request *rq, const void *data, uint32_t size, uint64_t offset,
		     int rwf)
{
	ssize_t n;

	if (!in_memory)
		return begin(rq, IORING_OP_WRITE, rwf, (void *)data, offset, size);
	n = pwrite(plain, data, size, offset);
	return n < 0 ? -errno : n;
}

static int raw_sync(struct request *rq, bool data_only)
{
	return begin(rq, IORING_OP_FSYNC, data_only ? IORING_FSYNC_DATASYNC : 0, NULL, 0, 0);
}

/* A device's fallocate takes whole sectors only. */
static int zero_device(struct request *rq, int mode, uint64_t offset, uint64_t length)
{
	uint64_t first = (offset + sector - 1) / sector * sector;
	uint64_t end = offset + length, last = end / sector * sector;
	struct work *w = work_of(rq);

	prepare(rq, IORING_OP_FALLOCATE, mode, NULL, first, last - first);
	if (first >= last) {
		/* within a sector, or two */
		w->edge[0] = (struct edge){ offset, length };
		zero_edge(w);
		return submit(w);
	}
	w->edge[0] = (struct edge){ offset, first - offset };
	w->edge[1] = (struct edge){ last, end - last };
	return submit(w);
}

static int raw_allocate(struct request *rq, int mode, uint64_t offset, uint64_t length)
{
	/* a device has all its blocks */
	if (is_device && !(mode & ~FALLOC_FL_KEEP_SIZE))
		return 0;
	if (is_device)
		return zero_device(rq, mode | FALLOC_FL_KEEP_SIZE, offset, length);
	return begin(rq, IORING_OP_FALLOCATE, mode, NULL, offset, length);
}

/* Looks up what is known already, and there is no such operation of io_uring. */
static int raw_seek(struct request *rq, uint64_t offset, int whence, uint64_t *result)
{
	uint64_t end = block_length();
	off_t n;

	(void)rq;
	n = is_device ? -1 : lseek(plain, offset, whence);
	if (n < 0 && (is_device || errno == EINVAL))
		n = whence == SEEK_DATA ? offset : end;
	else if (n < 0)
		return -errno;
	*result = n;
	return 0;
}

static int raw_resize(uint64_t length)
{
	return ftruncate(plain, length) < 0 ? -errno : 0;
}

static int raw_measure(uint64_t *length)
{
	struct stat st;

	if (fstat(plain, &st) < 0)
		return -errno;
	*length = st.st_size;
	return 0;
}

static void raw_attr(struct fuse_attr *attr)
{
	struct stat st;

	if (fstat(plain, &st) < 0)
		return;
	if (!is_device)
		attr->blocks = st.st_blocks;
	attr->atime = st.st_atim.tv_sec;
	attr->atimensec = st.st_atim.tv_nsec;
	attr->mtime = st.st_mtim.tv_sec;
	attr->mtimensec = st.st_mtim.tv_nsec;
	attr->ctime = st.st_ctim.tv_sec;
	attr->ctimensec = st.st_ctim.tv_nsec;
}

static void find_out(const struct stat *st)
{
	struct statfs fs;

	is_device = S_ISBLK(st->st_mode);
	if (is_device || fstatfs(plain, &fs) < 0)
		return;
	in_memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
	blocks = fs.f_type == FUSE_SUPER_MAGIC;
}

static int raw_open(const char *name, uint64_t *length)
{
	int flags = (block_options.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC;
	struct stat st;

	plain = open(name, flags);
	if (plain < 0 || fstat(plain, &st) < 0)
		return complain(name);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		say("%s: neither a file nor a block device", name);
		return 1;
	}
	find_out(&st);
	if (is_device && block_options.growable) {
		say("%s: a block device cannot grow", name);
		return 1;
	}
	/* two that write the same image would ruin it */
	if (flock(plain, (block_options.writable ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return complain(name);
		say("%s: in use by another server", name);
		return 1;
	}
	if (block_options.direct) {
		direct = open(name, flags | O_DIRECT);
		if (direct < 0)
			return complain("--direct");
		in_memory = false;
	}
	*length = st.st_size;
	if (is_device &&
	    (ioctl(plain, BLKGETSIZE64, length) < 0 || ioctl(plain, BLKSSZGET, &sector) < 0))
		return complain(name);
	return 0;
}

/* An orderly end leaves nothing behind in a cache. */
static int raw_close(void)
{
	int status = 0;

	if (block_options.writable && fdatasync(plain) < 0)
		status = complain("the image, at the end");
	close(plain);
	if (direct >= 0)
		close(direct);
	return status;
}

const struct image raw_image = {
	.open = raw_open,
	.close = raw_close,
	.read = raw_read,
	.write = raw_write,
	.sync = raw_sync,
	.allocate = raw_allocate,
	.seek = raw_seek,
	.resize = raw_resize,
	.measure = raw_measure,
	.attr = raw_attr,
};
