// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block.h"
#include "say.h"
#include "server.h"
#include "session.h"

#define BLOCK 4096

struct block_options block_options;

static const struct image *image;
static uint64_t length;			/* of the image, now */
static pthread_mutex_t length_lock = PTHREAD_MUTEX_INITIALIZER;
/* Of the file; no other file has a say in them. */
static uint32_t mode, owner, group;
static struct timespec started;

uint64_t block_length(void)
{
	return __atomic_load_n(&length, __ATOMIC_ACQUIRE);
}

/*
 * Writes and truncations are under way at the same time, and end in another order than they
 * reach the image. Each looks when it is done; who looks last has seen the work of all.
 */
static void measure(void)
{
	uint64_t now;

	pthread_mutex_lock(&length_lock);
	if (image->measure(&now) == 0)
		__atomic_store_n(&length, now, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&length_lock);
}

/* Does it reach beyond the largest file there can be? */
static bool is_beyond(uint64_t offset, uint64_t size)
{
	return size > INT64_MAX || offset > INT64_MAX - size;
}

/* What every request of the image ends with. */
static int settle(struct request *rq, int result)
{
	if (block_options.growable &&
	    (rq->in->opcode == FUSE_WRITE || rq->in->opcode == FUSE_FALLOCATE))
		measure();
	return result;
}

void block_complete(struct request *rq, int result)
{
	request_complete(rq, settle(rq, result));
}

static int soon_or(struct request *rq, int result)
{
	return result == REPLY_SOON ? result : settle(rq, result);
}

/* ----------------------------------------------------------------- attributes */

static int block_getattr(struct request *rq, uint64_t node, struct fuse_attr *attr)
{
	uint64_t now = block_length();

	(void)rq;
	if (node != FUSE_ROOT_ID)
		return -ESTALE;
	*attr = (struct fuse_attr){
		.ino = FUSE_ROOT_ID,
		.size = now,
		.blocks = (now + 511) / 512,
		.atime = started.tv_sec, .atimensec = started.tv_nsec,
		.mtime = started.tv_sec, .mtimensec = started.tv_nsec,
		.ctime = started.tv_sec, .ctimensec = started.tv_nsec,
		.mode = S_IFREG | __atomic_load_n(&mode, __ATOMIC_RELAXED),
		.nlink = 1,
		.uid = __atomic_load_n(&owner, __ATOMIC_RELAXED),
		.gid = __atomic_load_n(&group, __ATOMIC_RELAXED),
		.blksize = BLOCK,
	};
	if (image->attr)
		image->attr(attr);
	return 0;
}

static int resize(uint64_t to)
{
	int error;

	if (!block_options.writable)
		return -EACCES;
	if (to == block_length())
		return 0;
	if (!block_options.growable)
		return -EOPNOTSUPP;
	if (is_beyond(to, 0))
		return -EFBIG;
	error = image->resize(to);
	measure();
	return error;
}

static int block_setattr(struct request *rq, uint64_t node, const struct fuse_setattr_in *in,
			 struct fuse_attr *attr)
{
	const uint32_t known = FATTR_SIZE | FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_FH |
			       FATTR_LOCKOWNER | FATTR_KILL_SUIDGID | FATTR_CTIME;
	struct fuse_setattr_in want = *in;
	int error;

	if (want.valid & ~known)
		return -EOPNOTSUPP;
	/* for nobody else it could be theirs */
	if ((want.valid & (FATTR_UID | FATTR_GID)) && !session.allow_other)
		return -EPERM;
	if (want.valid & FATTR_SIZE) {
		error = resize(want.size);
		if (error)
			return error;
	}
	if (want.valid & FATTR_MODE)
		__atomic_store_n(&mode, want.mode & 07777, __ATOMIC_RELAXED);
	if (want.valid & FATTR_UID)
		__atomic_store_n(&owner, want.uid, __ATOMIC_RELAXED);
	if (want.valid & FATTR_GID)
		__atomic_store_n(&group, want.gid, __ATOMIC_RELAXED);
	return block_getattr(rq, node, attr);
}

/* ----------------------------------------------------------------------- data */

