// SPDX-License-Identifier: GPL-2.0-only
/* ringfuzz: processes that do all kinds of things to the mounted filesystem. */
#include "ringfuzz.h"

#include <dirent.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

enum { BUF = 256 << 10 };

static struct rng rng;
static const struct plan *plan;
static uint8_t *buf;
static sigjmp_buf out_of_map;

static void on_signal(int sig)
{
	(void)sig;	/* only to interrupt */
}

/* A mapped page that the server did not deliver */
static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(out_of_map, 1);
}

/* Files f, directories d, links l, and what does not exist */
static const char *name(void)
{
	static const char kinds[] = "ffffffddlx";
	static char text[4][PATH_MAX + 64];
	static unsigned int next;
	char *s = text[next++ % 4];
	int n = snprintf(s, sizeof(text[0]), "%s/%c%u", mount_point(),
			 kinds[rng_below(&rng, 10)], rng_below(&rng, 8));

	if (rng_chance(&rng, 100))
		snprintf(s + n, sizeof(text[0]) - n, "/f%u", rng_below(&rng, 8));
	return s;
}

static const char *file(void)
{
	static char text[PATH_MAX + 16];

	snprintf(text, sizeof(text), "%s/f%u", mount_point(), rng_below(&rng, 8));
	return text;
}

static uint32_t some_length(void)
{
	static const uint32_t sizes[] = { 1, 100, 4095, 4096, 4097, 65536, 131072, BUF };

	return rng_chance(&rng, 500) ? sizes[rng_below(&rng, 8)] : 1 + rng_below(&rng, BUF - 1);
}

static uint32_t some_offset(void)
{
	return rng_chance(&rng, 500) ? rng_below(&rng, FILE_SIZE / 4096) * 4096 :
				       rng_below(&rng, FILE_SIZE);
}

/* In sane rounds a file holds, at each place, what fill_pattern() has for it. */
static void check_data(const char *how, const uint8_t *p, ssize_t n, uint64_t offset)
{
	static uint8_t *want;
	ssize_t first, last;

	if (!plan->sane || n <= 0)
		return;
	if (!want)
		want = malloc(BUF);
	fill_pattern(want, n, offset);
	if (!memcmp(p, want, n))
		return;
	if (atomic_fetch_add(&sh->wrong, 1))
		return;
	for (first = 0; p[first] == want[first]; first++)
		;
	for (last = n - 1; p[last] == want[last]; last--)
		;
	snprintf(sh->wrong_text, sizeof(sh->wrong_text),
		 "%s of %zd at %#llx: wrong from %#zx to %#zx, which begin with %02x, not %02x",
		 how, n, (unsigned long long)offset, first, last, p[first], want[first]);
}

static void io(int flags)
{
	int fd = open(file(), O_RDWR | O_CLOEXEC | flags);
	uint32_t at, n;
	int i;

	if (fd < 0)
		return;
	for (i = rng_below(&rng, 4); i >= 0; i--) {
		at = some_offset(), n = some_length();
		if (flags & O_DIRECT)
			at &= ~4095, n = (n + 4095) & ~4095;
		if (at + n > FILE_SIZE)
			n = FILE_SIZE - at;
		if (rng_chance(&rng, 600)) {
			check_data(flags ? "direct read" : "read", buf, pread(fd, buf, n, at), at);
		} else {
			fill_pattern(buf, n, at);
			if (pwrite(fd, buf, n, at) < 0)
				break;
		}
	}
	if (rng_chance(&rng, 100))
		fsync(fd);
	if (rng_chance(&rng, 100))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

static void op_buffered(void)
{
	io(0);
}

static void op_direct(void)
{
	io(O_DIRECT);
}

static void op_map(void)
{
	int fd = open(file(), O_RDWR | O_CLOEXEC), i;
	size_t size = 64 << 10;
	uint64_t at = rng_below(&rng, FILE_SIZE / size) * size;
	volatile uint8_t *p;

	if (fd < 0)
		return;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 rng_chance(&rng, 700) ? MAP_SHARED : MAP_PRIVATE, fd, at);
	if (p != MAP_FAILED) {
		if (!sigsetjmp(out_of_map, 1)) {
			for (i = 0; i < 8; i++) {
				size_t k = rng_below(&rng, size);

				if (plan->sane) {
					uint8_t have = p[k];

					check_data("mapped page", &have, 1, at + k);
				} else if (rng_chance(&rng, 500)) {
					p[k] = 1;
				} else {
					(void)p[k];
				}
			}
			if (rng_chance(&rng, 300))
				msync((void *)p, size, rng_chance(&rng, 500) ? MS_SYNC : MS_ASYNC);
			if (rng_chance(&rng, 200))
				madvise((void *)p, size, MADV_WILLNEED);
		}
		munmap((void *)p, size);
	}
	close(fd);
}

