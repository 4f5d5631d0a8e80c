// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <string.h>

#include "ops.h"

static int finish_attr(struct request *rq, int result)
{
	struct fuse_attr_out *out = (struct fuse_attr_out *)rq->out;

	(void)result;
	out->attr_valid = session.attr_valid;
	out->attr_valid_nsec = 0;
	out->dummy = 0;
	return sizeof(*out);
}

static int run_getattr(struct request *rq)
{
	struct fuse_attr_out *out = (struct fuse_attr_out *)rq->out;

	METHOD(getattr);
	return session.backend->getattr(rq, rq->in->nodeid, &out->attr);
}

static int run_setattr(struct request *rq)
{
	struct fuse_attr_out *out = (struct fuse_attr_out *)rq->out;

	METHOD(setattr);
	return session.backend->setattr(rq, rq->in->nodeid, rq->arg, &out->attr);
}

static int finish_statx(struct request *rq, int result)
{
	struct proto_statx_out *out = (struct proto_statx_out *)rq->out;

	(void)result;
	out->attr_valid = session.attr_valid;
	return sizeof(*out);
}

static int run_statx(struct request *rq)
{
	const struct proto_statx_in *in = rq->arg;
	struct proto_statx_out *out = (struct proto_statx_out *)rq->out;

	METHOD(statx);
	memset(out, 0, sizeof(*out));
	return session.backend->statx(rq, rq->in->nodeid, in->sx_flags, in->sx_mask, &out->stat);
}

static int finish_statfs(struct request *rq, int result)
{
	(void)rq;
	(void)result;
	return sizeof(struct fuse_statfs_out);
}

static int run_statfs(struct request *rq)
{
	struct fuse_statfs_out *out = (struct fuse_statfs_out *)rq->out;

	METHOD(statfs);
	memset(out, 0, sizeof(*out));
	return session.backend->statfs(rq, rq->in->nodeid, &out->st);
}

static int run_syncfs(struct request *rq)
{
	METHOD(syncfs);
	return session.backend->syncfs(rq, rq->in->nodeid);
}

const struct operation op_getattr = { run_getattr, sizeof(struct fuse_getattr_in), finish_attr };
const struct operation op_setattr = { run_setattr, sizeof(struct fuse_setattr_in), finish_attr };
const struct operation op_statx = { run_statx, sizeof(struct proto_statx_in), finish_statx };
const struct operation op_statfs = { run_statfs, 0, finish_statfs };
const struct operation op_syncfs = { run_syncfs, sizeof(struct fuse_syncfs_in), NULL };
