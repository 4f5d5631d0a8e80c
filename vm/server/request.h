/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One request, however it came. A request is part of the transport's preallocated
 * state (a worker's buffers, an entry of the ring); handling it allocates nothing.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "stats.h"

/*
 * What a handler returns: bytes of reply placed in "out" (0 for an empty reply),
 * a negative error number, or one of these.
 */
#define REPLY_NONE (-10000)	/* nothing more to send */
/*
 * request_complete() will be called, by any thread and not before this is returned:
 * perhaps never without another request (a lock), or as soon as the work is done that
 * the backend has under way.
 */
#define REPLY_LATER (-10001)
#define REPLY_SOON (-10002)

struct request {
	const struct fuse_in_header *in;
	const void *arg;	/* the opcode's own header */
	char *payload;		/* names, data */
	char *out;		/* may be the same memory as payload: consume that first */
	uint32_t arg_size;
	uint32_t payload_size;
	uint32_t out_max;
	/* The error of a reply with something in "out" that is not what the opcode has. */
	int32_t out_error;
	/* The whole pages that payload and out are in, the same ones for many requests. */
	struct iovec payload_memory;
	struct iovec out_memory;
	enum path path;
	struct stats_slot *stats;
	const struct operation *op;
	/* The io_uring of the thread that serves it; NULL when that has none. */
	struct loop *loop;
	/* Send the reply of a request for which REPLY_LATER or REPLY_SOON was returned. */
	void (*reply)(struct request *rq, int result);
	/* Reply with SIZE bytes of a file; NULL when the transport has no better way than read. */
	int (*send_file)(struct request *rq, int fd, uint64_t offset, uint32_t size);

	/* the backend's own, while it answers later */
	uint64_t scratch[16];

	/* while a reply is held back */
	int result;
	uint64_t due;
	struct request *next;
};

/*
 * The error of a reply. The kernel takes no other numbers, and leaves the caller waiting: but
 * results of io_uring, or a server's, may be any.
 */
static inline int32_t request_error(int result)
{
	return result > -512 ? result : -EIO;
}

/* Handle a request; the result as described above. */
int request_run(struct request *rq);
/* The same for one that can not be what it says. */
int request_refuse(struct request *rq, int error);

/* Size of the opcode's own header, at the front of what follows the common one. */
uint32_t request_arg_size(uint32_t opcode);

/* What a method of the backend that said REPLY_LATER or REPLY_SOON would have returned. */
void request_complete(struct request *rq, int result);

/*
 * Names in the payload. Each is checked: NUL-terminated within the payload, no slash,
 * not empty, not too long. 0 or a negative error number.
 */
int request_name(const struct request *rq, const char **name);
int request_two_names(const struct request *rq, const char **first, const char **second);

#endif