static void op_aio(void)
{
	int fd = open(file(), O_RDWR | O_DIRECT | O_CLOEXEC);
	struct iocb cb = {}, *list = &cb;
	struct timespec limit = { 0, 50000000 };
	aio_context_t ctx = 0;
	struct io_event ev;

	if (fd < 0)
		return;
	cb.aio_fildes = fd;
	cb.aio_lio_opcode = IOCB_CMD_PREAD;
	cb.aio_buf = (uintptr_t)buf;
	cb.aio_nbytes = (1 + rng_below(&rng, BUF / 4096)) * 4096;
	cb.aio_offset = rng_below(&rng, (FILE_SIZE - BUF) / 4096) * 4096;
	if (!syscall(SYS_io_setup, 1, &ctx)) {
		if (syscall(SYS_io_submit, ctx, 1, &list) == 1 &&
		    syscall(SYS_io_getevents, ctx, 1, 1, &ev, &limit) == 1)
			check_data("aio read", buf, ev.res, cb.aio_offset);
		/* waits for what is under way */
		syscall(SYS_io_destroy, ctx);
	}
	close(fd);
}

static void op_stat(void)
{
	struct stat st;

	lstat(name(), &st);
	stat(name(), &st);
}

static void op_dir(void)
{
	DIR *d;
	int i;

	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/d%u", mount_point(), rng_below(&rng, 4));
	d = opendir(rng_chance(&rng, 500) ? mount_point() : path);
	if (!d)
		return;
	for (i = 0; i < 50 && readdir(d); i++)
		;
	if (rng_chance(&rng, 200))
		fsync(dirfd(d));
	closedir(d);
}

static void op_names(void)
{
	switch (rng_below(&rng, 10)) {
	case 0:
		mkdir(name(), 0755);
		break;
	case 1:
		rmdir(name());
		break;
	case 2:
		unlink(name());
		break;
	case 3:
		rename(name(), name());
		break;
	case 4:
		if (symlink("target", name()))
			break;
		break;
	case 5:
		if (readlink(name(), (char *)buf, 4096) < 0)
			break;
		break;
	case 6:
		if (link(name(), name()))
			break;
		break;
	case 7:
		mknod(name(), S_IFREG | 0644, 0);
		break;
	case 8:
		renameat2(AT_FDCWD, name(), AT_FDCWD, name(), rng_below(&rng, 8));
		break;
	default:
		access(name(), rng_below(&rng, 8));
	}
}

