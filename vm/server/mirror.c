// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mirror.h"
#include "mirror_node.h"
#include "say.h"
#include "server.h"

static uint64_t init_flags(const struct options *opt)
{
	uint64_t flags = FUSE_ATOMIC_O_TRUNC | FUSE_DONT_MASK | FUSE_PARALLEL_DIROPS |
			 FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_AUTO_INVAL_DATA;

	if (opt->locks)
		flags |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	if (opt->readdirplus)
		flags |= FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO;
	if (opt->cache != CACHE_NONE)
		flags |= FUSE_CACHE_SYMLINKS;
	if (opt->writeback)
		flags |= FUSE_WRITEBACK_CACHE;
	return flags;
}

static const struct backend mirror_backend = {
	.init_flags = init_flags,
	.lookup = mirror_lookup,
	.forget = node_forget,
	.mknod = mirror_mknod,
	.mkdir = mirror_mkdir,
	.symlink = mirror_symlink,
	.link = mirror_link,
	.unlink = mirror_unlink,
	.rmdir = mirror_rmdir,
	.rename = mirror_rename,
	.readlink = mirror_readlink,
	.getattr = mirror_getattr,
	.statx = mirror_statx,
	.setattr = mirror_setattr,
	.statfs = mirror_statfs,
	.syncfs = mirror_syncfs,
	.setxattr = mirror_setxattr,
	.getxattr = mirror_getxattr,
	.listxattr = mirror_listxattr,
	.removexattr = mirror_removexattr,
	.open = mirror_open,
	.create = mirror_create,
	.tmpfile = mirror_tmpfile,
	.read = mirror_read,
	.read_fd = mirror_read_fd,
	.write = mirror_write,
	.flush = mirror_flush,
	.release = mirror_release,
	.fsync = mirror_fsync,
	.fallocate = mirror_fallocate,
	.lseek = mirror_lseek,
	.copy_range = mirror_copy_range,
	.opendir = mirror_opendir,
	.readdir = mirror_readdir,
	.releasedir = mirror_releasedir,
	.fsyncdir = mirror_fsyncdir,
	.getlk = mirror_getlk,
	.setlk = mirror_setlk,
};

/* Each known inode costs a descriptor. */
static unsigned int raise_limits(void)
{
	struct rlimit files, size = { RLIM_INFINITY, RLIM_INFINITY };
	unsigned int most = 1 << 20;
	FILE *f = fopen("/proc/sys/fs/nr_open", "re");

	if (f) {
		if (fscanf(f, "%u", &most) != 1)
			most = 1 << 20;
		fclose(f);
	}
	files = (struct rlimit){ most, most };
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	getrlimit(RLIMIT_NOFILE, &files);

	/* limits of the caller are its kernel's business, not ours */
	setrlimit(RLIMIT_FSIZE, &size);
	return files.rlim_cur;
}

/* Changes the working directory to /proc/self/fd and the umask to 0. */
static int mirror_start(const struct options *opt)
{
	struct stat st;
	int root = open(opt->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int bits = prctl(PR_GET_SECUREBITS);

	if (root < 0 || mirror_stat(root, &st) < 0)
		return complain(opt->source);
	/* capabilities stay when a thread creates files as somebody else */
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
		return complain("securebits");
	if (chdir("/proc/self/fd") < 0)
		return complain("/proc/self/fd");
	/* the kernel leaves the umask to us, and it comes with each request */
	umask(0);
	node_init(root, &st);
	return mirror_dir_start(raise_limits());
}

static int mirror_stop(void)
{
	mirror_dir_stop();
	node_close_all();
	return 0;
}

struct fd_name fd_name(int fd)
{
	struct fd_name name;
	char digits[sizeof(name)];
	int n = 0, i = 0;

	do
		digits[n++] = '0' + fd % 10;
	while (fd /= 10);
	while (n)
		name.text[i++] = digits[--n];
	name.text[i] = 0;
	return name;
}

int mirror_stat(int fd, struct stat *st)
{
#ifdef SYS_fstat
	return syscall(SYS_fstat, fd, st);
#else
	return fstatat(fd, "", st, AT_EMPTY_PATH);
#endif
}

/* ---------------------------------------------------------------- the program */

enum { WRITEBACK = OWN_OPTION, NO_SPLICE, NO_PLUS, NO_LOCKS, NO_XATTR, READ_ONLY };

static const struct option own_options[] = {
	{ "writeback", 0, NULL, WRITEBACK },
	{ "no-splice", 0, NULL, NO_SPLICE },
	{ "no-readdirplus", 0, NULL, NO_PLUS },
	{ "no-locks", 0, NULL, NO_LOCKS },
	{ "no-xattr", 0, NULL, NO_XATTR },
	{ "read-only", 0, NULL, READ_ONLY },
	{ NULL, 0, NULL, 0 },
};

static void defaults(struct options *o)
{
	o->splice = o->readdirplus = o->locks = o->xattr = true;
}

static void own_option(struct options *o, int number, char *value)
{
	(void)value;
	switch (number) {
	case WRITEBACK: o->writeback = true; break;
	case NO_SPLICE: o->splice = false; break;
	case NO_PLUS: o->readdirplus = false; break;
	case NO_LOCKS: o->locks = false; break;
	case NO_XATTR: o->xattr = false; break;
	case READ_ONLY: o->mount_flags |= MS_RDONLY; break;
	}
}

static void arguments(struct options *o, int count, char **words)
{
	if (count != 2)
		options_wrong("SOURCE and MOUNTPOINT are wanted", NULL);
	if (o->writeback && o->cache == CACHE_NONE)
		options_wrong("--writeback needs a cache", NULL);
	o->source = words[0];
	o->mountpoint = words[1];
}

int main(int argc, char **argv)
{
	static const struct program mirrorfs = {
		.usage = "SOURCE MOUNTPOINT",
		.help =
"  --writeback             let the kernel gather writes\n"
"  --no-splice --no-readdirplus --no-locks --no-xattr --read-only\n",
		.defaults = defaults,
		.options = own_options,
		.option = own_option,
		.arguments = arguments,
		.backend = &mirror_backend,
		.start = mirror_start,
		.stop = mirror_stop,
	};

	return server_main(&mirrorfs, argc, argv);
}