static int block_lookup(struct request *rq, uint64_t parent, const char *name,
			struct fuse_entry_out *entry)
{
	(void)rq, (void)parent, (void)name, (void)entry;
	return -ENOENT;
}

static int block_open(struct request *rq, uint64_t node, int flags, bool kill_suid, uint64_t *fh)
{
	(void)rq, (void)node, (void)kill_suid;
	if ((flags & O_ACCMODE) != O_RDONLY && !block_options.writable)
		return -EACCES;
	*fh = 0;
	return 0;
}

static int block_release(struct request *rq, uint64_t node, uint64_t fh)
{
	(void)rq, (void)node, (void)fh;
	return 0;
}

/* As with any file: what was written is safe after fsync, not after close. */
static int block_flush(struct request *rq, uint64_t node, uint64_t fh, uint64_t lock_owner)
{
	(void)rq, (void)node, (void)fh, (void)lock_owner;
	return 0;
}

static int block_read(struct request *rq, uint64_t fh, void *data, size_t size, uint64_t offset)
{
	uint64_t now = block_length();

	(void)fh;
	if (offset >= now || !size)
		return 0;
	if (size > now - offset)
		size = now - offset;
	return soon_or(rq, image->read(rq, data, size, offset));
}

/*
 * What reaches over the end of an image that may not grow is cut there. Where nothing is
 * left it is an error, as with a block device: callers repeat a write of nothing for ever.
 */
static int block_write(struct request *rq, uint64_t fh, const void *data, size_t size,
		       uint64_t offset, int rwf, bool kill_suid)
{
	uint64_t now = block_length();

	(void)fh, (void)kill_suid;
	if (!block_options.writable)
		return -EACCES;
	if (is_beyond(offset, size))
		return -EFBIG;
	if (!size)
		return 0;
	if (offset + size > now && !block_options.growable) {
		if (offset >= now)
			return -ENOSPC;
		size = now - offset;
	}
	/* where an appender's data goes the kernel has said */
	return soon_or(rq, image->write(rq, data, size, offset, rwf & ~RWF_APPEND));
}

static int block_fsync(struct request *rq, uint64_t fh, bool data_only)
{
	(void)fh;
	if (!block_options.writable || !image->sync)
		return 0;
	return soon_or(rq, image->sync(rq, data_only));
}

static int block_fallocate(struct request *rq, uint64_t fh, uint32_t how, uint64_t offset,
			   uint64_t size)
{
	uint64_t now = block_length();
	bool keeps = how & FALLOC_FL_KEEP_SIZE;

	(void)fh;
	switch (how) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (!block_options.writable)
		return -EACCES;
	if (!size)
		return -EINVAL;
	if (is_beyond(offset, size))
		return -EFBIG;
	if (offset + size > now && (!keeps || how == FALLOC_FL_KEEP_SIZE)) {
		if (!block_options.growable)
			return -ENOSPC;
	} else if (offset + size > now) {
		/* behind the end there is nothing to take away */
		if (offset >= now)
			return 0;
		size = now - offset;
	}
	return soon_or(rq, image->allocate(rq, how, offset, size));
}

static int block_lseek(struct request *rq, uint64_t fh, uint64_t offset, int whence,
		       uint64_t *result)
{
	uint64_t now = block_length();

	(void)fh;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (offset >= now)
		return -ENXIO;
	if (image->seek)
		return soon_or(rq, image->seek(rq, offset, whence, result));
	*result = whence == SEEK_DATA ? offset : now;
	return 0;
}

/* ---------------------------------------------------------------- the program */

/* INIT's flags of all servers are enough: no directories, no xattrs, no truncating opens. */
static uint64_t init_flags(const struct options *opt)
{
	(void)opt;
	return 0;
}

static void thread_start(struct loop *l)
{
	if (image->thread_start)
		image->thread_start(l);
}

static void thread_stop(struct loop *l)
{
	if (image->thread_stop)
		image->thread_stop(l);
}

static void abandon(void)
{
	if (image->abandon)
		image->abandon();
}

