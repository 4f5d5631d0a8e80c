// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include "ops.h"

static int finish_opendir(struct request *rq, int result)
{
	struct fuse_open_out *out = (struct fuse_open_out *)rq->out;

	(void)result;
	out->open_flags = session.opendir_flags;
	out->padding = 0;
	return sizeof(*out);
}

static int run_opendir(struct request *rq)
{
	struct fuse_open_out *out = (struct fuse_open_out *)rq->out;

	METHOD(opendir);
	return session.backend->opendir(rq, rq->in->nodeid, &out->fh);
}

static int readdir_as(struct request *rq, bool plus)
{
	const struct fuse_read_in *in = rq->arg;
	uint32_t size = in->size < rq->out_max ? in->size : rq->out_max;

	METHOD(readdir);
	return session.backend->readdir(rq, rq->in->nodeid, in->fh, in->offset, rq->out, size,
					plus);
}

static int run_readdir(struct request *rq)
{
	return readdir_as(rq, false);
}

static int run_readdirplus(struct request *rq)
{
	return readdir_as(rq, true);
}

static int run_releasedir(struct request *rq)
{
	const struct fuse_release_in *in = rq->arg;

	METHOD(releasedir);
	return session.backend->releasedir(rq, in->fh);
}

static int run_fsyncdir(struct request *rq)
{
	const struct fuse_fsync_in *in = rq->arg;

	METHOD(fsyncdir);
	return session.backend->fsyncdir(rq, in->fh, in->fsync_flags & FUSE_FSYNC_FDATASYNC);
}

const struct operation op_opendir = { run_opendir, sizeof(struct fuse_open_in), finish_opendir };
const struct operation op_readdir = { run_readdir, sizeof(struct fuse_read_in), NULL };
const struct operation op_readdirplus = { run_readdirplus, sizeof(struct fuse_read_in), NULL };
const struct operation op_releasedir = { run_releasedir, sizeof(struct fuse_release_in), NULL };
const struct operation op_fsyncdir = { run_fsyncdir, sizeof(struct fuse_fsync_in), NULL };
