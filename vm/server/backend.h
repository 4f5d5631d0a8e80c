/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is served. The operations (ops_*.c) check a request and know the layout of
 * messages; a backend does the work. A method that is NULL answers ENOSYS.
 *
 * Methods return 0 (or a count) or a negative error number. Those that are given
 * a request may return REPLY_LATER or REPLY_SOON and give that to request_complete()
 * when they have it; what their pointers lead to stays valid until then: data and
 * results are parts of request and reply themselves. They run in any thread, several
 * at a time. "rq" tells who asks (rq->in->uid, gid, pid).
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <stdbool.h>
#include <sys/types.h>

#include "fuse_proto.h"

struct request;

struct loop;
struct options;

struct backend {
	/*
	 * It answers later what would keep a thread waiting, so each thread has a loop
	 * (loop.h), over /dev/fuse too. Such a server can be drained (drain.h).
	 */
	bool asynchronous;
	/* In each thread with a loop, before its first request and after its last; may be NULL. */
	void (*thread_start)(struct loop *l);
	void (*thread_stop)(struct loop *l);
	/* After the end of the session: let go of all requests, and of their memory; may be NULL. */
	void (*abandon)(void);

	/* What to agree on in INIT beside what all servers want, where the kernel offers it. */
	uint64_t (*init_flags)(const struct options *o);

	/* Names. An entry's nodeid, generation and attr are to be filled in. */
	int (*lookup)(struct request *rq, uint64_t parent, const char *name,
		      struct fuse_entry_out *entry);
	void (*forget)(uint64_t node, uint64_t lookups);
	int (*mknod)(struct request *rq, uint64_t parent, const char *name, mode_t mode,
		     uint32_t rdev, struct fuse_entry_out *entry);
	int (*mkdir)(struct request *rq, uint64_t parent, const char *name, mode_t mode,
		     struct fuse_entry_out *entry);
	int (*symlink)(struct request *rq, uint64_t parent, const char *name,
		       const char *target, struct fuse_entry_out *entry);
	int (*link)(struct request *rq, uint64_t node, uint64_t parent, const char *name,
		    struct fuse_entry_out *entry);
	int (*unlink)(struct request *rq, uint64_t parent, const char *name);
	int (*rmdir)(struct request *rq, uint64_t parent, const char *name);
	int (*rename)(struct request *rq, uint64_t parent, const char *name,
		      uint64_t new_parent, const char *new_name, unsigned int flags);
	int (*readlink)(struct request *rq, uint64_t node, char *target, size_t size);

	/* Attributes. */
	int (*getattr)(struct request *rq, uint64_t node, struct fuse_attr *attr);
	int (*statx)(struct request *rq, uint64_t node, unsigned int flags,
		     unsigned int mask, struct statx *stat);
	int (*setattr)(struct request *rq, uint64_t node, const struct fuse_setattr_in *in,
		       struct fuse_attr *attr);
	int (*statfs)(struct request *rq, uint64_t node, struct fuse_kstatfs *st);
	int (*syncfs)(struct request *rq, uint64_t node);

	/* Extended attributes. SIZE 0 asks for the size needed. */
	int (*setxattr)(struct request *rq, uint64_t node, const char *name,
			const void *value, size_t size, int flags);
	int (*getxattr)(struct request *rq, uint64_t node, const char *name, void *value,
			size_t size);
	int (*listxattr)(struct request *rq, uint64_t node, char *list, size_t size);
	int (*removexattr)(struct request *rq, uint64_t node, const char *name);

	/* Files. "kill_suid": the writer may not keep set-user-id and set-group-id bits. */
	int (*open)(struct request *rq, uint64_t node, int flags, bool kill_suid, uint64_t *fh);
	int (*create)(struct request *rq, uint64_t parent, const char *name, int flags,
		      mode_t mode, bool kill_suid, struct fuse_entry_out *entry, uint64_t *fh);
	int (*tmpfile)(struct request *rq, uint64_t parent, int flags, mode_t mode,
		       struct fuse_entry_out *entry, uint64_t *fh);
	int (*read)(struct request *rq, uint64_t fh, void *data, size_t size, uint64_t offset);
	/* Descriptor from which the transport may splice; NULL or -1: use read. */
	int (*read_fd)(uint64_t fh);
	/* RWF: of RWF_APPEND, and RWF_DSYNC or RWF_SYNC: safe before the reply. */
	int (*write)(struct request *rq, uint64_t fh, const void *data, size_t size,
		     uint64_t offset, int rwf, bool kill_suid);
	int (*flush)(struct request *rq, uint64_t node, uint64_t fh, uint64_t lock_owner);
	int (*release)(struct request *rq, uint64_t node, uint64_t fh);
	int (*fsync)(struct request *rq, uint64_t fh, bool data_only);
	int (*fallocate)(struct request *rq, uint64_t fh, uint32_t mode, uint64_t offset,
			 uint64_t length);
	int (*lseek)(struct request *rq, uint64_t fh, uint64_t offset, int whence,
		     uint64_t *result);
	int (*copy_range)(struct request *rq, const struct fuse_copy_file_range_in *in,
			  uint64_t *copied);

	/* Directories. readdir fills OUT with whole records and returns the bytes. */
	int (*opendir)(struct request *rq, uint64_t node, uint64_t *fh);
	int (*readdir)(struct request *rq, uint64_t node, uint64_t fh, uint64_t offset,
		       char *out, size_t size, bool plus);
	int (*releasedir)(struct request *rq, uint64_t fh);
	int (*fsyncdir)(struct request *rq, uint64_t fh, bool data_only);

	/* Locks: POSIX ones by owner, flock ones by file handle. */
	int (*getlk)(struct request *rq, uint64_t node, const struct fuse_lk_in *in,
		     struct fuse_file_lock *lock);
	int (*setlk)(struct request *rq, uint64_t node, const struct fuse_lk_in *in,
		     bool wait);
};

/* Cache times of an entry, for backends that fill in entries of directories. */
void entry_times(struct fuse_entry_out *entry);

#endif