static const struct backend block_backend = {
	.asynchronous = true,
	.thread_start = thread_start,
	.thread_stop = thread_stop,
	.abandon = abandon,
	.init_flags = init_flags,
	.lookup = block_lookup,
	.getattr = block_getattr,
	.setattr = block_setattr,
	.open = block_open,
	.release = block_release,
	.read = block_read,
	.write = block_write,
	.flush = block_flush,
	.fsync = block_fsync,
	.fallocate = block_fallocate,
	.lseek = block_lseek,
};

enum { IMAGE = OWN_OPTION, BACKEND, WRITABLE, GROWABLE, ALLOW_OTHER, DIRECT, CONNECTIONS };

static const struct option own_options[] = {
	{ "image", 1, NULL, IMAGE },
	{ "backend", 1, NULL, BACKEND },
	{ "writable", 0, NULL, WRITABLE },
	{ "growable", 0, NULL, GROWABLE },
	{ "allow-other", 1, NULL, ALLOW_OTHER },
	{ "direct", 0, NULL, DIRECT },
	{ "connections", 1, NULL, CONNECTIONS },
	{ NULL, 0, NULL, 0 },
};

static const char help[] =
"  --image=FILE|URI        what is exported: a file, a block device; nbd://..., nbd+unix:...\n"
"  --backend=raw|nbd       which of the two (default: by the look of it)\n"
"  --writable              may be written (otherwise EACCES)\n"
"  --growable              and may grow and shrink (raw files)\n"
"  --allow-other=auto|on|off\n"
"                          other users may open it (auto: where that is allowed)\n"
"  --direct                past the page cache below (O_DIRECT)\n"
"  --connections=N         to the NBD server (default: one for each thread)\n";

static void defaults(struct options *o)
{
	o->allow_other = ALLOW_AUTO;
	/* the image has a cache below already */
	o->cache = CACHE_NONE;
	/* many, and so not large ones: each has memory for the largest */
	o->depth = 64;
	o->max_write = 128 << 10;
	o->max_background = 256;
}

static void own_option(struct options *o, int number, char *value)
{
	static const char *const backends[] = { "raw", "nbd", NULL };
	static const char *const allowed[] = { "auto", "on", "off", NULL };

	switch (number) {
	case IMAGE: o->source = value; break;
	case BACKEND:
		image = options_word("backend", value, backends) ? &nbd_image : &raw_image;
		break;
	case WRITABLE: block_options.writable = true; break;
	case GROWABLE: block_options.growable = true; break;
	case ALLOW_OTHER: o->allow_other = options_word("allow-other", value, allowed); break;
	case DIRECT: block_options.direct = true; break;
	case CONNECTIONS:
		block_options.connections = options_number("connections", value, 1);
		break;
	}
}

static void arguments(struct options *o, int count, char **words)
{
	if (!o->source)
		options_wrong("--image is wanted", NULL);
	if (count != 1)
		options_wrong("one MOUNTPOINT is wanted, an existing file", NULL);
	if (!image)
		image = !strncmp(o->source, "nbd", 3) && strstr(o->source, ":") ?
			&nbd_image : &raw_image;
	if (block_options.growable && !block_options.writable)
		options_wrong("--growable needs --writable", NULL);
	if (block_options.growable && !image->resize)
		options_wrong("--growable: an NBD server's image cannot grow", NULL);
	if (block_options.direct && image != &raw_image)
		options_wrong("--direct is for --backend=raw", NULL);
	o->mountpoint = words[0];
}

static int block_start(const struct options *o)
{
	struct stat st;

	if (stat(o->mountpoint, &st) < 0)
		return complain(o->mountpoint);
	if (o->fd < 0 && !S_ISREG(st.st_mode)) {
		say("%s: the mount point has to be a file", o->mountpoint);
		return 1;
	}
	mode = block_options.writable ? 0600 : 0400;
	owner = geteuid();
	group = getegid();
	clock_gettime(CLOCK_REALTIME, &started);
	return image->open(o->source, &length);
}

static int block_stop(void)
{
	return image->close();
}

int main(int argc, char **argv)
{
	static const struct program blockfs = {
		.usage = "--image=IMAGE MOUNTPOINT",
		.help = help,
		.defaults = defaults,
		.options = own_options,
		.option = own_option,
		.arguments = arguments,
		.backend = &block_backend,
		.start = block_start,
		.stop = block_stop,
	};

	return server_main(&blockfs, argc, argv);
}
