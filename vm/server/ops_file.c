// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>

#include "ops.h"

/* A spliced reply saves a copy and costs a system call and pipe buffers: not for small ones. */
#define SPLICE_LEAST (64 << 10)

/* The handle is there already. */
static void fill_open(struct fuse_open_out *out)
{
	out->open_flags = session.open_flags;
	out->padding = 0;
}

static int finish_open(struct request *rq, int result)
{
	(void)result;
	fill_open((struct fuse_open_out *)rq->out);
	return sizeof(struct fuse_open_out);
}

static int run_open(struct request *rq)
{
	const struct fuse_open_in *in = rq->arg;
	struct fuse_open_out *out = (struct fuse_open_out *)rq->out;

	METHOD(open);
	return session.backend->open(rq, rq->in->nodeid, in->flags,
				     in->open_flags & FUSE_OPEN_KILL_SUIDGID, &out->fh);
}

/* The reply of CREATE and TMPFILE: an entry, then an open file. */
struct created_out {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

static int finish_created(struct request *rq, int result)
{
	struct created_out *out = (struct created_out *)rq->out;

	(void)result;
	entry_times(&out->entry);
	fill_open(&out->open);
	return sizeof(*out);
}

static int run_create(struct request *rq)
{
	const struct fuse_create_in *in = rq->arg;
	struct created_out *out = (struct created_out *)rq->out;
	const char *name;
	int error;

	METHOD(create);
	error = request_name(rq, &name);
	if (error)
		return error;
	return session.backend->create(rq, rq->in->nodeid, name, in->flags,
				       in->mode & ~in->umask,
				       in->open_flags & FUSE_OPEN_KILL_SUIDGID,
				       &out->entry, &out->open.fh);
}

static int run_tmpfile(struct request *rq)
{
	const struct fuse_create_in *in = rq->arg;
	struct created_out *out = (struct created_out *)rq->out;

	METHOD(tmpfile);
	return session.backend->tmpfile(rq, rq->in->nodeid, in->flags, in->mode & ~in->umask,
					&out->entry, &out->open.fh);
}

static int run_read(struct request *rq)
{
	const struct fuse_read_in *in = rq->arg;
	uint32_t size = in->size < rq->out_max ? in->size : rq->out_max;

	if (rq->send_file && size >= SPLICE_LEAST && session.backend->read_fd) {
		int fd = session.backend->read_fd(in->fh);

		if (fd >= 0)
			return rq->send_file(rq, fd, in->offset, size);
	}
	METHOD(read);
	return session.backend->read(rq, in->fh, rq->out, size, in->offset);
}

/* Only now: the data may have been in the same place. */
static int finish_written(struct request *rq, int result)
{
	struct fuse_write_out *out = (struct fuse_write_out *)rq->out;

	*out = (struct fuse_write_out){ .size = result };
	return sizeof(*out);
}

static int run_write(struct request *rq)
{
	const struct fuse_write_in *in = rq->arg;
	int rwf = 0;

	METHOD(write);
	if (in->size != rq->payload_size)
		return -EINVAL;
	/*
	 * With the page cache's own writes the offset counts, and with writeback all
	 * writes are of that kind, though the handle may be that of an appender.
	 */
	if ((in->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE) &&
	    !session.writeback)
		rwf |= RWF_APPEND;
	/* direct writes are not followed by an FSYNC of the kernel's */
	if ((in->flags & O_SYNC) == O_SYNC)
		rwf |= RWF_SYNC;
	else if (in->flags & O_DSYNC)
		rwf |= RWF_DSYNC;
	return session.backend->write(rq, in->fh, rq->payload, in->size, in->offset, rwf,
				      in->write_flags & FUSE_WRITE_KILL_SUIDGID);
}

static int run_flush(struct request *rq)
{
	const struct fuse_flush_in *in = rq->arg;

	METHOD(flush);
	return session.backend->flush(rq, rq->in->nodeid, in->fh, in->lock_owner);
}

static int run_release(struct request *rq)
{
	const struct fuse_release_in *in = rq->arg;

	METHOD(release);
	return session.backend->release(rq, rq->in->nodeid, in->fh);
}

static int run_fsync(struct request *rq)
{
	const struct fuse_fsync_in *in = rq->arg;

	METHOD(fsync);
	return session.backend->fsync(rq, in->fh, in->fsync_flags & FUSE_FSYNC_FDATASYNC);
}

static int run_fallocate(struct request *rq)
{
	const struct fuse_fallocate_in *in = rq->arg;

	METHOD(fallocate);
	return session.backend->fallocate(rq, in->fh, in->mode, in->offset, in->length);
}

static int finish_lseek(struct request *rq, int result)
{
	(void)rq;
	(void)result;
	return sizeof(struct fuse_lseek_out);
}

static int run_lseek(struct request *rq)
{
	const struct fuse_lseek_in *in = rq->arg;
	struct fuse_lseek_out *out = (struct fuse_lseek_out *)rq->out;

	METHOD(lseek);
	return session.backend->lseek(rq, in->fh, in->offset, in->whence, &out->offset);
}

static int finish_copied_64(struct request *rq, int result)
{
	(void)rq;
	(void)result;
	return sizeof(struct proto_copied_out);
}

static int run_copy_file_range_64(struct request *rq)
{
	struct proto_copied_out *out = (struct proto_copied_out *)rq->out;

	METHOD(copy_range);
	return session.backend->copy_range(rq, rq->arg, &out->bytes);
}

static int run_copy_file_range(struct request *rq)
{
	struct fuse_copy_file_range_in in;
	struct fuse_write_out *out = (struct fuse_write_out *)rq->out;
	uint64_t copied;
	int error;

	METHOD(copy_range);
	memcpy(&in, rq->arg, sizeof(in));
	/* what fits in this reply; the caller goes on from there */
	if (in.len > INT_MAX - 0xfff)
		in.len = INT_MAX - 0xfff;
	error = session.backend->copy_range(rq, &in, &copied);
	if (error)
		return error;
	*out = (struct fuse_write_out){ .size = copied };
	return sizeof(*out);
}

const struct operation op_open = { run_open, sizeof(struct fuse_open_in), finish_open };
const struct operation op_create = {
	run_create, sizeof(struct fuse_create_in), finish_created
};
const struct operation op_tmpfile = {
	run_tmpfile, sizeof(struct fuse_create_in), finish_created
};
const struct operation op_read = { run_read, sizeof(struct fuse_read_in), NULL };
const struct operation op_write = { run_write, sizeof(struct fuse_write_in), finish_written };
const struct operation op_flush = { run_flush, sizeof(struct fuse_flush_in), NULL };
const struct operation op_release = { run_release, sizeof(struct fuse_release_in), NULL };
const struct operation op_fsync = { run_fsync, sizeof(struct fuse_fsync_in), NULL };
const struct operation op_fallocate = { run_fallocate, sizeof(struct fuse_fallocate_in), NULL };
const struct operation op_lseek = { run_lseek, sizeof(struct fuse_lseek_in), finish_lseek };
const struct operation op_copy_file_range = {
	run_copy_file_range, sizeof(struct fuse_copy_file_range_in), NULL
};
const struct operation op_copy_file_range_64 = {
	run_copy_file_range_64, sizeof(struct fuse_copy_file_range_in), finish_copied_64
};