static void op_create(void)
{
	int fd;

	if (rng_chance(&rng, 200))
		fd = open(mount_point(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
	else
		fd = open(name(), O_CREAT | O_RDWR | O_CLOEXEC |
				  (rng_chance(&rng, 300) ? O_EXCL : 0), 0644);
	if (fd >= 0)
		close(fd);
}

static void op_xattr(void)
{
	static const uint32_t sizes[] = { 0, 1, 100, 5000, 65536 };
	uint32_t n = sizes[rng_below(&rng, 5)];

	switch (rng_below(&rng, 5)) {
	case 0:
		setxattr(name(), "user.a", buf, n, rng_below(&rng, 3));
		break;
	case 1:
		getxattr(name(), "user.a", buf, n);
		break;
	case 2:
		listxattr(name(), (char *)buf, n);
		break;
	case 3:
		removexattr(name(), "user.a");
		break;
	default:
		getxattr(name(), "system.posix_acl_access", buf, n);
	}
}

static void op_lock(void)
{
	struct flock fl = { .l_type = rng_chance(&rng, 500) ? F_RDLCK : F_WRLCK,
			    .l_start = rng_below(&rng, 100), .l_len = 1 + rng_below(&rng, 100) };
	int fd = open(file(), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	switch (rng_below(&rng, 4)) {
	case 0:
		fcntl(fd, F_GETLK, &fl);
		break;
	case 1:
		fcntl(fd, F_SETLK, &fl);
		break;
	case 2:
		fcntl(fd, F_SETLKW, &fl);
		break;
	default:
		flock(fd, LOCK_SH | LOCK_NB);
	}
	close(fd);
}

static void op_odd(void)
{
	loff_t from = rng_below(&rng, FILE_SIZE), to = rng_below(&rng, FILE_SIZE);
	static const uint32_t sizes[] = { 0, 4, 64, 4096, 16383 };
	int fd = open(file(), O_RDWR | O_CLOEXEC), other;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct statfs st;

	if (fd < 0)
		return;
	switch (rng_below(&rng, 6)) {
	case 0:
		ioctl(fd, _IOC(rng_below(&rng, 4), 'x', 1, sizes[rng_below(&rng, 5)]), buf);
		break;
	case 1:
		if (lseek(fd, from, rng_chance(&rng, 500) ? SEEK_DATA : SEEK_HOLE) < 0)
			break;
		break;
	case 2:
		poll(&p, 1, 0);
		break;
	case 3:
		fstatfs(fd, &st);
		break;
	case 4:
		other = open(file(), O_RDWR | O_CLOEXEC);
		if (other < 0)
			break;
		/* only to where the source is, or the pattern is lost */
		if (plan->sane)
			to = from;
		if (copy_file_range(fd, &from, other, &to, some_length(), 0) < 0)
			errno = 0;
		close(other);
		break;
	default:
		other = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (sendfile(other, fd, &from, some_length()) < 0)
			errno = 0;
		close(other);
	}
	close(fd);
}

/* What changes sizes or contents; not in sane rounds */
static void op_change(void)
{
	struct timespec times[2] = { { 1, 2 }, { 3, 4 } };
	int fd;

	switch (plan->sane ? 1 + rng_below(&rng, 2) : rng_below(&rng, 5)) {
	case 0:
		if (truncate(name(), some_offset()))
			break;
		break;
	case 1:
		utimensat(AT_FDCWD, name(), times, 0);
		break;
	case 2:
		chmod(name(), 0600 + rng_below(&rng, 64));
		break;
	case 3:
		if (chown(name(), 1, 1))
			break;
		break;
	default:
		fd = open(file(), O_RDWR | O_CLOEXEC | (rng_chance(&rng, 200) ? O_TRUNC : 0));
		if (fd < 0)
			break;
		fallocate(fd, rng_below(&rng, 4), some_offset(), some_length());
		close(fd);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
	unsigned int weight;
} ops[] = {
	{ "buffered I/O", op_buffered, 20 },
	{ "direct I/O", op_direct, 20 },
	{ "mapped file", op_map, 8 },
	{ "aio", op_aio, 6 },
	{ "stat", op_stat, 20 },
	{ "readdir", op_dir, 6 },
	{ "names", op_names, 10 },
	{ "create", op_create, 5 },
	{ "xattr", op_xattr, 6 },
	{ "lock", op_lock, 4 },
	{ "odd calls", op_odd, 6 },
	{ "changes", op_change, 6 },
};

static const int nops = sizeof(ops) / sizeof(ops[0]);

const char *caller_op_name(int op)
{
	return op >= 0 && op < nops ? ops[op].name : "none";
}

void caller_main(const struct plan *p, unsigned int index)
{
	struct sigaction interrupt = { .sa_handler = on_signal };
	struct sigaction fault = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	unsigned int total = 0, pick;
	int i;

	plan = p;
	rng = rng_fork(p->seed, 100 + index);
	sigaction(SIGUSR1, &interrupt, NULL);
	sigaction(SIGBUS, &fault, NULL);
	sigaction(SIGSEGV, &fault, NULL);
	if (posix_memalign((void **)&buf, 4096, BUF))
		_exit(1);
	for (i = 0; i < nops; i++)
		total += ops[i].weight;
	while (!atomic_load(&sh->mounted) && !atomic_load(&sh->stop))
		nap_ms(1);
	if (p->sane || rng_chance(&rng, 500))
		pin(online_cpu(index));
	while (!atomic_load(&sh->stop)) {
		pick = rng_below(&rng, total);
		for (i = 0; pick >= ops[i].weight; i++)
			pick -= ops[i].weight;
		atomic_store(&sh->caller[index].since, now_ms());
		atomic_store(&sh->caller[index].op, i);
		ops[i].run();
		atomic_store(&sh->caller[index].op, -1);
		atomic_fetch_add(&sh->calls, 1);
	}
	_exit(0);
}
