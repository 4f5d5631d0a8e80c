// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <string.h>

#include "ops.h"

/* The name of an xattr may hold a slash. */
static int attr_name(const struct request *rq, const char **name, size_t *length)
{
	*name = rq->payload;
	*length = strnlen(*name, rq->payload_size);
	if (*length == rq->payload_size || *length == 0)
		return -EINVAL;
	return *length > 255 ? -ERANGE : 0;
}

static int run_setxattr(struct request *rq)
{
	const struct fuse_setxattr_in *in = rq->arg;
	const char *name;
	size_t length;
	int error;

	if (!session.opt->xattr)
		return -ENOSYS;
	METHOD(setxattr);
	if (rq->arg_size < session.setxattr_in_size)
		return -EINVAL;
	error = attr_name(rq, &name, &length);
	if (error)
		return error;
	if (in->size != rq->payload_size - length - 1)
		return -EINVAL;
	return session.backend->setxattr(rq, rq->in->nodeid, name, name + length + 1,
					 in->size, in->flags);
}

static int run_getxattr(struct request *rq)
{
	const struct fuse_getxattr_in *in = rq->arg;
	struct fuse_getxattr_out *out = (struct fuse_getxattr_out *)rq->out;
	uint32_t size = in->size < rq->out_max ? in->size : rq->out_max;
	char copy[256];
	const char *name;
	size_t length;
	int n;

	if (!session.opt->xattr)
		return -ENOSYS;
	METHOD(getxattr);
	n = attr_name(rq, &name, &length);
	if (n)
		return n;
	/* the value may be written over the name */
	memcpy(copy, name, length + 1);
	n = session.backend->getxattr(rq, rq->in->nodeid, copy, rq->out, size);
	if (n < 0 || in->size)
		return n;
	*out = (struct fuse_getxattr_out){ .size = n };
	return sizeof(*out);
}

static int run_listxattr(struct request *rq)
{
	const struct fuse_getxattr_in *in = rq->arg;
	struct fuse_getxattr_out *out = (struct fuse_getxattr_out *)rq->out;
	uint32_t size = in->size < rq->out_max ? in->size : rq->out_max;
	int n;

	if (!session.opt->xattr)
		return -ENOSYS;
	METHOD(listxattr);
	n = session.backend->listxattr(rq, rq->in->nodeid, rq->out, size);
	if (n < 0 || in->size)
		return n;
	*out = (struct fuse_getxattr_out){ .size = n };
	return sizeof(*out);
}

static int run_removexattr(struct request *rq)
{
	const char *name;
	size_t length;
	int error;

	if (!session.opt->xattr)
		return -ENOSYS;
	METHOD(removexattr);
	error = attr_name(rq, &name, &length);
	if (error)
		return error;
	return session.backend->removexattr(rq, rq->in->nodeid, name);
}

const struct operation op_setxattr = { run_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, NULL };
const struct operation op_getxattr = { run_getxattr, sizeof(struct fuse_getxattr_in), NULL };
const struct operation op_listxattr = { run_listxattr, sizeof(struct fuse_getxattr_in), NULL };
const struct operation op_removexattr = { run_removexattr, 0, NULL };
