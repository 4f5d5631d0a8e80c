// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mirror.h"
#include "node.h"

const struct backend mirror_backend = {
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

static int complain(const char *what)
{
	fprintf(stderr, "mirrorfs: %s: %s\n", what, strerror(errno));
	return 1;
}

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
	signal(SIGXFSZ, SIG_IGN);
	return files.rlim_cur;
}

int mirror_start(const char *source)
{
	struct stat st;
	int root = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int bits = prctl(PR_GET_SECUREBITS);

	if (root < 0 || mirror_stat(root, &st) < 0)
		return complain(source);
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

void mirror_stop(void)
{
	mirror_dir_stop();
	node_close_all();
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
