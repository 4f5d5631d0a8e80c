// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: locks that are waited for. */
#include "fsprobe.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET,
			       .l_start = start, .l_len = len };
}

static int lock(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock fl = range(type, start, len);

	return fcntl(fd, cmd, &fl);
}

enum way { RECORD, OFD, WHOLE };

static const char *const way_names[] = { "fcntl", "OFD", "flock" };

static int take(int fd, enum way way, bool exclusive, bool wait)
{
	short type = exclusive ? F_WRLCK : F_RDLCK;

	if (way == WHOLE)
		return flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
	if (way == OFD)
		return lock(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, type, 0, 10);
	return lock(fd, wait ? F_SETLKW : F_SETLK, type, 0, 10);
}

static void give(int fd, enum way way)
{
	OK(way == WHOLE ? flock(fd, LOCK_UN) :
	   lock(fd, way == OFD ? F_OFD_SETLK : F_SETLK, F_UNLCK, 0, 10));
}

static long call_of(enum way way)
{
	return way == WHOLE ? SYS_flock : SYS_fcntl;
}

struct wait_job {
	enum way way;
	int inherited;		/* would keep the lock of an open file alive */
};

static void waiter(int fd, void *arg)
{
	struct wait_job *job = arg;
	enum way way = job->way;
	int f = OK(open("f", O_RDWR));
	char buf[100];

	OK(close(job->inherited));
	hear(fd, 'w');
	OK(take(f, way, true, true));
	/* what the holder wrote before it let go */
	full_pread(f, buf, sizeof(buf), 0);
	is_pattern("written under the lock", 0, buf, sizeof(buf), 2);
	tell(fd, 'g');
	hear(fd, 'u');
	OK(close(f));
}

/* Three ways to let go: unlock, close, exit. */
static void holder_child(int fd, void *arg)
{
	enum way way = *(enum way *)arg;
	int f = OK(open("f", O_RDWR));

	OK(take(f, way, true, true));
	tell(fd, 'h');
	hear(fd, 'x');
	/* ends with the lock held */
}

static void wake_up(int argc, char **argv)
{
	struct peer p, q;
	char *buf = pages(PAGE);
	struct wait_job job;
	enum way way;
	int fd, how;

	(void)argc, (void)argv;
	for (way = RECORD; way <= WHOLE; way++) {
		for (how = 0; how < 3; how++) {
			make_file("f", 100, 1);
			fd = OK(open("f", O_RDWR));
			if (how < 2)
				OK(take(fd, way, true, false));
			if (how == 2) {
				peer_start(&q, holder_child, &way);
				hear(q.fd, 'h');
			}
			job = (struct wait_job){ way, fd };
			peer_start(&p, waiter, &job);
			tell(p.fd, 'w');
			wait_blocked(p.pid, call_of(way));
			fill(buf, 100, 0, 2);
			full_pwrite(fd, buf, 100, 0);
			if (how == 0) {
				give(fd, way);
			} else if (how == 1) {
				OK(close(fd));
			} else {
				tell(q.fd, 'x');
				peer_end(&q);
			}
			hear(p.fd, 'g');
			if (how != 1)
				ERR(EAGAIN, take(fd, way, true, false));
			tell(p.fd, 'u');
			peer_end(&p);
			if (how != 1) {
				SOON(take(fd, way, true, false));
				OK(close(fd));
			}
		}
		printf("%s: woken by unlock, by close, by exit\n", way_names[way]);
	}
}

/* Several wait; readers come in together, writers one by one. */
static void reader(int i, void *arg)
{
	unsigned int *inside = arg;
	int fd = OK(open("f", O_RDWR));

	(void)i;
	OK(lock(fd, F_SETLKW, F_RDLCK, 0, 10));
	__atomic_fetch_add(inside, 1, __ATOMIC_SEQ_CST);
	/* each stays until all are inside: they must not exclude each other */
	while (__atomic_load_n(inside, __ATOMIC_SEQ_CST) < 4)
		usleep(500);
	OK(close(fd));
}

static void all_readers(void *arg)
{
	crowd(4, reader, arg);
}

