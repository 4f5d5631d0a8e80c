// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: judging, known content, processes. */
#include "fsprobe.h"

#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

void *volatile nowhere = (void *)8;	/* volatile: the compiler would object */

enum { LIMIT = 60 };	/* seconds for what should happen at once */

/* ------------------------------------------------------------ judging ----- */

void fail(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(line))
		strcpy(line + sizeof(line) - 4, "...");
	printf("FAIL: %s\n", line);
	fflush(stdout);
	_exit(1);
}

const char *errname(int err)
{
	const char *name = strerrorname_np(err);

	return !err ? "success" : name ? name : "unknown errno";
}

long long want_ok(const char *file, int line, const char *text, long long got)
{
	if (got < 0)
		fail("%s:%d: %s gave %s, expected success", file, line, text,
		     errname(errno));
	return got;
}

void want_err(const char *file, int line, const char *text, long long got, int err)
{
	if (got >= 0)
		fail("%s:%d: %s gave %lld, expected %s", file, line, text, got,
		     errname(err));
	if (errno != err)
		fail("%s:%d: %s gave %s, expected %s", file, line, text,
		     errname(errno), errname(err));
}

void want_eq(const char *file, int line, const char *text, long long got,
	     long long want)
{
	if (got != want)
		fail("%s:%d: %s is %lld (errno %s), expected %lld", file, line, text,
		     got, errname(errno), want);
}

void show_result(const char *text, long long got)
{
	printf("%s: %s\n", text, got < 0 ? errname(errno) : "ok");
}

/* -------------------------------------------------------- known content --- */

static uint64_t pattern_word(uint64_t index, unsigned int tag)
{
	uint64_t x = (index + 1) * 0x9e3779b97f4a7c15ull + tag * 0xd1b54a32d192ed03ull;

	x ^= x >> 29;
	/* no zero byte: a hole where data should be is always noticed */
	return x | 0x0101010101010101ull;
}

void fill(void *buf, size_t len, uint64_t off, unsigned int tag)
{
	unsigned char *p = buf;
	uint64_t word;

	for (; len && off % 8; len--, off++)
		*p++ = pattern_word(off / 8, tag) >> off % 8 * 8;
	for (; len >= 8; len -= 8, off += 8, p += 8) {
		word = pattern_word(off / 8, tag);
		memcpy(p, &word, 8);
	}
	for (; len; len--, off++)
		*p++ = pattern_word(off / 8, tag) >> off % 8 * 8;
}

static void hex(char *to, const unsigned char *from, size_t len)
{
	size_t i;

	*to = 0;
	for (i = 0; i < len && i < 16; i++)
		to += sprintf(to, " %02x", from[i]);
}

void same(const char *what, uint64_t off, const void *want, const void *got, size_t len)
{
	const unsigned char *w = want, *g = got;
	size_t first, i, differ = 0, last = 0;
	char a[64], b[64];

	if (!memcmp(want, got, len))
		return;
	for (first = 0; w[first] == g[first]; first++)
		;
	for (i = first; i < len; i++)
		if (w[i] != g[i])
			differ++, last = i;
	hex(a, w + first, len - first);
	hex(b, g + first, len - first);
	fail("%s: wrong data at offset %llu (0x%llx): %zu bytes differ, the last at 0x%llx\n"
	     "    expected%s\n    actual  %s", what, (unsigned long long)(off + first),
	     (unsigned long long)(off + first), differ,
	     (unsigned long long)(off + last), a, b);
}

void is_pattern(const char *what, uint64_t off, const void *got, size_t len,
		unsigned int tag)
{
	const unsigned char *p = got;
	unsigned char want[PAGE];
	size_t n;

	for (; len; p += n, off += n, len -= n) {
		n = len < sizeof(want) ? len : sizeof(want);
		fill(want, n, off, tag);
		same(what, off, want, p, n);
	}
}

void is_zero(const char *what, uint64_t off, const void *got, size_t len)
{
	static const unsigned char zero[PAGE];
	const unsigned char *p = got;
	size_t n;

	for (; len; p += n, off += n, len -= n) {
		n = len < sizeof(zero) ? len : sizeof(zero);
		same(what, off, zero, p, n);
	}
}

void full_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	ssize_t n = pwrite(fd, buf, len, off);

	if (n != (ssize_t)len)
		fail("pwrite of %zu at %llu gave %zd (%s)", len,
		     (unsigned long long)off, n, n < 0 ? errname(errno) : "short");
}

void full_pread(int fd, void *buf, size_t len, uint64_t off)
{
	ssize_t n = pread(fd, buf, len, off);

	if (n != (ssize_t)len)
		fail("pread of %zu at %llu gave %zd (%s)", len,
		     (unsigned long long)off, n, n < 0 ? errname(errno) : "short");
}

void make_file(const char *name, size_t len, unsigned int tag)
{
	int fd = OK(open(name, O_CREAT | O_TRUNC | O_RDWR, 0644));
	char *buf = malloc(len + 1);

	fill(buf, len, 0, tag);
	if (len)
		full_pwrite(fd, buf, len, 0);
	free(buf);
	OK(close(fd));
}

static void judge_file(const char *name, size_t len, unsigned int tag)
{
	int fd = OK(open(name, O_RDONLY));
	char *buf = malloc(len + 1);
	struct stat st;
	ssize_t n;

	OK(fstat(fd, &st));
	if ((size_t)st.st_size != len)
		fail("%s has size %lld, expected %zu", name, (long long)st.st_size, len);
	n = pread(fd, buf, len + 1, 0);
	if (n != (ssize_t)len)
		fail("reading all of %s gave %zd (%s), expected %zu", name, n,
		     errname(n < 0 ? errno : 0), len);
	is_pattern(name, 0, buf, len, tag);
	free(buf);
	OK(close(fd));
}

