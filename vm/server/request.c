// SPDX-License-Identifier: GPL-2.0-only
/* From opcode to operation, with what holds for all of them: sizes, names, test aids. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "later.h"
#include "opcodes.h"
#include "ops.h"

/* After the connection's end nobody waits for an answer. */
static int run_destroy(struct request *rq)
{
	(void)rq;
	return 0;
}

static int run_nothing(struct request *rq)
{
	(void)rq;
	return REPLY_NONE;
}

static const struct operation op_destroy = { run_destroy, 0, NULL };
static const struct operation op_notify_reply = { run_nothing, 0, NULL };

static const struct operation *const operations[PROTO_OPCODES] = {
	[FUSE_LOOKUP] = &op_lookup,
	[FUSE_FORGET] = &op_forget,
	[FUSE_GETATTR] = &op_getattr,
	[FUSE_SETATTR] = &op_setattr,
	[FUSE_READLINK] = &op_readlink,
	[FUSE_SYMLINK] = &op_symlink,
	[FUSE_MKNOD] = &op_mknod,
	[FUSE_MKDIR] = &op_mkdir,
	[FUSE_UNLINK] = &op_unlink,
	[FUSE_RMDIR] = &op_rmdir,
	[FUSE_RENAME] = &op_rename,
	[FUSE_LINK] = &op_link,
	[FUSE_OPEN] = &op_open,
	[FUSE_READ] = &op_read,
	[FUSE_WRITE] = &op_write,
	[FUSE_STATFS] = &op_statfs,
	[FUSE_RELEASE] = &op_release,
	[FUSE_FSYNC] = &op_fsync,
	[FUSE_SETXATTR] = &op_setxattr,
	[FUSE_GETXATTR] = &op_getxattr,
	[FUSE_LISTXATTR] = &op_listxattr,
	[FUSE_REMOVEXATTR] = &op_removexattr,
	[FUSE_FLUSH] = &op_flush,
	[FUSE_OPENDIR] = &op_opendir,
	[FUSE_READDIR] = &op_readdir,
	[FUSE_RELEASEDIR] = &op_releasedir,
	[FUSE_FSYNCDIR] = &op_fsyncdir,
	[FUSE_GETLK] = &op_getlk,
	[FUSE_SETLK] = &op_setlk,
	[FUSE_SETLKW] = &op_setlkw,
	/* ACCESS, BMAP, IOCTL, POLL: the kernel does without after one ENOSYS */
	[FUSE_CREATE] = &op_create,
	[FUSE_INTERRUPT] = &op_interrupt,
	[FUSE_DESTROY] = &op_destroy,
	[FUSE_NOTIFY_REPLY] = &op_notify_reply,
	[FUSE_BATCH_FORGET] = &op_batch_forget,
	[FUSE_FALLOCATE] = &op_fallocate,
	[FUSE_READDIRPLUS] = &op_readdirplus,
	[FUSE_RENAME2] = &op_rename2,
	[FUSE_LSEEK] = &op_lseek,
	[FUSE_COPY_FILE_RANGE] = &op_copy_file_range,
	[FUSE_SYNCFS] = &op_syncfs,
	[FUSE_TMPFILE] = &op_tmpfile,
	[PROTO_STATX] = &op_statx,
	[PROTO_COPY_FILE_RANGE_64] = &op_copy_file_range_64,
};

uint32_t request_arg_size(uint32_t opcode)
{
	const struct operation *op = opcode < PROTO_OPCODES ? operations[opcode] : NULL;

	/* the only one that depends on what was agreed on */
	if (opcode == FUSE_SETXATTR)
		return session.setxattr_in_size;
	return op ? op->arg_size : 0;
}

static bool wants_reply(unsigned int opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET &&
	       opcode != FUSE_INTERRUPT && opcode != FUSE_NOTIFY_REPLY;
}

static int finish(struct request *rq, int result)
{
	return result >= 0 && rq->op->finish ? rq->op->finish(rq, result) : result;
}

static int run_operation(struct request *rq)
{
	const struct operation *op = NULL;

	if (rq->in->opcode < PROTO_OPCODES)
		op = operations[rq->in->opcode];
	if (!op)
		return -ENOSYS;
	if (rq->arg_size < op->arg_size)
		return wants_reply(rq->in->opcode) ? -EINVAL : REPLY_NONE;
	rq->op = op;
	return finish(rq, op->run(rq));
}

