// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "ops.h"

void entry_times(struct fuse_entry_out *entry)
{
	entry->entry_valid = session.entry_valid;
	entry->attr_valid = session.attr_valid;
	entry->entry_valid_nsec = 0;
	entry->attr_valid_nsec = 0;
}

static int finish_entry(struct request *rq, int result)
{
	(void)result;
	entry_times((struct fuse_entry_out *)rq->out);
	return sizeof(struct fuse_entry_out);
}

static int run_lookup(struct request *rq)
{
	struct fuse_entry_out *entry = (struct fuse_entry_out *)rq->out;
	const char *name;
	int error;

	METHOD(lookup);
	error = request_name(rq, &name);
	if (error)
		return error;
	error = session.backend->lookup(rq, rq->in->nodeid, name, entry);
	if (error == -ENOENT && session.cache_negative) {
		memset(entry, 0, sizeof(*entry));
		error = 0;
	}
	return error;
}

static int run_forget(struct request *rq)
{
	const struct fuse_forget_in *in = rq->arg;

	if (session.backend->forget)
		session.backend->forget(rq->in->nodeid, in->nlookup);
	return REPLY_NONE;
}

static int run_batch_forget(struct request *rq)
{
	const struct fuse_batch_forget_in *in = rq->arg;
	const struct fuse_forget_one *one = (const void *)rq->payload;
	uint32_t count = in->count;

	if (count > rq->payload_size / sizeof(*one))
		count = rq->payload_size / sizeof(*one);
	if (session.backend->forget)
		for (; count; count--, one++)
			session.backend->forget(one->nodeid, one->nlookup);
	return REPLY_NONE;
}

static int run_mknod(struct request *rq)
{
	const struct fuse_mknod_in *in = rq->arg;
	const char *name;
	int error;

	METHOD(mknod);
	error = request_name(rq, &name);
	if (error)
		return error;
	return session.backend->mknod(rq, rq->in->nodeid, name,
				      in->mode & ~in->umask, in->rdev,
				      (struct fuse_entry_out *)rq->out);
}

static int run_mkdir(struct request *rq)
{
	const struct fuse_mkdir_in *in = rq->arg;
	const char *name;
	int error;

	METHOD(mkdir);
	error = request_name(rq, &name);
	if (error)
		return error;
	return session.backend->mkdir(rq, rq->in->nodeid, name,
				      in->mode & ~in->umask,
				      (struct fuse_entry_out *)rq->out);
}

static int run_symlink(struct request *rq)
{
	const char *name, *target;
	int error;

	METHOD(symlink);
	error = request_two_names(rq, &name, &target);
	if (error)
		return error;
	return session.backend->symlink(rq, rq->in->nodeid, name, target,
					(struct fuse_entry_out *)rq->out);
}

static int run_link(struct request *rq)
{
	const struct fuse_link_in *in = rq->arg;
	const char *name;
	int error;

	METHOD(link);
	error = request_name(rq, &name);
	if (error)
		return error;
	return session.backend->link(rq, in->oldnodeid, rq->in->nodeid, name,
					(struct fuse_entry_out *)rq->out);
}

static int run_unlink(struct request *rq)
{
	const char *name;
	int error;

	METHOD(unlink);
	error = request_name(rq, &name);
	if (error)
		return error;
	return session.backend->unlink(rq, rq->in->nodeid, name);
}

static int run_rmdir(struct request *rq)
{
	const char *name;
	int error;

	METHOD(rmdir);
	error = request_name(rq, &name);
	if (error)
		return error;
	return session.backend->rmdir(rq, rq->in->nodeid, name);
}

static int rename_to(struct request *rq, uint64_t new_parent, unsigned int flags)
{
	const char *name, *new_name;
	int error;

	METHOD(rename);
	error = request_two_names(rq, &name, &new_name);
	if (error)
		return error;
	return session.backend->rename(rq, rq->in->nodeid, name, new_parent, new_name, flags);
}

static int run_rename(struct request *rq)
{
	const struct fuse_rename_in *in = rq->arg;

	return rename_to(rq, in->newdir, 0);
}

static int run_rename2(struct request *rq)
{
	const struct fuse_rename2_in *in = rq->arg;

	return rename_to(rq, in->newdir, in->flags);
}

static int run_readlink(struct request *rq)
{
	METHOD(readlink);
	return session.backend->readlink(rq, rq->in->nodeid, rq->out,
					 rq->out_max < PATH_MAX ? rq->out_max : PATH_MAX);
}

const struct operation op_lookup = { run_lookup, 0, finish_entry };
const struct operation op_forget = { run_forget, sizeof(struct fuse_forget_in), NULL };
const struct operation op_batch_forget = {
	run_batch_forget, sizeof(struct fuse_batch_forget_in), NULL
};
const struct operation op_mknod = { run_mknod, sizeof(struct fuse_mknod_in), finish_entry };
const struct operation op_mkdir = { run_mkdir, sizeof(struct fuse_mkdir_in), finish_entry };
const struct operation op_symlink = { run_symlink, 0, finish_entry };
const struct operation op_link = { run_link, sizeof(struct fuse_link_in), finish_entry };
const struct operation op_unlink = { run_unlink, 0, NULL };
const struct operation op_rmdir = { run_rmdir, 0, NULL };
const struct operation op_rename = { run_rename, sizeof(struct fuse_rename_in), NULL };
const struct operation op_rename2 = { run_rename2, sizeof(struct fuse_rename2_in), NULL };
const struct operation op_readlink = { run_readlink, 0, NULL };
