/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OPS_H
#define OPS_H

#include <errno.h>

#include "request.h"
#include "session.h"

struct operation {
	int (*run)(struct request *rq);
	uint32_t arg_size;	/* least size of the opcode's own header */
	/*
	 * From what the backend's method returns (not an error), at once or later, to the
	 * bytes of the reply. Without it that is the same.
	 */
	int (*finish)(struct request *rq, int result);
};

/* Leave a handler when the backend has no such method. */
#define METHOD(name) \
	do { \
		if (!session.backend->name) \
			return -ENOSYS; \
	} while (0)

/* In ops_name.c, ops_attr.c, ops_xattr.c, ops_file.c, ops_dir.c, ops_lock.c */
extern const struct operation op_lookup, op_forget, op_batch_forget, op_mknod, op_mkdir,
	op_symlink, op_link, op_unlink, op_rmdir, op_rename, op_rename2, op_readlink;
extern const struct operation op_getattr, op_setattr, op_statx, op_statfs, op_syncfs;
extern const struct operation op_setxattr, op_getxattr, op_listxattr, op_removexattr;
extern const struct operation op_open, op_create, op_tmpfile, op_read, op_write, op_flush,
	op_release, op_fsync, op_fallocate, op_lseek, op_copy_file_range,
	op_copy_file_range_64;
extern const struct operation op_opendir, op_readdir, op_readdirplus, op_releasedir,
	op_fsyncdir;
extern const struct operation op_getlk, op_setlk, op_setlkw, op_interrupt;

#endif