static void debug(const struct request *rq, const char *what, int result)
{
	const char *name = opcode_name(rq->in->opcode);
	char number[16];

	if (!name) {
		snprintf(number, sizeof(number), "opcode %u", rq->in->opcode);
		name = number;
	}
	fprintf(stderr, "%s %s #%llu node %llu uid %u pid %u len %u: %s%d\n",
		rq->path == PATH_DEV ? "dev" : "ring", name,
		(unsigned long long)rq->in->unique, (unsigned long long)rq->in->nodeid,
		rq->in->uid, rq->in->pid, rq->in->len, what, result);
}

static bool fault_is_due(unsigned int opcode)
{
	static unsigned int count[PROTO_OPCODES];

	if (!session.opt->fault_error[opcode])
		return false;
	return __atomic_add_fetch(&count[opcode], 1, __ATOMIC_RELAXED) %
	       session.opt->fault_every[opcode] == 0;
}

/* The way of --debug, --fault and --delay. */
static int run_with_aids(struct request *rq)
{
	const struct options *opt = session.opt;
	unsigned int opcode = rq->in->opcode;
	bool known = opcode < PROTO_OPCODES && wants_reply(opcode);
	int result;

	/* before it runs: the reply may overwrite the header, or another thread reply */
	if (opt->debug)
		debug(rq, "payload ", rq->payload_size);
	if (known && fault_is_due(opcode))
		result = -opt->fault_error[opcode];
	else
		result = run_operation(rq);
	if (result == REPLY_LATER || result == REPLY_SOON || result == REPLY_NONE)
		return result;
	if (known && opt->delay_msec[opcode]) {
		later_reply(rq, result, opt->delay_msec[opcode]);
		return REPLY_LATER;
	}
	if (opt->debug)
		debug(rq, "result ", result);
	return result;
}

void request_complete(struct request *rq, int result)
{
	unsigned int opcode = rq->in->opcode;

	result = finish(rq, result);
	if (__builtin_expect(session.opt->test_aids, false)) {
		if (session.opt->delay_msec[opcode]) {
			later_reply(rq, result, session.opt->delay_msec[opcode]);
			return;
		}
		if (session.opt->debug)
			debug(rq, "later result ", result);
	}
	rq->reply(rq, result);
}

static void count(const struct request *rq)
{
	unsigned int opcode = rq->in->opcode < PROTO_OPCODES ? rq->in->opcode : 0;

	stats_add(&rq->stats->requests[rq->path], 1);
	stats_add(&rq->stats->bytes_in[rq->path], rq->in->len);
	stats_add(&rq->stats->op[rq->path][opcode], 1);
}

int request_refuse(struct request *rq, int error)
{
	count(rq);
	rq->out_error = 0;
	return wants_reply(rq->in->opcode) ? error : REPLY_NONE;
}

int request_run(struct request *rq)
{
	count(rq);
	rq->out_error = 0;
	if (__builtin_expect(session.opt->test_aids, false))
		return run_with_aids(rq);
	return run_operation(rq);
}

/*
 * Length of the name in TEXT, or a negative error number. The kernel resolves "." and
 * ".." itself; from the root the latter would lead out of what is served.
 */
static int name_length(const char *text, size_t size, size_t most)
{
	for (size_t i = 0; i < size; i++) {
		if (!text[i] && most == NAME_MAX && text[0] == '.' &&
		    (i == 1 || (i == 2 && text[1] == '.')))
			return -EINVAL;
		if (!text[i])
			return i == 0 ? -EINVAL : i > most ? -ENAMETOOLONG : (int)i;
		if (text[i] == '/' && most == NAME_MAX)
			return -EINVAL;
	}
	return -EINVAL;
}

int request_name(const struct request *rq, const char **name)
{
	int n = name_length(rq->payload, rq->payload_size, NAME_MAX);

	*name = rq->payload;
	return n < 0 ? n : 0;
}

int request_two_names(const struct request *rq, const char **first, const char **second)
{
	/* the second of SYMLINK is a path, that of RENAME a name */
	size_t most = rq->in->opcode == FUSE_SYMLINK ? PATH_MAX - 1 : NAME_MAX;
	int n = name_length(rq->payload, rq->payload_size, NAME_MAX);

	if (n < 0)
		return n;
	*first = rq->payload;
	*second = rq->payload + n + 1;
	n = name_length(*second, rq->payload_size - n - 1, most);
	return n < 0 ? n : 0;
}