void is_file(const char *name, size_t len, unsigned int tag)
{
	judge_file(name, len, tag);
}

char *backing_path(const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", backing, name) < 0)
		fail("no memory");
	return path;
}

void is_backing(const char *name, size_t len, unsigned int tag)
{
	char *path = backing_path(name);

	judge_file(path, len, tag);
	free(path);
}

long long size_of(const char *name)
{
	struct stat st;

	OK(lstat(name, &st));
	return st.st_size;
}

void make_text(const char *name, const char *text)
{
	int fd = OK(open(name, O_CREAT | O_TRUNC | O_WRONLY, 0644));

	EQ(write(fd, text, strlen(text)), strlen(text));
	OK(close(fd));
}

bool exists(const char *name)
{
	struct stat st;

	if (!lstat(name, &st))
		return true;
	if (errno != ENOENT)
		fail("lstat %s gave %s", name, errname(errno));
	return false;
}

void *pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		fail("no memory");
	return p;
}

/* ------------------------------------------------------------- chance ----- */

void rng_init(struct rng *r, uint64_t salt)
{
	r->state = (seed + 1) * 0x9e3779b97f4a7c15ull + salt * 0xbf58476d1ce4e5b9ull;
	if (!r->state)
		r->state = 1;
	/* neighbouring seeds start alike */
	rng_next(r);
	rng_next(r);
}

uint64_t rng_next(struct rng *r)
{
	uint64_t x = r->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	r->state = x;
	return x * 0x2545f4914f6cdd1dull;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return (rng_next(r) >> 8) % n;
}

/* ----------------------------------------------------------- processes ---- */

/* A child must not outlive a parent that failed. */
static void child_setup(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static pid_t fork_child(void)
{
	pid_t parent = getpid();
	pid_t pid;

	fflush(stdout);
	pid = OK(fork());
	if (!pid)
		child_setup(parent);
	return pid;
}

static void child_end(void)
{
	fflush(stdout);
	_exit(0);
}

pid_t spawn(void (*fn)(void *arg), void *arg)
{
	pid_t pid = fork_child();

	if (!pid) {
		fn(arg);
		child_end();
	}
	return pid;
}

void reap(pid_t pid)
{
	int status;

	EQ(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		fail("a child was killed by signal %s", sigabbrev_np(WTERMSIG(status)));
	if (status)
		/* it has said why */
		_exit(1);
}

void crowd(int n, void (*fn)(int i, void *arg), void *arg)
{
	pid_t pids[64];
	int gate[2];
	char c;
	int i;

	TRUE(n <= 64);
	OK(pipe(gate));
	for (i = 0; i < n; i++) {
		pids[i] = fork_child();
		if (!pids[i]) {
			close(gate[1]);
			/* end of file: all have been made */
			EQ(read(gate[0], &c, 1), 0);
			fn(i, arg);
			child_end();
		}
	}
	close(gate[0]);
	close(gate[1]);
	for (i = 0; i < n; i++)
		reap(pids[i]);
}

void as_user(uid_t uid, gid_t gid, void (*fn)(void *arg), void *arg)
{
	pid_t pid = fork_child();

	if (!pid) {
		OK(setgroups(0, NULL));
		OK(setresgid(gid, gid, gid));
		OK(setresuid(uid, uid, uid));
		fn(arg);
		child_end();
	}
	reap(pid);
}

void peer_start(struct peer *p, void (*fn)(int fd, void *arg), void *arg)
{
	int sv[2];

	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	p->pid = fork_child();
	if (!p->pid) {
		close(sv[0]);
		fn(sv[1], arg);
		child_end();
	}
	close(sv[1]);
	p->fd = sv[0];
}

void peer_end(struct peer *p)
{
	close(p->fd);
	reap(p->pid);
}

void tell(int fd, char c)
{
	EQ(send(fd, &c, 1, MSG_NOSIGNAL), 1);
}

void hear(int fd, char c)
{
	char got = 0;
	ssize_t n;

	do
		n = read(fd, &got, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		/* the other side has failed and said why */
		_exit(1);
	if (got != c)
		fail("expected step '%c', got '%c'", c, got);
}

void wait_blocked(pid_t pid, long nr)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	char path[64], text[256];
	long i, in = -1;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	for (i = 0; i < LIMIT * 1000; i++) {
		fd = OK(open(path, O_RDONLY | O_CLOEXEC));
		n = OK(read(fd, text, sizeof(text) - 1));
		close(fd);
		text[n] = 0;
		/* "running" as long as it is not asleep */
		if (sscanf(text, "%ld", &in) == 1 && in == nr)
			return;
		nanosleep(&ms, NULL);
	}
	fail("process does not come to wait in system call %ld: %s", nr, text);
}

void *shared(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		fail("no memory");
	return p;
}

void next_tick(void)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	struct timespec from, now;

	/* file times come from the coarse clock, which moves once per timer tick */
	clock_gettime(CLOCK_REALTIME_COARSE, &from);
	do {
		nanosleep(&ms, NULL);
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_sec == from.tv_sec && now.tv_nsec == from.tv_nsec);
}

long number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (!*text || *end || n < 0) {
		fprintf(stderr, "fsprobe: not a number: %s\n", text);
		exit(2);
	}
	return n;
}
