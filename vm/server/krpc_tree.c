// SPDX-License-Identifier: GPL-2.0-only
/* The folder of files, which is all there is beside their contents. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "krpc.h"
#include "session.h"

/* Nodes: the folder, then the files. */
#define ROOT FUSE_ROOT_ID
#define FIRST_FILE (ROOT + 1)

static uint64_t init_flags(const struct options *opt)
{
	(void)opt;
	return FUSE_PARALLEL_DIROPS | FUSE_NO_OPENDIR_SUPPORT;
}

static struct file *file_of(uint64_t node)
{
	return node >= FIRST_FILE && node - FIRST_FILE < file_count ?
	       &files[node - FIRST_FILE] : NULL;
}

static void set_times(struct fuse_attr *a, uint64_t time)
{
	a->atime = a->mtime = a->ctime = time / 1000000000;
	a->atimensec = a->mtimensec = a->ctimensec = time % 1000000000;
}

static int fill_attr(uint64_t node, struct fuse_attr *a)
{
	const struct file *f = file_of(node);

	if (!f && node != ROOT)
		return -ENOENT;
	*a = (struct fuse_attr){
		.ino = node, .nlink = 1, .uid = geteuid(), .gid = getegid(), .blksize = 4096,
	};
	if (!f) {
		a->mode = S_IFDIR | 0755;
		a->nlink = 2;
		return 0;
	}
	/* nodes know bytes only; a program among them may be run */
	a->mode = S_IFREG | (f->read_only ? 0555 : 0755);
	a->size = f->size;
	a->blocks = (f->size + 511) / 512;
	set_times(a, __atomic_load_n(&f->changed, __ATOMIC_RELAXED));
	return 0;
}

static int krpc_getattr(struct request *rq, uint64_t node, struct fuse_attr *attr)
{
	(void)rq;
	return fill_attr(node, attr);
}

/* Sizes are the nodes' matter, and there is nothing to keep the rest in. */
static int krpc_setattr(struct request *rq, uint64_t node, const struct fuse_setattr_in *in,
			struct fuse_attr *attr)
{
	const struct file *f = file_of(node);

	(void)rq;
	if (in->valid & (FATTR_MODE | FATTR_UID | FATTR_GID))
		return -EPERM;
	if ((in->valid & FATTR_SIZE) && (!f || in->size != f->size))
		return -EPERM;
	return fill_attr(node, attr);
}

static int krpc_lookup(struct request *rq, uint64_t parent, const char *name,
		       struct fuse_entry_out *entry)
{
	(void)rq;
	for (unsigned int i = 0; parent == ROOT && i < file_count; i++) {
		if (strcmp(files[i].name, name))
			continue;
		memset(entry, 0, sizeof(*entry));
		entry->nodeid = FIRST_FILE + i;
		return fill_attr(entry->nodeid, &entry->attr);
	}
	return -ENOENT;
}

static int krpc_statfs(struct request *rq, uint64_t node, struct fuse_kstatfs *st)
{
	(void)rq;
	(void)node;
	*st = (struct fuse_kstatfs){
		.bsize = 4096, .frsize = 4096, .namelen = NAME_MAX, .files = file_count,
	};
	for (unsigned int i = 0; i < file_count; i++)
		st->blocks += (files[i].size + 4095) / 4096;
	return 0;
}

static int krpc_open(struct request *rq, uint64_t node, int flags, bool kill_suid, uint64_t *fh)
{
	const struct file *f = file_of(node);

	(void)rq;
	(void)kill_suid;
	if (!f)
		return -EISDIR;
	if (f->read_only && (flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	*fh = f - files;
	return 0;
}

/* A moment at which somebody may look at the counters. */
static int krpc_release(struct request *rq, uint64_t node, uint64_t fh)
{
	(void)rq;
	(void)node;
	(void)fh;
	count_update();
	return 0;
}

static int krpc_readdir(struct request *rq, uint64_t node, uint64_t fh, uint64_t offset,
			char *out, size_t size, bool plus)
{
	size_t used = 0;

	(void)rq;
	(void)node;
	(void)fh;
	(void)plus;
	/* ".", "..", the files */
	for (; offset < 2 + file_count; offset++) {
		struct fuse_dirent *d = (struct fuse_dirent *)(out + used);
		const char *name = offset == 0 ? "." : offset == 1 ? ".." :
				   files[offset - 2].name;
		size_t length = strlen(name);
		size_t record = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);

		if (record > size - used)
			break;
		memset(d, 0, record);
		d->ino = offset < 2 ? ROOT : FIRST_FILE + offset - 2;
		d->off = offset + 1;
		d->namelen = length;
		d->type = (offset < 2 ? S_IFDIR : S_IFREG) >> 12;
		memcpy(d->name, name, length);
		used += record;
	}
	return used;
}

const struct backend krpc_backend = {
	.asynchronous = true,
	.thread_start = krpc_thread_start,
	.thread_stop = krpc_thread_stop,
	.abandon = krpc_abandon,
	.init_flags = init_flags,
	.lookup = krpc_lookup,
	.getattr = krpc_getattr,
	.setattr = krpc_setattr,
	.statfs = krpc_statfs,
	.open = krpc_open,
	.read = krpc_read,
	.write = krpc_write,
	.release = krpc_release,
	.fsync = krpc_fsync,
	.readdir = krpc_readdir,
};