static void together(int argc, char **argv)
{
	unsigned int *inside = shared(sizeof(*inside));
	pid_t pid;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	fd = OK(open("f", O_RDWR));
	OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
	pid = spawn(all_readers, inside);
	wait_blocked(pid, SYS_wait4);
	EQ(__atomic_load_n(inside, __ATOMIC_SEQ_CST), 0);
	OK(lock(fd, F_SETLK, F_UNLCK, 0, 10));
	reap(pid);
	printf("%u readers held it together\n", *inside);
	OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
	OK(close(fd));
}

/* ------------------------------------------------------ mutual exclusion -- */

struct counter {
	enum way way;
	int rounds;
};

static void count_up(int i, void *arg)
{
	struct counter *c = arg;
	int fd = OK(open("f", O_RDWR)), k;
	uint64_t n;

	(void)i;
	for (k = 0; k < c->rounds; k++) {
		OK(take(fd, c->way, true, true));
		full_pread(fd, &n, sizeof(n), 0);
		n++;
		full_pwrite(fd, &n, sizeof(n), 0);
		give(fd, c->way);
	}
	OK(close(fd));
}

static void counter(int argc, char **argv)
{
	struct counter c;
	uint64_t n;
	int procs, fd;

	if (argc != 3)
		fail("usage: lock-counter PROCESSES ROUNDS");
	procs = number(argv[1]);
	c.rounds = number(argv[2]);
	for (c.way = RECORD; c.way <= WHOLE; c.way++) {
		n = 0;
		fd = OK(open("f", O_CREAT | O_RDWR | O_TRUNC, 0644));
		full_pwrite(fd, &n, sizeof(n), 0);
		crowd(procs, count_up, &c);
		full_pread(fd, &n, sizeof(n), 0);
		OK(close(fd));
		EQ(n, procs * c.rounds);
		printf("%s: %d processes counted to %llu\n", way_names[c.way], procs,
		       (unsigned long long)n);
	}
}

/* ------------------------------------------------------------- signals ---- */

/*
 * How many waits for a lock the server has been asked for, by its own count. A
 * process may sleep in the call before its request is on its way, and a kernel may
 * forget a signal that comes just then (not what is looked at here): so signals are
 * sent once the server knows.
 */
static long asked(void)
{
	const char *run = getenv("RUN"), *section = getenv("SECTION");
	char file[PATH_MAX], name[32], text[32];
	int fds[2];
	ssize_t n;
	pid_t pid;

	if (!run || !section)
		return 0;	/* an ordinary file system */
	snprintf(file, sizeof(file), "%s/0.stats", run);
	snprintf(name, sizeof(name), "op_SETLKW_%s", section);
	OK(pipe2(fds, O_CLOEXEC));
	fflush(stdout);
	pid = OK(fork());
	if (!pid) {
		OK(dup2(fds[1], 1));
		execlp("mirrorfs", "mirrorfs", "--print-stats", file, name, NULL);
		_exit(127);
	}
	close(fds[1]);
	n = OK(read(fds[0], text, sizeof(text) - 1));
	close(fds[0]);
	reap(pid);
	text[n] = 0;
	return strtol(text, NULL, 10);
}

static long asked_before;

/* The process waits for a lock, and the server has its request. */
static void wait_asked(pid_t pid, enum way way)
{
	int tries;

	wait_blocked(pid, call_of(way));
	for (tries = 0; getenv("RUN") && asked() <= asked_before; tries++) {
		if (tries > 10000)
			fail("the server is never asked for the lock");
		usleep(1000);
	}
	asked_before = asked();
}

static void on_signal(int sig)
{
	(void)sig;
}

static void interrupted(int fd, void *arg)
{
	struct sigaction sa = { .sa_handler = on_signal };
	enum way way = *(enum way *)arg;
	int f = OK(open("f", O_RDWR)), i;

	sigaction(SIGUSR1, &sa, NULL);
	tell(fd, 'r');
	for (i = 0; i < 3; i++) {
		ERR(EINTR, take(f, way, true, true));
		tell(fd, 'i');
	}
	/* nothing was taken, and waiting still works afterwards */
	hear(fd, 'w');
	OK(take(f, way, true, true));
	tell(fd, 'g');
	OK(close(f));
}

static void restarted(int fd, void *arg)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	enum way way = *(enum way *)arg;
	int f = OK(open("f", O_RDWR));

	sigaction(SIGUSR1, &sa, NULL);
	tell(fd, 'r');
	OK(take(f, way, true, true));
	tell(fd, 'g');
	OK(close(f));
}

