/* SPDX-License-Identifier: GPL-2.0-only */
/* The backend that mirrors a directory. */
#ifndef MIRROR_H
#define MIRROR_H

#include <stdbool.h>
#include <sys/stat.h>

#include "backend.h"
#include "request.h"

/*
 * A node is reached by path only through its descriptor's name below /proc/self/fd,
 * the working directory of the server.
 */
struct fd_name {
	char text[12];
};
struct fd_name fd_name(int fd);

/* fstat as the system call, which takes O_PATH descriptors. */
int mirror_stat(int fd, struct stat *st);
void mirror_attr(struct fuse_attr *attr, const struct stat *st);
/* Look NAME up in the directory DIR. */
int mirror_enter(int dir, const char *name, struct fuse_entry_out *entry);

/* Act as the caller, so that what is created belongs to it (mirror_cred.c). */
void mirror_cred_caller(const struct request *rq);
/* Keep set-user-id and set-group-id bits on a change of the file? */
void mirror_cred_keep_suid(bool keep);

/* Drop the POSIX locks of an owner (mirror_lock.c). */
void mirror_lock_flush(uint64_t node, uint64_t owner);
void mirror_lock_release(uint64_t node, uint64_t fh);

/* Methods, where they are not in mirror.c */
int mirror_lookup(struct request *rq, uint64_t parent, const char *name,
		  struct fuse_entry_out *entry);
int mirror_mknod(struct request *rq, uint64_t parent, const char *name, mode_t mode,
		 uint32_t rdev, struct fuse_entry_out *entry);
int mirror_mkdir(struct request *rq, uint64_t parent, const char *name, mode_t mode,
		 struct fuse_entry_out *entry);
int mirror_symlink(struct request *rq, uint64_t parent, const char *name, const char *target,
		   struct fuse_entry_out *entry);
int mirror_link(struct request *rq, uint64_t node, uint64_t parent, const char *name,
		struct fuse_entry_out *entry);
int mirror_unlink(struct request *rq, uint64_t parent, const char *name);
int mirror_rmdir(struct request *rq, uint64_t parent, const char *name);
int mirror_rename(struct request *rq, uint64_t parent, const char *name, uint64_t new_parent,
		  const char *new_name, unsigned int flags);
int mirror_readlink(struct request *rq, uint64_t node, char *target, size_t size);

int mirror_getattr(struct request *rq, uint64_t node, struct fuse_attr *attr);
int mirror_statx(struct request *rq, uint64_t node, unsigned int flags, unsigned int mask,
		 struct statx *stat);
int mirror_setattr(struct request *rq, uint64_t node, const struct fuse_setattr_in *in,
		   struct fuse_attr *attr);
int mirror_statfs(struct request *rq, uint64_t node, struct fuse_kstatfs *st);
int mirror_syncfs(struct request *rq, uint64_t node);

int mirror_setxattr(struct request *rq, uint64_t node, const char *name, const void *value,
		    size_t size, int flags);
int mirror_getxattr(struct request *rq, uint64_t node, const char *name, void *value,
		    size_t size);
int mirror_listxattr(struct request *rq, uint64_t node, char *list, size_t size);
int mirror_removexattr(struct request *rq, uint64_t node, const char *name);

int mirror_open(struct request *rq, uint64_t node, int flags, bool kill_suid, uint64_t *fh);
int mirror_create(struct request *rq, uint64_t parent, const char *name, int flags,
		  mode_t mode, bool kill_suid, struct fuse_entry_out *entry, uint64_t *fh);
int mirror_tmpfile(struct request *rq, uint64_t parent, int flags, mode_t mode,
		   struct fuse_entry_out *entry, uint64_t *fh);
int mirror_read(struct request *rq, uint64_t fh, void *data, size_t size, uint64_t offset);
int mirror_read_fd(uint64_t fh);
int mirror_write(struct request *rq, uint64_t fh, const void *data, size_t size,
		 uint64_t offset, int rwf, bool kill_suid);
int mirror_flush(struct request *rq, uint64_t node, uint64_t fh, uint64_t lock_owner);
int mirror_release(struct request *rq, uint64_t node, uint64_t fh);
int mirror_fsync(struct request *rq, uint64_t fh, bool data_only);
int mirror_fallocate(struct request *rq, uint64_t fh, uint32_t mode, uint64_t offset,
		     uint64_t length);
int mirror_lseek(struct request *rq, uint64_t fh, uint64_t offset, int whence,
		 uint64_t *result);
int mirror_copy_range(struct request *rq, const struct fuse_copy_file_range_in *in,
		      uint64_t *copied);

/* LIMIT: descriptors the process may have. */
int mirror_dir_start(unsigned int limit);
void mirror_dir_stop(void);
int mirror_opendir(struct request *rq, uint64_t node, uint64_t *fh);
int mirror_readdir(struct request *rq, uint64_t node, uint64_t fh, uint64_t offset, char *out,
		   size_t size, bool plus);
int mirror_releasedir(struct request *rq, uint64_t fh);
int mirror_fsyncdir(struct request *rq, uint64_t fh, bool data_only);

int mirror_getlk(struct request *rq, uint64_t node, const struct fuse_lk_in *in,
		 struct fuse_file_lock *lock);
int mirror_setlk(struct request *rq, uint64_t node, const struct fuse_lk_in *in, bool wait);

#endif