static void killed(int fd, void *arg)
{
	enum way way = *(enum way *)arg;
	int f = OK(open("f", O_RDWR));

	tell(fd, 'r');
	take(f, way, true, true);
}

static void eintr(int argc, char **argv)
{
	struct peer p;
	enum way way;
	int fd, i, status;

	(void)argc, (void)argv;
	asked_before = asked();
	for (way = RECORD; way <= WHOLE; way++) {
		make_file("f", 100, 1);
		fd = OK(open("f", O_RDWR));
		OK(take(fd, way, true, false));
		peer_start(&p, interrupted, &way);
		hear(p.fd, 'r');
		for (i = 0; i < 3; i++) {
			wait_asked(p.pid, way);
			OK(kill(p.pid, SIGUSR1));
			hear(p.fd, 'i');
		}
		tell(p.fd, 'w');
		wait_asked(p.pid, way);
		give(fd, way);
		hear(p.fd, 'g');
		peer_end(&p);

		OK(take(fd, way, true, true));
		peer_start(&p, restarted, &way);
		hear(p.fd, 'r');
		for (i = 0; i < 3; i++) {
			wait_asked(p.pid, way);
			OK(kill(p.pid, SIGUSR1));
		}
		wait_asked(p.pid, way);
		give(fd, way);
		hear(p.fd, 'g');
		peer_end(&p);

		/* a killed waiter must not get it later */
		OK(take(fd, way, true, true));
		peer_start(&p, killed, &way);
		hear(p.fd, 'r');
		wait_asked(p.pid, way);
		OK(kill(p.pid, SIGKILL));
		EQ(waitpid(p.pid, &status, 0), p.pid);
		EQ(WTERMSIG(status), SIGKILL);
		close(p.fd);
		give(fd, way);
		OK(close(fd));
		fd = OK(open("f", O_RDWR));
		OK(take(fd, way, true, true));
		OK(close(fd));
		printf("%s: interrupted, restarted, killed\n", way_names[way]);
	}
}

/* -------------------------------------------------------------- deadlock -- */

static void crossed(int fd, void *arg)
{
	struct sigaction sa = { .sa_handler = on_signal };
	int f = OK(open("f", O_RDWR)), r;

	(void)arg;
	sigaction(SIGUSR1, &sa, NULL);
	OK(lock(f, F_SETLK, F_WRLCK, 10, 10));
	tell(fd, 'h');
	r = lock(f, F_SETLKW, F_WRLCK, 0, 10);
	/* the other side gave up or let go */
	TRUE(!r || errno == EINTR);
	OK(close(f));
}

static void free_parent(void *arg)
{
	pid_t parent = getppid();

	wait_asked(parent, RECORD);
	(void)arg;
	OK(kill(parent, SIGUSR1));
}

/*
 * Two processes want what the other has. Either it is noticed, or a signal
 * gets one of them out; nobody may be stuck.
 */
static void deadlock(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct peer p;
	pid_t helper;
	int fd, r, err;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	fd = OK(open("f", O_RDWR));
	OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
	asked_before = asked();
	peer_start(&p, crossed, NULL);
	hear(p.fd, 'h');
	wait_asked(p.pid, RECORD);
	sigaction(SIGUSR1, &sa, NULL);
	helper = spawn(free_parent, NULL);
	r = lock(fd, F_SETLKW, F_WRLCK, 10, 10);
	err = errno;
	TRUE(r < 0 && (err == EDEADLK || err == EINTR));
	printf("noticed or interrupted\n");
	/* noticed: the helper has nothing to wait for */
	if (err == EDEADLK) {
		OK(kill(helper, SIGKILL));
		EQ(waitpid(helper, NULL, 0), helper);
	} else {
		reap(helper);
	}
	OK(lock(fd, F_SETLK, F_UNLCK, 0, 10));
	peer_end(&p);
	OK(lock(fd, F_SETLK, F_WRLCK, 0, 100));
	OK(close(fd));
	printf("both are free\n");
}

const struct command lockwait_commands[] = {
	{ "lock-wake", wake_up, "waiters are woken by unlock, close and exit" },
	{ "lock-together", together, "waiting readers come in together" },
	{ "lock-counter", counter, "PROCESSES ROUNDS: mutual exclusion" },
	{ "lock-eintr", eintr, "signals end or restart a wait" },
	{ "lock-deadlock", deadlock, "two processes want what the other has" },
	{ NULL, NULL, NULL },
};
